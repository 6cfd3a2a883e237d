"""Face recognisers that share neither architecture, nor loss, nor training set: identity is judged by both.

Measured on ORL (400 images, 92x112) and on five images each of 59 people of LFW (tight grey crops, 112x112):

             ORL rank-1   AUC     LFW-59 rank-1   AUC    one CPU core
    dlib        1.000    1.0000       .986       .993    80 ms an image
    FaceNet     1.000     .9999       .980       .988    60 ms an image
"""

import os
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import PositiveInt
from torch import Tensor, nn

from gmi.assets.catalogue import resolve
from gmi.assets.weights import read_weights
from gmi.errors import GmiError
from gmi.settings import settings

if TYPE_CHECKING:
    from facenet_pytorch import MTCNN

    from gmi.judges._dlib import Recogniser

_SHORTEST = 80  # pixels: the smallest face that dlib's detector can see
_BATCH = 32
_WORTH = 16  # images a process must get before starting it (a quarter of a second) pays
_CASIA = "asset:facenet-casia"


@settings
class Dlib:
    """dlib's ResNet of 29 layers, metric loss, 128-d; King, "High Quality Face Recognition", dlib.net, 2017.

    weights: a folder with `dlib_face_recognition_resnet_model_v1.dat` and `shape_predictor_5_face_landmarks.dat`.
    workers: processes that share a large batch, where dlib runs on the CPU; None = the cores there are for each of the
    processes that torchrun or accelerate started.
    """

    type: Literal["dlib"] = "dlib"
    weights: str = "asset:dlib"
    workers: PositiveInt | None = None

    def load(self, device: torch.device) -> "DlibJudge":
        """The judge; dlib chooses its own device. Raises GmiError where dlib or its files are missing."""
        try:
            from gmi.judges._dlib import ON_GPU, Recogniser
        except ImportError as error:
            raise GmiError(f"The dlib judge needs dlib: pip install dlib-bin ({error}).") from error
        folder = resolve(self.weights)
        try:
            recogniser = Recogniser(folder)
        except RuntimeError as error:
            raise GmiError(f"{folder} has not the two files of the dlib judge: {error}") from error
        workers = 1 if ON_GPU else self.workers or _cores() // _processes() or 1
        return DlibJudge(recogniser, folder, workers)


class DlibJudge:
    """A `FaceJudge`. Of `attempts` images so far, `misses` had no face to detect and were embedded from a fixed box.

    Alignment: the largest face of dlib's HOG detector (image enlarged twice if below 256 pixels), else the box x .1-.9,
    y .2-.95 of the image, as good as the detector on tight crops; 5 landmarks; a chip of 150 pixels, padding .25.
    """

    name = "dlib"
    trained_on = frozenset({"FaceScrub", "VGG-Face", "web"})  # about 3 million faces, 7485 people, says its author

    def __init__(self, recogniser: "Recogniser", folder: Path, workers: int) -> None:
        self._recogniser, self._folder, self._workers = recogniser, folder, workers
        self.attempts = self.misses = 0

    def weights(self) -> Iterable[Tensor]:
        """None: dlib keeps them to itself."""
        return ()

    def embed(self, images: Tensor) -> Tensor:
        """Templates (N, 128) of images (N, 1 or 3, H, W) in [0, 1]. Raises GmiError where pixels are not finite."""
        pixels = (_prepared(images) * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
        workers = min(self._workers, len(pixels) // _WORTH)
        if workers > 1:
            with ThreadPoolExecutor(workers) as pool:
                rows = list(pool.map(self._elsewhere, np.array_split(pixels, workers)))
        else:
            rows = [self._recogniser(pixels[i : i + _BATCH]) for i in range(0, len(pixels), _BATCH)]
        templates, found = torch.from_numpy(np.concatenate([np.empty((0, 129), np.float32), *rows])).split([128, 1], 1)
        self.attempts += len(found)
        self.misses += len(found) - int(found.sum())
        return templates.contiguous()

    def similarity(self, left: Tensor, right: Tensor) -> Tensor:
        """Minus the Euclidean distance, (N, M) from (N, 128) and (M, 128); dlib calls people the same above -0.6."""
        # The faster way, by inner products, loses half the digits of small distances.
        return -torch.cdist(left, right, compute_mode="donot_use_mm_for_euclid_dist")

    def _elsewhere(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the recogniser gives, from another process."""
        from gmi.judges import _dlib

        command = [sys.executable, "-P", _dlib.__file__, str(self._folder), *map(str, pixels.shape[1:3])]
        done = subprocess.run(command, input=pixels.data.cast("B"), capture_output=True, check=False)
        if done.returncode:
            last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise GmiError(f"A process of the dlib judge failed ({last or done.returncode}); workers: 1 does without.")
        return np.frombuffer(done.stdout, np.float32).reshape(len(pixels), 129)


@settings
class FaceNet:
    """FaceNet: an Inception-ResNet v1, 512-d. Schroff et al., CVPR 2015; as trained by Sandberg with a softmax loss.

    weights: a state dict of facenet-pytorch's `InceptionResnetV1`: .safetensors, .pt, or a folder with
    `model.safetensors`; a classifier on top of it is left out.
    trained_on: names of data sets, which only the default weights do without: CASIA-WebFace made them.
    """

    type: Literal["facenet"] = "facenet"
    weights: str = _CASIA
    trained_on: frozenset[str] = frozenset()
    name: str = "facenet"

    def load(self, device: torch.device) -> "FaceNetJudge":
        """The judge. Raises GmiError where the weights are not those of the network, or nobody says what made them."""
        from facenet_pytorch import MTCNN, InceptionResnetV1

        trained_on = self.trained_on | ({"CASIA-WebFace"} if self.weights == _CASIA else frozenset())
        if not trained_on:
            raise GmiError(f"Say what made {self.weights}: set the FaceNet judge's trained_on to names of data sets.")
        path = resolve(self.weights)
        path = path / "model.safetensors" if path.is_dir() else path
        with torch.device("meta"):  # no time and no global random numbers spent on weights that are replaced at once
            network = InceptionResnetV1()
        state = {key: value for key, value in read_weights(path).items() if not key.startswith("logits.")}
        try:
            network.load_state_dict(state, assign=True)
        except RuntimeError as error:
            raise GmiError(f"{path} does not hold an InceptionResnetV1 of facenet-pytorch: {error}") from error
        with torch.random.fork_rng(devices=[]):
            detector = MTCNN()
        return FaceNetJudge(self.name, trained_on, network.eval().requires_grad_(False), detector, device)


class FaceNetJudge:
    """A `FaceJudge`. Of `attempts` images so far, `misses` had no face to detect and were embedded as they are.

    Alignment: the largest face of MTCNN (Zhang et al., IEEE SPL 2016), a sixth more on each side (40 of 160 pixels),
    resized to 160x160. On tight crops this is as good as the whole image; on loose ones (LFW with up to 40 pixels more
    on each side) it lifts rank-1 from .932 to .966 and TAR at FAR 1e-3 from .49 to .73. Smaller margins are worse.
    """

    def __init__(
        self, name: str, trained_on: frozenset[str], network: nn.Module, detector: "MTCNN", device: torch.device
    ) -> None:
        self.name, self.trained_on = name, trained_on
        self.network, self._detector, self._device = network.to(device), detector, device
        self.attempts = self.misses = 0

    def weights(self) -> Iterable[Tensor]:
        return self.network.parameters()

    def embed(self, images: Tensor) -> Tensor:
        """Templates (N, 512) of length 1, of images (N, 1 or 3, H, W) in [0, 1]. GmiError where they are not finite."""
        templates = [torch.empty(0, 512)]
        with torch.no_grad():
            for i in range(0, len(images), _BATCH):
                faces = torch.stack([self._crop(image * 255) for image in _prepared(images[i : i + _BATCH])])
                templates.append(self.network(((faces - 127.5) / 128).to(self._device)).cpu())
        return torch.cat(templates)

    def similarity(self, left: Tensor, right: Tensor) -> Tensor:
        """The cosine, (N, M) from (N, 512) and (M, 512)."""
        return F.normalize(left) @ F.normalize(right).T

    def _crop(self, image: Tensor) -> Tensor:
        """(3, 160, 160) of an image (3, H, W) in [0, 255].

        One image at a time on the CPU: the crop does not depend on the device or on other images.
        """
        boxes = self._detector.detect(image.permute(1, 2, 0))[0]
        self.attempts += 1
        if boxes is None:
            self.misses += 1
        else:
            left, top, right, bottom = map(float, boxes[0])
            x, y = (right - left) / 6, (bottom - top) / 6
            image = image[:, max(int(top - y), 0) : int(bottom + y), max(int(left - x), 0) : int(right + x)]
        return F.interpolate(image[None], (160, 160), mode="bilinear", antialias=True)[0]


def _prepared(images: Tensor) -> Tensor:
    """Images (N, 3, H, W) on the CPU, enlarged by a whole number so that the shorter side has 80 pixels or more."""
    images = images.detach().cpu().float().expand(-1, 3, -1, -1)
    if not images.isfinite().all():
        raise GmiError("Some images have pixels that are not finite: the search that made them has diverged.")
    factor = -(-_SHORTEST // min(images.shape[2:]))
    if factor > 1:
        images = F.interpolate(images, scale_factor=factor, mode="bicubic")
    return images.clamp(0, 1)


def _cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _processes() -> int:
    """Processes of this run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("WORLD_SIZE") or 1)
