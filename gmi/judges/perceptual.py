"""Perceptual distance between images, as a judge."""

import warnings
from collections.abc import Iterable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmi.assets.catalogue import resolve
from gmi.assets.weights import misfit, read_weights
from gmi.errors import GmiError
from gmi.settings import settings

_SMALLEST = 64
_BATCH = 32
_BACKBONES = {"alex": "alexnet", "vgg": "vgg16"}


@settings
class Lpips:
    """LPIPS 0.1; Zhang et al., "The Unreasonable Effectiveness of Deep Features", CVPR 2018, eq. 1."""

    type: Literal["lpips"] = "lpips"
    net: Literal["alex", "vgg"] = "alex"  # backbone: AlexNet or VGG-16
    # a folder with alexnet.safetensors or vgg16.safetensors, in torchvision's names; the linear heads come with the
    # lpips package
    weights: str = "asset:lpips"

    def load(self, device: torch.device) -> "LpipsJudge":
        """The judge. Raises GmiError if the weights do not fit the network."""
        from lpips import LPIPS

        path = resolve(self.weights) / f"{_BACKBONES[self.net]}.safetensors"
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            # lpips 0.1.4 says pretrained=False to torchvision, which has called that weights=None since 0.13.
            warnings.filterwarnings("ignore", category=UserWarning, module=r"torchvision\.models\._utils")
            network = LPIPS(net=self.net, pnet_rand=True, verbose=False)
        state, own = read_weights(path), network.net.state_dict()
        # lpips cuts torchvision's `features` into slices and keeps the numbers: slice2.3.weight
        names = {key: f"features.{key.partition('.')[2]}" for key in own}
        backbone = {key: state[name] for key, name in names.items() if name in state}
        try:
            network.net.load_state_dict(backbone)
        except RuntimeError as error:
            fault = misfit(network.net, backbone)
            raise GmiError(f"{path} does not hold torchvision's {_BACKBONES[self.net]}: {fault}.") from error
        return LpipsJudge(f"lpips-{self.net}", network.eval().requires_grad_(False).to(device), device)


class LpipsJudge:
    """A `PerceptualJudge`: LPIPS on pairs of images."""

    trained_on = frozenset({"ImageNet", "BAPPS"})

    def __init__(self, name: str, network: nn.Module, device: torch.device) -> None:
        self.name, self._network, self._device = name, network, device

    def weights(self) -> Iterable[Tensor]:
        """The network's parameters, to compare with the target's."""
        return self._network.parameters()

    def distance(self, left: Tensor, right: Tensor) -> Tensor:
        """Distances (N,), at least 0, of pairs of images (N, 1 or 3, H, W) in [0, 1].

        They are differentiable, and on the device of `left`. Images whose shorter side has less than 64 pixels are
        enlarged to 64, because LPIPS was calibrated on patches of 64 and AlexNet sees nothing below 31: such values are
        not comparable with values for smaller inputs elsewhere. Raises GmiError if the two differ in number or size.
        """
        if left.shape[0] != right.shape[0] or left.shape[2:] != right.shape[2:]:
            shapes = f"{tuple(left.shape)} with {tuple(right.shape)}"
            raise GmiError(f"LPIPS compares images of one size pair by pair, not {shapes}.")
        pairs = zip(left.split(_BATCH), right.split(_BATCH), strict=True)
        distances = [self._network(self._input(a), self._input(b)).flatten() for a, b in pairs]
        return torch.cat([torch.empty(0, device=self._device), *distances]).to(left.device)

    def _input(self, images: Tensor) -> Tensor:
        """The network's input (N, 3, H, W) in [-1, 1]."""
        images = images.to(self._device).float().expand(-1, 3, -1, -1)
        scale = _SMALLEST / min(images.shape[2:])
        if scale > 1:
            size = [round(scale * side) for side in images.shape[2:]]
            images = F.interpolate(images, size, mode="bilinear", align_corners=False)
        return images * 2 - 1
