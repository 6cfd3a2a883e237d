"""Face recognisers that share neither architecture, nor loss, nor training set: identity is judged by both.

Measured on ORL (400 images, 92x112) and on five images each of 59 people of LFW (tight grey crops, 112x112), beside the
third recogniser, of gmi/judges/aligned.py, whose training set is not stated:

                  ORL rank-1   AUC     LFW-59 rank-1   AUC    one CPU core
    dlib             1.000    1.0000       .986       .993    80 ms an image
    FaceNet          1.000     .9999       .980       .988    60 ms an image
    MobileFaceNet    1.000    1.0000       .990       .993    40 ms an image
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
from gmi.assets.weights import misfit, read_weights
from gmi.errors import GmiError, because
from gmi.judges.alignment import enlarged, prepared
from gmi.settings import settings
from gmi.views import Input, single

if TYPE_CHECKING:
    from facenet_pytorch import MTCNN

    from gmi.judges._dlib import Recogniser

_BATCH = 32
_WORTH = 16  # with fewer images per process it does not pay to start one, which takes a quarter of a second
_CASIA = "asset:facenet-casia"

FACENET_INPUT = Input(size=(160, 160), mean=(0.5,), std=(0.501961,))  # (x - 127.5) / 128 of [0, 255]


@settings
class Dlib:
    """dlib's ResNet of 29 layers, metric loss, 128-d; King, "High Quality Face Recognition", dlib.net, 2017."""

    type: Literal["dlib"] = "dlib"
    # a folder with dlib_face_recognition_resnet_model_v1.dat and shape_predictor_5_face_landmarks.dat
    weights: str = "asset:dlib"
    # processes that share a large batch when dlib runs on the CPU; None: the machine's cores, divided by the number of
    # processes that torchrun or accelerate started
    workers: PositiveInt | None = None

    def load(self, device: torch.device) -> "DlibJudge":
        """The judge; dlib chooses its own device. Raises GmiError if dlib or its files are missing."""
        try:
            from gmi.judges._dlib import ON_GPU, Recogniser
        except ImportError as error:
            raise GmiError(f"The dlib judge needs dlib: pip install dlib-bin ({because(error)}).") from error
        folder = resolve(self.weights)
        try:
            recogniser = Recogniser(folder)
        except RuntimeError as error:
            raise GmiError(f"{folder} has not the two files of the dlib judge: {because(error)}.") from error
        workers = 1 if ON_GPU else self.workers or _cores() // _processes() or 1
        return DlibJudge(recogniser, folder, workers)


class DlibJudge:
    """A `FaceJudge`. In `misses` of the `attempts` images so far it detected no face and embedded a fixed box.

    Alignment: the largest face of dlib's HOG detector (image enlarged twice if below 256 pixels), else the box x .1-.9,
    y .2-.95 of the image, as good as the detector on tight crops; 5 landmarks; a chip of 150 pixels, padding .25.
    """

    name = "dlib"
    trained_on = frozenset({"FaceScrub", "VGG-Face", "web"})  # its author: about 3 million faces of 7485 people

    def __init__(self, recogniser: "Recogniser", folder: Path, workers: int) -> None:
        self._recogniser, self._folder, self._workers = recogniser, folder, workers
        self.attempts = self.misses = 0

    def weights(self) -> Iterable[Tensor]:
        """An empty iterable: dlib does not show its weights."""
        return ()

    def embed(self, images: Tensor) -> Tensor:
        """Templates (N, 128) of images (N, 1 or 3, H, W) in [0, 1]. Raises GmiError if pixels are not finite."""
        pixels = (prepared(images) * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
        workers = min(self._workers, len(pixels) // _WORTH)
        if workers > 1:
            with ThreadPoolExecutor(workers) as pool:
                rows = list(pool.map(self._elsewhere, np.array_split(pixels, workers)))
        else:
            rows = [self._recogniser(pixels[i : i + _BATCH]) for i in range(0, len(pixels), _BATCH)]
        table = torch.from_numpy(np.concatenate([np.empty((0, 129), np.float32), *rows]))
        templates, detected = table.split([128, 1], 1)
        self.attempts += len(detected)
        self.misses += len(detected) - int(detected.sum())
        return templates.contiguous()

    def similarity(self, left: Tensor, right: Tensor) -> Tensor:
        """Minus the Euclidean distances (N, M) of templates (N, 128) and (M, 128); above -0.6 dlib sees one person."""
        # The faster way, by inner products, loses half the digits of small distances.
        return -torch.cdist(left, right, compute_mode="donot_use_mm_for_euclid_dist")

    def _elsewhere(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The recogniser's rows (N, 129) for images (N, H, W, 3), computed in another process."""
        from gmi.judges import _dlib

        command = [sys.executable, "-P", _dlib.__file__, str(self._folder), *map(str, pixels.shape[1:3])]
        done = subprocess.run(command, input=pixels.data.cast("B"), capture_output=True, check=False)
        if done.returncode:
            last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise GmiError(f"A process of the dlib judge failed ({last or done.returncode}); workers: 1 does without.")
        return np.frombuffer(done.stdout, np.float32).reshape(len(pixels), 129)


@settings
class FaceNet:
    """FaceNet: an Inception-ResNet v1, 512-d. Schroff et al., CVPR 2015; as trained by Sandberg with a softmax loss."""

    type: Literal["facenet"] = "facenet"
    # a state dict of facenet-pytorch's InceptionResnetV1 (.safetensors, .pt, or a folder with model.safetensors); a
    # classifier on top of it is left out
    weights: str = _CASIA
    # names of the data sets the weights were trained on; may be empty for the default weights (CASIA-WebFace) only
    trained_on: frozenset[str] = frozenset()
    name: str = "facenet"  # the judge's name in reports

    def load(self, device: torch.device) -> "FaceNetJudge":
        """The judge. Raises GmiError if the weights do not fit the network, or if `trained_on` is needed and empty."""
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
            raise GmiError(
                f"{path} does not hold an InceptionResnetV1 of facenet-pytorch: {misfit(network, state)}."
            ) from error
        with torch.random.fork_rng(devices=[]):
            detector = MTCNN()
        return FaceNetJudge(self.name, trained_on, network.eval().requires_grad_(False), detector, device)


class FaceNetJudge:
    """A `FaceJudge`. In `misses` of the `attempts` images so far it detected no face and embedded the whole image.

    Alignment: the largest face of MTCNN (Zhang et al., IEEE SPL 2016), a sixth more on each side (40 of 160 pixels),
    resized to 160x160. On tight crops this is as good as the whole image; on loose ones (LFW with up to 40 pixels more
    on each side) it lifts rank-1 from .932 to .966 and TAR at FAR 1e-3 from .49 to .73. Smaller margins are worse.
    """

    def __init__(
        self, name: str, trained_on: frozenset[str], network: nn.Module, detector: "MTCNN", device: torch.device
    ) -> None:
        self.name, self.trained_on = name, trained_on
        self.network, self._detector = network.to(device), detector
        self.attempts = self.misses = 0

    def weights(self) -> Iterable[Tensor]:
        """The network's parameters, to compare with the target's."""
        return self.network.parameters()

    def embed(self, images: Tensor) -> Tensor:
        """Templates (N, 512) of length 1 for images (N, 1 or 3, H, W) in [0, 1]. GmiError if pixels are not finite."""
        templates = [torch.empty(0, 512)]
        with torch.no_grad(), single(next(self.network.parameters()).device):
            for i in range(0, len(images), _BATCH):
                inputs = self.inputs(prepared(images[i : i + _BATCH]))
                templates.append(self.network(inputs.to(next(self.network.parameters()).device)).cpu())
        return torch.cat(templates)

    def inputs(self, images: Tensor) -> Tensor:
        """What the network takes of images (N, 1 or 3, H, W) in [0, 1]: the faces in them (N, 3, 160, 160).

        Differentiable, as if the places of faces were given.
        """
        return (torch.stack([self._crop(image * 255) for image in enlarged(images)]) - 127.5) / 128

    def similarity(self, left: Tensor, right: Tensor) -> Tensor:
        """Cosines (N, M) of templates (N, 512) and (M, 512)."""
        with single(left.device):
            return F.normalize(left) @ F.normalize(right).T

    def _crop(self, image: Tensor) -> Tensor:
        """The face (3, 160, 160) in an image (3, H, W) in [0, 255].

        One image at a time, its box found on the CPU: it does not depend on the device or on other images.
        """
        with single(torch.device("cpu")):
            boxes = self._detector.detect(image.detach().cpu().permute(1, 2, 0))[0]
        self.attempts += 1
        if boxes is None:
            self.misses += 1
        else:
            left, top, right, bottom = map(float, boxes[0])
            x, y = (right - left) / 6, (bottom - top) / 6
            image = image[:, max(int(top - y), 0) : int(bottom + y), max(int(left - x), 0) : int(right + x)]
        return F.interpolate(image[None], (160, 160), mode="bilinear", antialias=True)[0]


def _cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _processes() -> int:
    """Number of this run's processes on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("WORLD_SIZE") or 1)
