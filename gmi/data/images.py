"""Images as they lie in folders, and as the tensors that the rest works on."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from gmi.assets.catalogue import resolve
from gmi.errors import GmiError

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class Images:
    """Images of one size."""

    bytes: Tensor  # (N, C, H, W) uint8
    classes: Tensor  # (N,) int64, whose they are, strangers after the people; -1 for public images
    digests: tuple[str, ...]  # SHA-256 of the files, or of the pixels of images that never were files

    @classmethod
    def of(cls, pixels: Tensor, classes: Tensor) -> "Images":
        """Images (N, C, H, W) as bytes that never were files."""
        return cls(pixels, classes, tuple(hashlib.sha256(image.numpy().tobytes()).hexdigest() for image in pixels))

    @property
    def pixels(self) -> Tensor:
        """(N, C, H, W) float in [0, 1]."""
        return self.bytes.float() / 255

    @property
    def digest(self) -> str:
        """SHA-256 over the files, in their order."""
        return hashlib.sha256("".join(self.digests).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.classes)

    def __getitem__(self, places: list[int]) -> "Images":
        return Images(self.bytes[places], self.classes[places], tuple(self.digests[place] for place in places))


def folder(name: str, key: str) -> Path:
    """The folder that a setting names. Raises GmiError where there is none."""
    found = resolve(name)
    if not name or not found.is_dir():
        raise GmiError(f"{key}: there is no folder {found if name else repr(name)}.")
    return found


def files(folder: Path) -> list[Path]:
    """The images in a folder, at any depth, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def people(folder: Path) -> tuple[tuple[str, ...], list[tuple[Path, str, int]]]:
    """Names of the people who have a folder in this one, sorted, and (path, relative name, person) of their images.

    Raises GmiError for fewer than two people and for one without an image.
    """
    names = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")))
    if len(names) < 2:
        raise GmiError(
            f"{folder} has folders of {len(names)} people: an audit needs one folder for each of two or more."
        )
    own = [files(folder / name) for name in names]
    if empty := [name for name, some in zip(names, own, strict=True) if not some]:
        raise GmiError(f"{folder / empty[0]} holds no image: add some, or remove the folder.")
    return names, [
        (path, path.relative_to(folder).as_posix(), person) for person, some in enumerate(own) for path in some
    ]


def public(name: str, key: str) -> list[Path]:
    """The images in the folder that a setting names. Raises GmiError where there is none."""
    where = folder(name, key)
    if not (found := files(where)):
        raise GmiError(f"{key}: {where} holds no image.")
    return found


def read(paths: Sequence[Path], classes: Sequence[int], size: tuple[int, int] | None) -> Images:
    """Fitted to size (height, width), what sticks out cut off; None: they must have one size.

    Grey images among coloured ones get three equal channels. Raises GmiError for an image that cannot be used.
    """
    tensors, digests = [], []
    for path in paths:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise GmiError(f"{path} cannot be read ({error}): mend or remove it.") from error
        digests.append(hashlib.sha256(content).hexdigest())
        tensors.append(_decode(path, content, size))
    if len({one.shape[0] for one in tensors}) > 1:
        tensors = [one.expand(3, -1, -1) for one in tensors]
    for path, one in zip(paths, tensors, strict=True):
        if one.shape != tensors[0].shape:
            raise GmiError(
                f"{path} is {one.shape[1]}x{one.shape[2]}, {paths[0]} {tensors[0].shape[1]}x{tensors[0].shape[2]} "
                "(height, width): set data.size to fit all images to one size."
            )
    return Images(torch.stack(tensors), torch.tensor(classes), tuple(digests))


def _decode(path: Path, content: bytes, size: tuple[int, int] | None) -> Tensor:
    """(1 or 3, H, W) uint8."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            image = ImageOps.exif_transpose(image)
            if image.mode not in ("L", "RGB"):
                raise GmiError(f"{path} has the channels {image.mode}: convert it to grey (L) or colour (RGB).")
            if size is not None and (image.height, image.width) != size:
                image = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.BICUBIC)
            return pil_to_tensor(image)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise GmiError(f"{path} cannot be read as an image ({error}): replace or remove it.") from error
