"""What leaves an audit: images as they would be published."""

import io

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur, pil_to_tensor, to_pil_image


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
