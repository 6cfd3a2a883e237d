"""Inputs of networks from images: preprocessing, and random views for searches, selection and training."""

import math
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from gmi.errors import GmiError
from gmi.rng import Rng, sent
from gmi.settings import Share, settings

LUMA = (0.299, 0.587, 0.114)  # shares of red, green and blue in grey


@settings
class Input:
    """The input that a module expects: size, colour and scale, made from images (N, C, H, W) in [0, 1]."""

    size: tuple[int, int]  # height, width
    colour: Literal["rgb", "bgr", "grey", "grey as rgb"] = "rgb"  # "grey as rgb": three equal channels
    mean: tuple[float, ...] = (0.0,)  # subtracted, one per channel or one for all; in units of [0, 1]
    std: tuple[float, ...] = (1.0,)  # divided by, one per channel or one for all; in units of [0, 1]

    def __post_init__(self) -> None:
        if max(self.mean, default=0) > 1 or max(self.std, default=1) > 2:
            mean, std = ([round(value / 255, 6) for value in values] for values in (self.mean, self.std))
            raise ValueError(
                f"mean and std are of images in [0, 1], not of 0 to 255: write mean: {mean} and std: {std}"
            )
        if 0 in self.std:
            raise ValueError("std must not be 0, as images are divided by it")

    def __call__(self, images: Tensor) -> Tensor:
        """The module's input for images (N, 1 or 3, H, W) in [0, 1], differentiable.

        Raises GmiError for other numbers of channels.
        """
        if images.element_size() < 4:  # torch cannot resize bf16 on the CPU
            images = images.float()
        if images.shape[1] not in (1, 3):
            raise GmiError(f"Images have {images.shape[1]} channels; a target takes 1 (grey) or 3 (colour).")
        if self.colour in ("grey", "grey as rgb"):
            images = grey(images)
        if tuple(images.shape[-2:]) != self.size:
            images = F.interpolate(images, self.size, mode="bilinear", align_corners=False, antialias=True)
        if self.colour != "grey":
            images = images.expand(-1, 3, -1, -1)
        if self.colour == "bgr":
            images = images.flip(1)
        mean, std = (_by_channel(values, images.dtype, images.device) for values in (self.mean, self.std))
        return (images - mean) / std


@cache
def _by_channel(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """The values (1, C, 1, 1), sent to a device once; gradients may pass them, wherever they are made first."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device).view(1, -1, 1, 1)


Times = Annotated[float, Field(gt=0, le=10)]


@settings
class Views:
    """Random crops, shifts, rotations, flips, exposures and noise; differentiable, each image with its own generator.

    A search that averages the target's gradient over them finds features of the person rather than of one pixel grid
    (PPA, ICML 2022, sec. 4.2). With `transforms` of 50, AlignMI (NeurIPS 2025) takes crops and rotations (TAA: scale
    [.89, 1], ratio [.9, 1.1], rotate 5) or noise alone (PAA: scale [1, 1], shift 0, no flip, noise .06).
    """

    scale: tuple[Times, Times] = (0.9, 1.0)  # least and greatest side of the crop, as a share of the image
    shift: Share = 0.05  # largest shift of the crop's centre, as a share of half the image
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0  # largest rotation in degrees, in both directions
    ratio: tuple[Times, Times] = (1.0, 1.0)  # least and greatest width of the crop over its height
    flip: bool = True  # mirror half of the images
    exposure: Share = 0.0  # contrast varies within 1 +- this, brightness within +- half of this
    noise: Share = 0.0  # standard deviation of Gaussian noise, in units of [0, 1]

    def __call__(self, images: Tensor, rng: Rng) -> Tensor:
        """One view of each image, (N, C, H, W) as the images; beyond its edges an image is reflected."""
        if len(images) == 0:
            return images
        draws = sent(rng.uniform(7, low=-1.0), images)
        low, high = self.scale
        scale = (low + high) / 2 + draws[:, 0] * (high - low) / 2
        mirror = torch.where(draws[:, 1] < 0, -1.0, 1.0) if self.flip else torch.ones_like(scale)
        angle = draws[:, 2] * math.radians(self.rotate)
        shift = draws[:, 3:5] * self.shift
        wider = sent(self._stretch(rng), images)
        matrix = torch.stack(
            [
                torch.stack([scale * wider * mirror * angle.cos(), -scale * wider * angle.sin(), shift[:, 0]], 1),
                torch.stack([scale / wider * mirror * angle.sin(), scale / wider * angle.cos(), shift[:, 1]], 1),
            ],
            1,
        )
        grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
        views = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
        contrast = (1 + self.exposure * draws[:, 5])[:, None, None, None]
        brightness = (self.exposure / 2 * draws[:, 6])[:, None, None, None]
        middle = views.mean((1, 2, 3), keepdim=True)
        shown = (views - middle) * contrast + middle + brightness
        return shown + self.noise * sent(rng.normal(*shown.shape[1:]), shown) if self.noise else shown

    def _stretch(self, rng: Rng) -> Tensor:
        """Factors (N,) of the crops' widths, whose inverses are those of their heights."""
        narrow, wide = self.ratio
        if narrow == wide:
            return torch.full((len(rng),), wide**0.5)
        return rng.uniform(1, low=narrow, high=wide)[:, 0].sqrt()


def single(device: torch.device) -> AbstractContextManager[object]:
    """A context for what is never computed in half precision on this kind of device, whoever asks for it."""
    if not torch.amp.is_autocast_available(device.type):  # "meta", where operations are counted
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def at_least_single(values: Tensor) -> Tensor:
    """Values in half precision brought to single, others as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def grey(images: Tensor) -> Tensor:
    """Grey images (N, 1, H, W) from images (N, 1 or 3, H, W), differentiable.

    The luma of ITU-R BT.601, as in Pillow's mode L.
    """
    if images.shape[1] == 1:
        return images
    return (images * _by_channel(LUMA, images.dtype, images.device)).sum(1, keepdim=True)  # no product to be rounded
