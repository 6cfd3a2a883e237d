"""The images of a contact sheet, as data of the page itself."""

import base64
from io import BytesIO
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from gmi.errors import GmiError

SIDE = 128  # pixels: the most that a tile keeps


def tiles(path: Path, most: int) -> list[str]:
    """The first tiles of a strip (H x nH) as data URIs of small PNGs without metadata; none where there is no file.

    Raises GmiError where the file is not an image.
    """
    if not path.exists():
        return []
    addresses = []
    try:
        with Image.open(path, formats=["PNG"]) as strip:
            side = strip.height
            for start in range(0, min(most, strip.width // side) * side, side):
                tile = strip.crop((start, 0, start + side, side)).convert("L" if strip.mode == "L" else "RGB")
                tile.thumbnail((SIDE, SIDE))
                tile.save(out := BytesIO(), "PNG")
                addresses.append(f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}")
    except UnidentifiedImageError as error:
        raise GmiError(f"{path} is not an image: search again for that class.") from error
    return addresses
