"""Face judges that compare the templates of aligned faces by cosines."""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from gmi.assets.catalogue import resolve
from gmi.assets.weights import load_weights
from gmi.errors import GmiError
from gmi.judges.alignment import SIDE, Alignment, enlarged, finite
from gmi.judges.mobilefacenet import recogniser
from gmi.settings import settings
from gmi.views import Input, single

PACKAGED = "asset:mobilefacenet"
"""A folder with recogniser.safetensors, and with the landmarks.safetensors that every alignment uses."""

_BATCH = 32
_INPUT = Input(size=(SIDE, SIDE), mean=(127 / 255,), std=(128 / 255,))  # (x - 127) / 128 of [0, 255]


@settings
class MobileFaceNet:
    """MobileFaceNet, an ArcFace recogniser, 512-d; Chen et al., CCBR 2018. What it was trained on is not stated."""

    type: Literal["mobilefacenet"] = "mobilefacenet"
    weights: str = PACKAGED  # a folder with recogniser.safetensors and landmarks.safetensors
    name: str = "mobilefacenet"  # the judge's name in reports

    def load(self, device: torch.device) -> "AlignedJudge":
        """The judge. Raises GmiError if the weights are missing or do not fit the networks."""
        folder = resolve(self.weights)
        with torch.random.fork_rng(devices=[]):
            network = recogniser()
        load_weights(network, folder / "recogniser.safetensors")
        network = network.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)
        alignment = Alignment(folder / "landmarks.safetensors", device)
        return AlignedJudge(self.name, frozenset(), network, list(network.parameters()), _INPUT, alignment)


class AlignedJudge:
    """A `FaceJudge`. In `misses` of the `attempts` images so far it detected no face.

    Without an alignment it takes whole images, and misses none. `trained_on` is empty if that is not known.
    """

    def __init__(
        self,
        name: str,
        trained_on: frozenset[str],
        network: Callable[[Tensor], Tensor],
        weights: Sequence[Tensor],
        input: Input,
        alignment: Alignment | None,
    ) -> None:
        """network: templates (N, D) of what `input` makes of faces, which an alignment makes as large as that is.

        One that is a torch module has gradients.
        """
        self.name, self.trained_on = name, trained_on
        self.network, self._weights, self._input, self._alignment = network, weights, input, alignment
        self.attempts = self.misses = 0
        self._empty = self._templates(torch.full((1, 3, *input.size), 0.5))[:0]

    def weights(self) -> Iterable[Tensor]:
        """The network's parameters, to compare with the target's."""
        return self._weights

    def embed(self, images: Tensor) -> Tensor:
        """Templates (N, D) of images (N, 1 or 3, H, W) in [0, 1]. Raises GmiError if pixels are not finite."""
        templates = [self._empty]
        with torch.no_grad(), single(torch.device("cpu")), single(self._device):
            for i in range(0, len(images), _BATCH):
                templates.append(self._templates(self._faces(finite(images[i : i + _BATCH]))))
        return torch.cat(templates)

    def inputs(self, images: Tensor) -> Tensor:
        """What the network takes of images (N, 1 or 3, H, W) in [0, 1]: the faces in them (N, C, side, side).

        Differentiable, as if the places of faces were given.
        """
        return self._input(self._faces(images))

    def similarity(self, left: Tensor, right: Tensor) -> Tensor:
        """Cosines (N, M) of templates (N, D) and (M, D)."""
        with single(left.device):
            return F.normalize(left) @ F.normalize(right).T

    @property
    def _device(self) -> torch.device:
        """Where the network is now; a target that shares it may have moved it."""
        return next(iter(self._weights), torch.empty(0)).device

    def _faces(self, images: Tensor) -> Tensor:
        """The faces (N, 3, side, side) in images (N, 1 or 3, H, W); whole images where nothing aligns them."""
        self.attempts += len(images)
        if self._alignment is None:
            return images
        faces, missed = self._alignment(enlarged(images), self._input.size[0])
        self.misses += missed
        return faces

    @torch.no_grad()
    def _templates(self, faces: Tensor) -> Tensor:
        templates = self.network(self._input(faces).to(self._device)).cpu().float()
        if not templates.isfinite().all():
            raise GmiError(f"The recogniser {self.name} gives templates that are not finite: its weights are broken.")
        return templates
