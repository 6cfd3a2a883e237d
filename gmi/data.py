"""The people behind a target: their photographs, split into those it was trained on and those it never saw."""

import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import ConfigDict, Field
from pydantic import dataclasses as pydantic
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from gmi.assets import resolve
from gmi.augment import grey
from gmi.errors import GmiError
from gmi.rng import Rng, seed_of

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}

Role = Literal["training", "enrolment", "strangers", "public"]
Pixels = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class Photo:
    """An image file and what it is for."""

    path: Path
    name: str  # relative to its folder
    role: Role
    person: int  # index of the class, strangers after the people; -1 for a public image


@dataclass(frozen=True)
class Images:
    """Images of one size."""

    bytes: Tensor  # (N, C, H, W) uint8
    classes: Tensor  # (N,) int64, whose they are, strangers after the people; -1 for public images
    digests: tuple[str, ...]  # SHA-256 of the files

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


@dataclass(frozen=True)
class People:
    """The private set, in its roles."""

    names: tuple[str, ...]  # of the classes: (K,)
    attacked: tuple[int, ...]  # classes, ascending
    training: Images  # what the target was trained on
    enrolment: Images  # other images of the same people, that it never saw: what reconstructions are judged by
    public: Images | None  # what everybody may see
    strangers: Images | None  # other people, not enrolled: comparisons with them set thresholds
    files: dict[str, list[str]]  # of the split: name -> role, person, SHA-256

    @cached_property
    def digest(self) -> str:
        """SHA-256 over who is in which role with which file."""
        return hashlib.sha256(repr(sorted(self.files.items())).encode()).hexdigest()


@pydantic.dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Faces:
    """A folder with one folder of images a person, whose sorted names are the target's classes.

    enrolment: another such folder of the same people, with images that the target never saw; or how many images of
        each person in `folder` are set aside as that, drawn with `seed`: the others are what the target is trained on.
    strangers: a folder like `folder`, of other people, whom nothing here was trained on: with them thresholds rest on
        more comparisons.
    public: a folder of public images, at any depth, for the public control and the overlap check.
    attacked: audit so many people only, drawn with `seed`; all are enrolled, so the others still count as strangers.
    size: height and width that all images are fitted to, the rest cut off; None: they must have one size.
    """

    name: str
    folder: str  # or "asset:NAME/..."
    enrolment: Annotated[int, Field(ge=1)] | str = 5
    strangers: str | None = None
    public: str | None = None
    attacked: Annotated[int, Field(ge=1)] | None = None
    size: tuple[Pixels, Pixels] | None = None
    seed: Annotated[int, Field(ge=0)] = 0

    def load(self) -> People:
        """Reads every image. Raises GmiError where a folder, a person or an image cannot be used, with what to do."""
        folder = _folder(self.folder, "data.folder")
        names, own = _people(folder)
        if isinstance(self.enrolment, int):
            photos = _split(names, own, self.enrolment, self.seed)
        else:
            photos = [Photo(path, name, "training", person) for path, name, person in own]
            photos += _enrolment(names, _folder(self.enrolment, "data.enrolment"))
        if self.attacked is not None and self.attacked > len(names):
            raise GmiError(f"data.attacked is {self.attacked}, but {folder} has {len(names)} people.")
        if self.strangers is not None:
            _, images = _people(_folder(self.strangers, "data.strangers"))
            photos += [Photo(path, name, "strangers", len(names) + person) for path, name, person in images]
        if self.public is not None:
            photos += _public(_folder(self.public, "data.public"), "data.public")
        sorts: tuple[Role, ...] = ("training", "enrolment", "strangers", "public")
        roles = {role: [photo for photo in photos if photo.role == role] for role in sorts}
        training, enrolment = (_read(roles[role], self.size) for role in ("training", "enrolment"))
        if training.bytes.shape[1:] != enrolment.bytes.shape[1:]:
            raise GmiError(
                f"Training images are {_shape(training)} and enrolment images {_shape(enrolment)} (channels, height, "
                "width): set data.size, and convert them all to grey or all to colour."
            )
        _distinct(photos, training, enrolment)
        size = self.size or (training.bytes.shape[2], training.bytes.shape[3])
        strangers, public = (_read(roles[role], size) if roles[role] else None for role in ("strangers", "public"))
        if strangers is not None and (same := {*training.digests, *enrolment.digests}.intersection(strangers.digests)):
            raise GmiError(f"data.strangers: {len(same)} of its files show the people themselves: remove them.")
        digests = [digest for some in (training, enrolment, strangers, public) if some for digest in some.digests]
        files = {
            f"{photo.role}/{photo.name}": [
                photo.role,
                names[photo.person] if photo.role in ("training", "enrolment") else "",
                digest,
            ]
            for photo, digest in zip((photo for role in sorts for photo in roles[role]), digests, strict=True)
        }
        drawn = Rng([seed_of(self.seed, "attacked")]).uniform(len(names))[0].argsort()[: self.attacked]
        return People(names, tuple(sorted(drawn.tolist())), training, enrolment, public, strangers, files)


@pydantic.dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class PublicImages:
    """A folder of images that everybody may see, at any depth: what a prior is trained on.

    size: height and width that all are fitted to. grey: one channel. held_out: how many are set aside, drawn with
    `seed`, to compare the prior's samples with. terms: under which the images may be used; copied into the model card.
    """

    name: str
    folder: str
    terms: str
    size: Pixels = 64
    grey: bool = False
    held_out: Annotated[int, Field(ge=2)] = 500
    seed: Annotated[int, Field(ge=0)] = 0

    def load(self) -> tuple[Images, Images]:
        """Those to train on, and those held out. Raises GmiError as `Faces.load`."""
        photos = _public(_folder(self.folder, "data.folder"), "data.folder")
        if len(photos) <= self.held_out:
            raise GmiError(f"data.held_out is {self.held_out}, but {self.folder} holds {len(photos)} images.")
        order = Rng([seed_of(self.seed, "held out")]).uniform(len(photos))[0].argsort().tolist()
        kept, aside = sorted(order[self.held_out :]), sorted(order[: self.held_out])
        every = _read(photos, (self.size, self.size))
        pixels = every.bytes if self.grey else every.bytes.expand(-1, 3, -1, -1)
        if self.grey:  # piece by piece, as the whole in floats would take four times the memory
            pixels = torch.cat([(grey(some.float() / 255) * 255).round().byte() for some in pixels.split(1024)])
        every = Images(pixels, every.classes, every.digests)
        return every[kept], every[aside]


def _folder(name: str, key: str) -> Path:
    folder = resolve(name)
    if not folder.is_dir():
        raise GmiError(f"{key}: there is no folder {folder}.")
    return folder


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def _people(folder: Path) -> tuple[tuple[str, ...], list[tuple[Path, str, int]]]:
    """Names of the people in a folder, and (path, name, person) of each of their images."""
    names = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")))
    if len(names) < 2:
        raise GmiError(
            f"{folder} has folders of {len(names)} people: an audit needs one folder for each of two or more."
        )
    found = [
        (path, path.relative_to(folder).as_posix(), person)
        for person, name in enumerate(names)
        for path in _files(folder / name)
    ]
    counts = Counter(person for _, _, person in found)
    if empty := [name for person, name in enumerate(names) if not counts[person]]:
        raise GmiError(f"{folder / empty[0]} holds no image: add some, or remove the folder.")
    return names, found


def _split(names: Sequence[str], own: Iterable[tuple[Path, str, int]], count: int, seed: int) -> list[Photo]:
    """Each person's images in the two roles, by one generator a person: others' images change nothing."""
    photos = []
    for person, name in enumerate(names):
        mine = [(path, relative) for path, relative, whose in own if whose == person]
        if len(mine) <= count:
            raise GmiError(
                f"{mine[0][0].parent} has {len(mine)} image{'s' * (len(mine) != 1)}: with data.enrolment {count} each "
                f"person needs at least {count + 1}."
            )
        aside = set(Rng([seed_of(seed, "split", name)]).uniform(len(mine))[0].argsort()[:count].tolist())
        photos += [
            Photo(path, relative, "enrolment" if place in aside else "training", person)
            for place, (path, relative) in enumerate(mine)
        ]
    return photos


def _enrolment(names: tuple[str, ...], folder: Path) -> list[Photo]:
    enrolled, images = _people(folder)
    if enrolled != names:
        odd = sorted(set(enrolled) ^ set(names))
        raise GmiError(f"{folder} must hold the same people as data.folder; only one of the two has {odd[0]!r}.")
    return [Photo(path, name, "enrolment", person) for path, name, person in images]


def _public(folder: Path, key: str) -> list[Photo]:
    photos = [Photo(path, path.relative_to(folder).as_posix(), "public", -1) for path in _files(folder)]
    if not photos:
        raise GmiError(f"{key}: {folder} holds no image.")
    return photos


def _read(photos: Sequence[Photo], size: tuple[int, int] | None) -> Images:
    tensors, digests = [], []
    for photo in photos:
        try:
            content = photo.path.read_bytes()
        except OSError as error:
            raise GmiError(f"{photo.path} cannot be read ({error}): mend or remove it.") from error
        digests.append(hashlib.sha256(content).hexdigest())
        tensors.append(_decode(photo.path, content, size))
    if len({one.shape[0] for one in tensors}) > 1:  # grey among colour
        tensors = [one.expand(3, -1, -1) for one in tensors]
    for photo, one in zip(photos, tensors, strict=True):
        if one.shape != tensors[0].shape:
            raise GmiError(
                f"{photo.path} is {one.shape[1]}x{one.shape[2]}, {photos[0].path} {tensors[0].shape[1]}x"
                f"{tensors[0].shape[2]} (height, width): set data.size to fit all images to one size."
            )
    return Images(torch.stack(tensors), torch.tensor([photo.person for photo in photos]), tuple(digests))


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


def _distinct(photos: Sequence[Photo], training: Images, enrolment: Images) -> None:
    """Raises GmiError where an enrolment image was trained on: it would judge memory, not identity."""
    known = dict(zip(training.digests, (one for one in photos if one.role == "training"), strict=True))
    for photo, digest in zip((one for one in photos if one.role == "enrolment"), enrolment.digests, strict=True):
        if digest in known:
            raise GmiError(f"{photo.path} is the same file as {known[digest].path}: enrolment images must be others.")


def _shape(images: Images) -> str:
    return "x".join(map(str, images.bytes.shape[1:]))
