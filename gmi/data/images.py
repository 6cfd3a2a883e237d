"""Images in folders, and as tensors."""

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
from gmi.errors import GmiError, because

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}


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
        return cls(
            torch.cat([part.bytes for part in parts]),
            torch.cat([part.classes for part in parts]),
            tuple(digest for part in parts for digest in part.digests),
        )

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


def folder(name: str, key: str) -> Path:
    """The folder that the setting `key` names. Raises GmiError if there is none."""
    path = resolve(name)
    if not name or not path.is_dir():
        raise GmiError(f"{key}: there is no folder {path if name else repr(name)}.")
    return path


def files(folder: Path) -> list[Path]:
    """The images in a folder, at any depth, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def people(folder: Path) -> tuple[tuple[str, ...], list[tuple[Path, str, int]]]:
    """Names of the people that have a folder in this one, sorted, and (path, relative name, person) of their images.

    Raises GmiError for fewer than two people, and for a person without images.
    """
    names = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")))
    if len(names) < 2:
        raise GmiError(
            f"{folder} has folders of {len(names)} people: an audit needs one folder for each of two or more."
        )
    paths = [files(folder / name) for name in names]
    if empty := [name for name, group in zip(names, paths, strict=True) if not group]:
        raise GmiError(f"{folder / empty[0]} holds no image: add some, or remove the folder.")
    return names, [
        (path, path.relative_to(folder).as_posix(), person) for person, group in enumerate(paths) for path in group
    ]


def public(name: str, key: str) -> list[Path]:
    """The images, sorted, in the folder that the setting `key` names. Raises GmiError if there are none."""
    where = folder(name, key)
    if not (paths := files(where)):
        raise GmiError(f"{key}: {where} holds no image.")
    return paths


def read(paths: Sequence[Path], classes: Sequence[int], size: tuple[int, int] | None, key: str = "data.size") -> Images:
    """The images in these files, fitted to size (height, width) and cropped; None: they must have one size.

    Grey images among coloured ones get three equal channels. Raises GmiError for an image that cannot be used; key: the
    setting of the size.
    """
    tensors, digests = [], []
    for path in paths:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise GmiError(f"{path} cannot be read ({because(error)}): mend or remove it.") from error
        digests.append(hashlib.sha256(content).hexdigest())
        tensors.append(_decode(path, content, size))
    if len({image.shape[0] for image in tensors}) > 1:
        tensors = [image.expand(3, -1, -1) for image in tensors]
    first = tensors[0].shape
    for path, image in zip(paths, tensors, strict=True):
        if image.shape != first:
            raise GmiError(
                f"{path} is {image.shape[1]}x{image.shape[2]}, {paths[0]} {first[1]}x{first[2]} "
                f"(height, width): set {key} to fit all images to one size."
            )
    return Images(torch.stack(tensors), torch.tensor(classes), tuple(digests))


def _decode(path: Path, content: bytes, size: tuple[int, int] | None) -> Tensor:
    """The image in a file's content: (1 or 3, H, W) uint8, upright. Raises GmiError if it cannot be used."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            image = ImageOps.exif_transpose(image)
            if image.mode not in ("L", "RGB"):
                raise GmiError(f"{path} has the channels {image.mode}: convert it to grey (L) or colour (RGB).")
            if size is not None and (image.height, image.width) != size:
                image = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.BICUBIC)
            return pil_to_tensor(image)
    except UnidentifiedImageError as error:
        raise GmiError(f"{path} holds no image that can be read: replace or remove it.") from error
    except (Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise GmiError(f"{path} cannot be read as an image ({because(error)}): replace or remove it.") from error
