"""Images in files, and as tensors."""

import errno
import hashlib
import io
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from tempfile import TemporaryFile, gettempdir

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from gmi.errors import GmiError, because, foreign
from gmi.files import is_memory

FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What files may hold, by Pillow's names, whatever they are called: none of these starts another program."""
HELD = 2**28
"""Bytes of images that are held in memory."""
_MODES = {"L": "L", "LA": "L", "1": "L", "RGB": "RGB", "RGBA": "RGB", "P": "RGB", "PA": "RGB", "CMYK": "RGB"}
"""What becomes of an image's channels; transparency is left out, as by the loaders of most trainings."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image upright, by its orientation in EXIF; nothing else there is read, as it may be broken."""


@dataclass(frozen=True)
class Images:
    """Images of one size."""

    bytes: Tensor  # (N, C, H, W) uint8
    classes: Tensor  # (N,) int64, the persons shown, strangers numbered after the people; -1 for public images
    digests: tuple[str, ...]  # SHA-256 of the files, or of the pixels of images that never were files

    @classmethod
    def of(cls, pixels: Tensor, classes: Tensor) -> "Images":
        """Images that never were files, from pixels (N, C, H, W) as bytes and classes (N,)."""
        return cls(pixels, classes, tuple(hashlib.sha256(image.numpy().tobytes()).hexdigest() for image in pixels))

    @classmethod
    def join(cls, parts: Sequence["Images"]) -> "Images":
        """The images of all parts, one after the other."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            torch.cat([part.bytes for part in parts]),
            torch.cat([part.classes for part in parts]),
            tuple(digest for part in parts for digest in part.digests),
        )

    @cached_property
    def pictures(self) -> tuple[str, ...]:
        """SHA-256 of each image's pixels: the same in every lossless format, and for grey in three channels."""
        return tuple(
            hashlib.sha256(f"{tuple(plain.shape)}".encode() + plain.contiguous().numpy().tobytes()).hexdigest()
            for plain in (image[:1] if (image == image[:1]).all() else image for image in self.bytes)
        )

    def among(self, other: "Images") -> list[int]:
        """Numbers of those images that `other` holds, too: as the same file, or the same pixel by pixel."""
        known = {*other.digests, *other.pictures}
        pairs = zip(self.digests, self.pictures, strict=True)
        return [number for number, pair in enumerate(pairs) if known.intersection(pair)]

    @property
    def pixels(self) -> Tensor:
        """The images as float (N, C, H, W) in [0, 1]."""
        return self.bytes.float() / 255

    @property
    def digest(self) -> str:
        """SHA-256 over the files, in their order."""
        return hashlib.sha256("".join(self.digests).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.classes)

    def __getitem__(self, indices: list[int]) -> "Images":
        return Images(self.bytes[indices], self.classes[indices], tuple(self.digests[index] for index in indices))


def size_of(path: Path) -> tuple[int, int]:
    """Height and width of the image in a file, as its header says. Raises GmiError if it cannot be read."""
    with (
        foreign(lambda why: f"{path} cannot be read as an image ({why}): replace or remove it."),
        Image.open(path, formats=FORMATS) as image,
    ):
        return image.height, image.width


def read(paths: Sequence[Path], classes: Sequence[int], size: tuple[int, int] | None, key: str = "data.size") -> Images:
    """The images in these files, fitted to size (height, width) and cropped; None: they must have one size.

    Grey images among coloured ones get three equal channels. Raises GmiError for an image that cannot be used; key: the
    setting of the size.
    """
    pixels, digests = torch.empty(0), []
    for number, path in enumerate(paths):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise GmiError(f"{path} cannot be read ({because(error)}): mend or remove it.") from error
        digests.append(hashlib.sha256(content).hexdigest())
        image = _decode(path, content, size)
        if not number:
            pixels = room(len(paths), *image.shape)
        if image.shape[1:] != pixels.shape[2:]:
            raise GmiError(
                f"{path} is {image.shape[1]}x{image.shape[2]}, {paths[0]} {pixels.shape[2]}x{pixels.shape[3]} "
                f"(height, width): set {key} to fit all images to one size."
            )
        if len(image) > pixels.shape[1]:  # the first in colour after grey ones
            grey, pixels = pixels, room(len(paths), *image.shape)
            pixels[:number] = grey[:number]
        pixels[number] = image
    return Images(pixels, torch.tensor(classes), tuple(digests))


def room(*shape: int) -> Tensor:
    """Bytes of that shape, to be filled: in memory, or where they are many, in a file without a name.

    The system holds as much of the file as it has memory for, and the file ends with the process. Raises GmiError where
    the disk has no room for it.
    """
    size = prod(shape)
    if size <= HELD or is_memory(Path(gettempdir())):
        return torch.empty(shape, dtype=torch.uint8)
    try:
        with TemporaryFile(prefix="gmi-") as file:
            _reserve(file.fileno(), size)
            return torch.from_numpy(np.memmap(file, np.uint8, "w+", shape=shape))
    except OSError as error:
        raise GmiError(
            f"{gettempdir()} takes no {size / 1e9:.1f} GB of images ({because(error)}): set TMPDIR to a folder "
            "with room for them."
        ) from error


def _reserve(file: int, size: int) -> None:
    """Room on the disk, where the system can: a disk that is full later ends the process. Raises OSError."""
    try:
        os.posix_fallocate(file, 0, size)
    except AttributeError:  # another system
        return
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # of another file system
            raise


def _decode(path: Path, content: bytes, size: tuple[int, int] | None) -> Tensor:
    """The image in a file's content: (1 or 3, H, W) uint8, upright. Raises GmiError if it cannot be used."""
    with (
        foreign(lambda why: f"{path} cannot be read as an image ({why}): replace or remove it."),
        warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning),
    ):
        try:
            opened = Image.open(io.BytesIO(content), formats=FORMATS)
        except UnidentifiedImageError as error:
            raise GmiError(f"{path} holds no image that can be read: replace or remove it.") from error
        with opened as image:
            image.load()  # TIFFs are turned by this already, and then say so
            turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
            upright = image if turn is None else image.transpose(turn)
            if (mode := _MODES.get(upright.mode)) is None:
                raise GmiError(f"{path} has the channels {upright.mode}: convert it to grey (L) or colour (RGB).")
            upright = upright if upright.mode == mode else upright.convert(mode)
            if size is not None and (upright.height, upright.width) != size:
                upright = ImageOps.fit(upright, (size[1], size[0]), Image.Resampling.BICUBIC)
            return pil_to_tensor(upright)
