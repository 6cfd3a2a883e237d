"""Random views of images, for searches and selection, and the re-encoding of what is released."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from gmi.rng import Rng
from gmi.settings import settings

_LUMA = (0.299, 0.587, 0.114)


@settings
class Views:
    """Random crops, shifts, rotations, flips and exposures, each image's from its own generator; differentiable.

    A search that averages the target's gradient over them finds features of the person rather than of one pixel grid
    (PPA, ICML 2022, sec. 4.2; AlignMI, NeurIPS 2025).
    """

    scale: tuple[float, float] = (0.9, 1.0)  # side of the crop, as a share of the image
    shift: float = 0.05  # of the crop's centre, as a share of half the image
    rotate: float = 0.0  # degrees, either way
    flip: bool = True
    exposure: float = 0.0  # contrast within 1 +- this, brightness within +- half of this

    def __call__(self, images: Tensor, rng: Rng) -> Tensor:
        """(N, C, H, W) to one view each, of the same shape; outside the image is its reflection."""
        if len(images) == 0:
            return images
        draws = rng.uniform(7, low=-1.0).to(images)
        low, high = self.scale
        scale = (low + high) / 2 + draws[:, 0] * (high - low) / 2
        mirror = torch.where(draws[:, 1] < 0, -1.0, 1.0) if self.flip else torch.ones_like(scale)
        angle = draws[:, 2] * math.radians(self.rotate)
        shift = draws[:, 3:5] * self.shift
        matrix = torch.stack(
            [
                torch.stack([scale * mirror * angle.cos(), -scale * angle.sin(), shift[:, 0]], 1),
                torch.stack([scale * mirror * angle.sin(), scale * angle.cos(), shift[:, 1]], 1),
            ],
            1,
        )
        grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
        views = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
        contrast = (1 + self.exposure * draws[:, 5])[:, None, None, None]
        brightness = (self.exposure / 2 * draws[:, 6])[:, None, None, None]
        middle = views.mean((1, 2, 3), keepdim=True)
        return (views - middle) * contrast + middle + brightness


def grey(images: Tensor) -> Tensor:
    """(N, 1, H, W) of images (N, 1 or 3, H, W): the luma of ITU-R BT.601, as Pillow's mode L has it; differentiable."""
    if images.shape[1] == 1:
        return images
    return torch.einsum("nchw,c->nhw", images, torch.tensor(_LUMA).to(images)).unsqueeze(1)
