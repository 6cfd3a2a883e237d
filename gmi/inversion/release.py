"""What leaves an audit: images as they would be published."""

import io
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur, pil_to_tensor, to_pil_image

from gmi.data.images import Images
from gmi.evidence.vault import SUFFIX
from gmi.run import Run


@torch.no_grad()
def release(images: Tensor) -> Tensor:
    """Images (N, C, H, W) as they leave an audit: clamped, blurred (0.5 px), shifted by a pixel, 8-bit, JPEG (75).

    A figure that only an exact pixel pattern supports does not survive this; a face does. Gives values k / 255.
    """
    soft = gaussian_blur(images.clamp(0, 1), [3, 3], [0.5, 0.5])
    moved = F.pad(soft, (1, 0, 1, 0), mode="replicate")[..., :-1, :-1]
    return torch.stack([_jpeg(image) for image in moved.cpu()]).to(images.device)


def _jpeg(image: Tensor) -> Tensor:
    buffer = io.BytesIO()
    to_pil_image((image * 255).round().to(torch.uint8)).save(buffer, "jpeg", quality=75)
    return pil_to_tensor(Image.open(buffer, formats=["JPEG"])).float() / 255


def strips(run: Run, folder: str, images: Images, people: Iterable[int]) -> None:
    """Puts the images of each of these people side by side, square, into a PNG of the run folder."""
    rows: dict[int, list[int]] = {}
    for row, person in enumerate(images.classes.tolist()):
        rows.setdefault(person, []).append(row)
    for person in people:
        name = f"{folder}/{person:04d}.png"
        if not (run.folder / (f"{name}{SUFFIX}" if run.vault else name)).exists():
            tiles = [_square(to_pil_image(image)) for image in images.bytes[rows[person]]]
            strip = Image.new(tiles[0].mode, (sum(tile.width for tile in tiles), tiles[0].height))
            for index, tile in enumerate(tiles):
                strip.paste(tile, (index * tile.width, 0))
            strip.save(buffer := io.BytesIO(), "png", compress_level=1)  # a fourth of the time
            run.keep(name, buffer.getvalue())


def _square(tile: Image.Image) -> Image.Image:
    """The tile, centred on a white square."""
    side = max(tile.size)
    if tile.size == (side, side):
        return tile
    square = Image.new(tile.mode, (side, side), "white")
    square.paste(tile, ((side - tile.width) // 2, (side - tile.height) // 2))
    return square
