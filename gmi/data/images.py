"""Images in folders, and as tensors."""

import errno
import hashlib
import io
import os
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import prod
from pathlib import Path
from tempfile import TemporaryFile, gettempdir

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from gmi.assets.catalogue import resolve
from gmi.errors import GmiError, because, foreign
from gmi.files import is_memory

SUFFIXES = {".bmp", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What files may hold, by Pillow's names, whatever they are called: none of these starts another program."""
SYSTEM = {
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "@eadir",
    "@recently-snapshot",
    "@recycle",
    "@tmp",
    "__macosx",
    "lost+found",
    "system volume information",
}
"""Names, in lower case, of folders that storage and systems make beside those of their users."""
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


def folder(name: str, key: str) -> Path:
    """The folder that the setting `key` names. Raises GmiError if there is none."""
    path = resolve(name)
    if not name or not path.is_dir():
        raise GmiError(f"{key}: there is no folder {path if name else repr(name)}.")
    return path


def listing(folder: Path) -> tuple[list[Path], dict[Path, str]]:
    """The images in a folder, at any depth, sorted; and what else lies there, with the reason to leave it out.

    Hidden files are neither. Raises GmiError where the folder cannot be read or a name in it is no text.
    """
    found, left = [], {}
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise GmiError(f"{folder} cannot be read ({because(error)}).") from error
    for entry in entries:
        if not _written(entry.name):
            raise GmiError(f"{folder} holds {entry.name!a}, whose name is no text in UTF-8: rename it.")
        if _hidden(entry.name):
            if entry.is_dir() and any(path.suffix.lower() in SUFFIXES for path in entry.rglob("*")):
                left[entry] = "a hidden folder, or one of the system"
        elif entry.is_dir():
            if entry.is_symlink():
                left[entry] = "a link to a folder"
            else:
                inner, others = listing(entry)
                found += inner
                left |= others
        elif not entry.is_file():
            left[entry] = "a link to nothing" if entry.is_symlink() else "no file"
        elif entry.suffix.lower() in SUFFIXES:
            found.append(entry)
        else:
            left[entry] = f"{entry.suffix} is not read" if entry.suffix else "it has no suffix"
    return sorted(found), left


def files(folder: Path) -> list[Path]:
    """The images in a folder, at any depth, sorted. Raises GmiError as `listing` does."""
    return listing(folder)[0]


def left_out(folder: Path, public: bool = False) -> list[str]:
    """What lies in a folder and is not read as an image of somebody, each with the reason.

    public: of a folder of images that need be nobody's; otherwise each person has a folder in it.
    """
    if public:
        left = listing(folder)[1]
    else:
        found = folders(folder)
        top = [path for path in sorted(folder.iterdir()) if path.is_file() and not _hidden(path.name)]
        left = {path: "it is in no person's folder" for path in top if path.suffix.lower() in SUFFIXES}
        left |= {path: why for path, why in listing(folder)[1].items() if path not in found}
        left |= {path: why for person in found for path, why in listing(person)[1].items()}
    return [f"{path.relative_to(folder.parent).as_posix()}: {why}" for path, why in left.items()]


def folders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted, but for hidden ones."""
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and not _hidden(path.name)]


def refuse_empty(person: Path) -> None:
    """Raises GmiError where a person's folder holds no image that is read."""
    if files(person):
        return
    others = sorted({path.suffix.lower() for path in person.rglob("*") if path.is_file()} - {""})
    kinds = f" (but {', '.join(others)}: convert these to JPEG or PNG)" if others else ""
    raise GmiError(f"{person} holds no image{kinds}: add some, or remove the folder.")


def size_of(path: Path) -> tuple[int, int]:
    """Height and width of the image in a file, as its header says. Raises GmiError if it cannot be read."""
    with (
        foreign(lambda why: f"{path} cannot be read as an image ({why}): replace or remove it."),
        Image.open(path, formats=FORMATS) as image,
    ):
        return image.height, image.width


def people(folder: Path) -> tuple[tuple[str, ...], list[tuple[Path, str, int]]]:
    """Names of the people that have a folder in this one, sorted, and (path, relative name, person) of their images.

    Raises GmiError for fewer than two people, for a person without images, and for names that are equal in Unicode's
    normal form.
    """
    found = {path: name_of(path) for path in folders(folder)}
    names = tuple(sorted(found.values()))
    if twice := [name for name, after in pairwise(names) if name == after]:
        raise GmiError(f"{folder} has two folders of {twice[0]}, which differ in how Unicode writes it: join them.")
    if len(names) < 2:
        raise GmiError(
            f"{folder} has folders of {len(names)} people: an audit needs one folder for each of two or more."
        )
    for person in found:
        refuse_empty(person)
    paths = [files(path) for path in sorted(found, key=found.__getitem__)]
    return names, [
        (path, path.relative_to(folder).as_posix(), person) for person, group in enumerate(paths) for path in group
    ]


def name_of(folder: Path) -> str:
    """The name of a person's folder in Unicode's normal form NFC, whatever system has written it.

    Raises GmiError if it is no text.
    """
    if not _written(folder.name):
        raise GmiError(f"{folder.parent} holds {folder.name!a}, whose name is no text in UTF-8: rename it.")
    return unicodedata.normalize("NFC", folder.name)


def _written(name: str) -> bool:
    """Whether a name is text; Python puts surrogates for bytes that are none."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _hidden(name: str) -> bool:
    """Whether a file or a folder is hidden, or a system's own."""
    return name.startswith(".") or name.lower() in SYSTEM


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
