"""Random views of images, for searches and selection, and the re-encoding of what is released."""

import io
import math

import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur, pil_to_tensor, to_pil_image

from gmi.rng import Rng

_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
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


@torch.no_grad()
def release(images: Tensor) -> Tensor:
    """What leaves an audit: (N, C, H, W) clamped, blurred (0.5 px), shifted by a pixel, 8-bit, JPEG of quality 75.

    A figure that only an exact pixel pattern supports does not survive this; a face does. Gives values k / 255.
    """
    soft = gaussian_blur(images.clamp(0, 1), [3, 3], [0.5, 0.5])
    moved = F.pad(soft, (1, 0, 1, 0), mode="replicate")[..., :-1, :-1]
    return torch.stack([_jpeg(one) for one in moved.cpu()]).to(images.device)


def _jpeg(image: Tensor) -> Tensor:
    buffer = io.BytesIO()
    to_pil_image((image * 255).round().to(torch.uint8)).save(buffer, "jpeg", quality=75)
    return pil_to_tensor(Image.open(buffer)).float() / 255
