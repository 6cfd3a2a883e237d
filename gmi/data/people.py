"""The people behind a target: their photographs, split into those it was trained on and those it never saw."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median_low
from typing import Literal, get_args

from gmi.data import images
from gmi.data.images import Images
from gmi.errors import GmiError
from gmi.rng import Rng, seed_of
from gmi.settings import Count, Whole, settings

Role = Literal["training", "enrolment", "distractors", "strangers", "public"]


@dataclass(frozen=True)
class Photo:
    """An image file and what it is for."""

    path: Path
    name: str  # relative to its folder
    role: Role
    person: int  # index of the class, strangers after the people; -1 for a public image


@dataclass(frozen=True)
class People:
    """The private set, in its roles."""

    names: tuple[str, ...]  # of the classes: (K,)
    attacked: tuple[int, ...]  # classes, ascending
    training: Images  # what the target was trained on
    enrolment: Images  # other images of the same people, that it never saw: what reconstructions are judged by
    files: dict[str, list[str]]  # of the split: name -> role, person, SHA-256
    public: Images | None = None  # what everybody may see
    distractors: Images | None = None  # other people, enrolled beside them: who is most alike is asked among all
    strangers: Images | None = None  # more images of other people: comparisons with them set thresholds

    @property
    def coloured(self) -> bool:
        """Whether their photographs are; images of them are released as what they are compared with."""
        return self.enrolment.bytes.shape[1] == 3

    @cached_property
    def digest(self) -> str:
        """SHA-256 over who is in which role with which file."""
        return _digest(self.files)

    @cached_property
    def private_digest(self) -> str:
        """Of the people's own files alone: what a target was trained on, and what it never saw."""
        return _digest({name: file for name, file in self.files.items() if file[0] in ("training", "enrolment")})


@settings
class Faces:
    """A folder with one folder of images a person, whose sorted names are the target's classes.

    enrolment: another such folder of the same people, with images that the target never saw; or how many images of
        each person in `folder` are set aside as that, drawn with `seed`: the others are what the target is trained on.
    strangers: a folder like `folder`, of other people, whom nothing here was trained on: with them thresholds rest on
        more comparisons. Those with as many images as most people's enrolment has are enrolled too, with so many, as
        distractors: ranks are among all who are enrolled.
    public: a folder of public images, at any depth, for the public control and the overlap check.
    attacked: audit so many people only, drawn with `seed`; all are enrolled, so the others still count as strangers.
    size: height and width that all images are fitted to, the rest cut off; None: they must have one size.
    """

    name: str
    folder: str  # or "asset:NAME/..."
    enrolment: Count | str = 5
    strangers: str | None = None
    public: str | None = None
    attacked: Count | None = None
    size: tuple[Count, Count] | None = None
    seed: Whole = 0

    def load(self) -> People:
        """Reads every image. Raises GmiError where a folder, a person or an image cannot be used, with what to do."""
        folder = images.folder(self.folder, "data.folder")
        names, own = images.people(folder)
        if isinstance(self.enrolment, int):
            _refuse_few(own, self.enrolment)
            photos = _split(names, own, self.enrolment, self.seed, ("enrolment", "training"))
        else:
            photos = [Photo(path, name, "training", person) for path, name, person in own]
            photos += _enrolment(names, images.folder(self.enrolment, "data.enrolment"))
        if self.attacked is not None and self.attacked > len(names):
            raise GmiError(f"data.attacked is {self.attacked}, but {folder} has {len(names)} people.")
        if self.strangers is not None:
            count = median_low(Counter(photo.person for photo in photos if photo.role == "enrolment").values())
            crowd = images.people(images.folder(self.strangers, "data.strangers"))
            photos += _split(*crowd, count, self.seed, ("distractors", "strangers"), len(names))
        if self.public is not None:
            where = images.folder(self.public, "data.public")
            photos += [
                Photo(path, path.relative_to(where).as_posix(), "public", -1)
                for path in images.public(self.public, "data.public")
            ]
        roles = {role: [photo for photo in photos if photo.role == role] for role in get_args(Role)}
        training, enrolment = (_read(roles[role], self.size) for role in ("training", "enrolment"))
        if training.bytes.shape[1:] != enrolment.bytes.shape[1:]:
            raise GmiError(
                f"Training images are {_shape(training)} and enrolment images {_shape(enrolment)} (channels, height, "
                "width): set data.size, and convert them all to grey or all to colour."
            )
        _distinct(photos, training, enrolment)
        size = self.size or (training.bytes.shape[2], training.bytes.shape[3])
        distractors, strangers, public = (
            _read(roles[role], size) if roles[role] else None for role in ("distractors", "strangers", "public")
        )
        for some in (distractors, strangers):
            _refuse_known(some, training, enrolment, public)
        read = (training, enrolment, distractors, strangers, public)
        digests = [digest for some in read if some is not None for digest in some.digests]
        files = {
            f"{photo.role}/{photo.name}": [
                photo.role,
                names[photo.person] if photo.role in ("training", "enrolment") else "",
                digest,
            ]
            for photo, digest in zip((photo for some in roles.values() for photo in some), digests, strict=True)
        }
        drawn = Rng([seed_of(self.seed, "attacked")]).uniform(len(names))[0].argsort()[: self.attacked]
        return People(names, tuple(sorted(drawn.tolist())), training, enrolment, files, public, distractors, strangers)


def _digest(files: dict[str, list[str]]) -> str:
    return hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()


def _split(
    names: Sequence[str],
    own: Sequence[tuple[Path, str, int]],
    count: int,
    seed: int,
    roles: tuple[Role, Role],
    first: int = 0,
) -> list[Photo]:
    """So many images of each person get the first role, the others the second, all those of who has fewer.

    Drawn by a generator of each person's own: others' images change nothing. Persons are numbered from `first`.
    """
    photos = []
    for person, name in enumerate(names):
        mine = [(path, relative) for path, relative, whose in own if whose == person]
        order = Rng([seed_of(seed, "split", name)]).uniform(len(mine))[0].argsort().tolist()
        aside = set(order[:count] if len(mine) >= count else ())
        photos += [
            Photo(path, relative, roles[place not in aside], first + person)
            for place, (path, relative) in enumerate(mine)
        ]
    return photos


def _refuse_few(own: Sequence[tuple[Path, str, int]], count: int) -> None:
    """Raises GmiError for a person whose images would all be set aside."""
    for person, found in Counter(person for _, _, person in own).items():
        if found <= count:
            path = next(path for path, _, whose in own if whose == person)
            raise GmiError(
                f"{path.parent} has {found} image{'s' * (found != 1)}: with data.enrolment {count} each person needs "
                f"at least {count + 1}."
            )


def _enrolment(names: tuple[str, ...], folder: Path) -> list[Photo]:
    enrolled, found = images.people(folder)
    if enrolled != names:
        odd = sorted(set(enrolled) ^ set(names))
        raise GmiError(f"{folder} must hold the same people as data.folder; only one of the two has {odd[0]!r}.")
    return [Photo(path, name, "enrolment", person) for path, name, person in found]


def _read(photos: Sequence[Photo], size: tuple[int, int] | None) -> Images:
    return images.read([photo.path for photo in photos], [photo.person for photo in photos], size)


def _distinct(photos: Sequence[Photo], training: Images, enrolment: Images) -> None:
    """Raises GmiError where an enrolment image was trained on: it would judge memory, not identity."""
    known = dict(zip(training.digests, (one for one in photos if one.role == "training"), strict=True))
    for photo, digest in zip((one for one in photos if one.role == "enrolment"), enrolment.digests, strict=True):
        if digest in known:
            raise GmiError(f"{photo.path} is the same file as {known[digest].path}: enrolment images must be others.")


def _refuse_known(strangers: Images | None, training: Images, enrolment: Images, public: Images | None) -> None:
    """Raises GmiError for strangers who are none, or who could not be told from the people by more than their faces."""
    if strangers is None:
        return
    if same := set(strangers.digests).intersection([*training.digests, *enrolment.digests]):
        raise GmiError(f"data.strangers: {len(same)} of its files show the people themselves: remove them.")
    if public is not None and (same := set(strangers.digests).intersection(public.digests)):
        raise GmiError(f"data.strangers: {len(same)} of its files lie in data.public too: remove them there.")
    if strangers.bytes.shape[1] != training.bytes.shape[1]:
        raise GmiError("data.strangers: its images and the people's must all be grey or all be in colour.")


def _shape(some: Images) -> str:
    return "x".join(map(str, some.bytes.shape[1:]))
