"""The people behind a target: the photographs it was trained on, and others that it never saw."""

import csv
import hashlib
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from statistics import median_low
from typing import Literal, get_args

from gmi.assets.catalogue import resolve
from gmi.data import folders, images
from gmi.data.images import Images
from gmi.errors import GmiError, because
from gmi.report.subjects import reworded
from gmi.rng import Rng, seed_of
from gmi.settings import Count, Whole, settings

_NAMED = 10  # things left out that a table names
Role = Literal["training", "enrolment", "distractors", "strangers", "public"]


@dataclass(frozen=True)
class Photo:
    """An image file and its role."""

    path: Path
    name: str  # path relative to its folder
    role: Role
    person: int  # index of the person, strangers numbered after the people; -1 for a public image


@dataclass(frozen=True)
class People:
    """The private set, in its roles."""

    names: tuple[str, ...]  # names of the classes: (K,)
    attacked: tuple[int, ...]  # classes that are attacked, ascending
    training: Images  # images that the target was trained on
    enrolment: Images  # other images of the same people, with which reconstructions are compared
    files: dict[str, list[str]]  # the split: name -> role, person, SHA-256
    public: Images | None = None  # images that everybody may see
    distractors: Images | None = None  # enrolled images of other people, which count in the ranks
    strangers: Images | None = None  # more images of other people: comparisons with them set thresholds
    groups: tuple[str, ...] | None = None  # the group of each person (K,): people who share what is labelled
    left_out: tuple[str, ...] = ()  # what lies in the folders and was not read as an image, each with the reason
    subject: Literal["faces", "objects"] = "faces"  # what the classes are: the words for them follow it

    @property
    def coloured(self) -> bool:
        """True when the photographs are in colour; then reconstructions are released in colour too."""
        return self.enrolment.bytes.shape[1] == 3

    @cached_property
    def digest(self) -> str:
        """SHA-256 over all files with their roles, people and groups."""
        return _digest(self.files if self.groups is None else self.files | {"": list(self.groups)})

    def copied(self, others: Images) -> int:
        """How many other images are training or enrolment images of these people."""
        return len({*others.among(self.training), *others.among(self.enrolment)})

    def __str__(self) -> str:
        """A table of what was read, and what was left out."""
        named = {"training": self.training, "enrolment": self.enrolment, "strangers enrolled": self.distractors}
        named |= {"more strangers": self.strangers, "public": self.public}
        say = partial(reworded, subject=self.subject)
        lines = [f"{'read':23}{say('people'):>8}{'images':>8}  {'height x width':16}colour"]
        for role, group in named.items():
            if group is not None:
                people = "" if role == "public" else f"{len(group.classes.unique()):,}"
                height, width = group.bytes.shape[2:]
                colour = "grey" if group.bytes.shape[1] == 1 else "colour"
                lines.append(f"{say(role):23}{people:>8}{len(group):>8,}  {f'{height} x {width}':16}{colour}")
        if self.left_out:
            lines.append(f"left out: {len(self.left_out):,} (what is no image, and what cannot be told to be one)")
            lines += [f"  {each}" for each in self.left_out[:_NAMED]]
            lines += ["  ..."] * (len(self.left_out) > _NAMED)
        return "\n".join(lines)

    @cached_property
    def private_digest(self) -> str:
        """SHA-256 over the people's own files only: training and enrolment images."""
        return _digest({name: file for name, file in self.files.items() if file[0] in ("training", "enrolment")})


@settings
class Faces:
    """The people of an audit: a folder that has one folder of images for each person."""

    name: str  # name of the data set, for reports and for the independence of judges
    # what the classes are: people by their faces, or objects of any kind, with judges to match
    subject: Literal["faces", "objects"] = "faces"
    folder: str  # or "asset:NAME/..."; holds a folder per person, whose sorted names are the target's classes
    # images that the target never saw, to compare reconstructions with: another such folder of the same people; or how
    # many images of each person in `folder` are set aside, drawn with `seed` (the target is trained on the others)
    enrolment: Count | str = 5
    # a folder like `folder`, of other people, on whom nothing here was trained: thresholds then rest on more
    # comparisons; strangers with enough images for an enrolment are enrolled too, as distractors, and count in ranks
    strangers: str | None = None
    public: str | None = None  # a folder of public images, at any depth, for the public control and the overlap check
    attacked: Count | None = None  # attack this many people, drawn with `seed`; all are enrolled; None: attack all
    # CSV file with a line for each person: the folder's name, then labels of traits (sex, age, ...). People with the
    # same labels are a group, within which an attack has to find its person to show more than traits
    groups: str | None = None
    size: tuple[Count, Count] | None = None  # height, width to which images are fitted; None: they must have one size
    seed: Whole = 0  # seed of the split and of the choice of attacked people

    def load(self) -> People:
        """The people with all images read. Raises GmiError if a folder, a person or an image cannot be used."""
        folder = folders.folder(self.folder, "data.folder")
        names, photographs = folders.people(folder)
        if isinstance(self.enrolment, int):
            _refuse_few(photographs, self.enrolment)
            photos = _split(names, photographs, self.enrolment, self.seed, ("enrolment", "training"))
        else:
            photos = [Photo(path, name, "training", person) for path, name, person in photographs]
            photos += _enrolment(names, folders.folder(self.enrolment, "data.enrolment"))
        if self.attacked is not None and self.attacked > len(names):
            raise GmiError(f"data.attacked is {self.attacked}, but {folder} has {len(names)} people.")
        if self.strangers is not None:
            count = median_low(Counter(photo.person for photo in photos if photo.role == "enrolment").values())
            crowd = folders.people(folders.folder(self.strangers, "data.strangers"))
            photos += _split(*crowd, count, self.seed, ("distractors", "strangers"), len(names))
        if self.public is not None:
            where = folders.folder(self.public, "data.public")
            photos += [
                Photo(path, path.relative_to(where).as_posix(), "public", -1)
                for path in folders.public(self.public, "data.public")
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
        for others in (distractors, strangers):
            _refuse_known(others, training, enrolment, public)
        read = (training, enrolment, distractors, strangers, public)
        digests = [digest for group in read if group is not None for digest in group.digests]
        files = {
            f"{photo.role}/{photo.name}": [
                photo.role,
                names[photo.person] if photo.role in ("training", "enrolment") else "",
                digest,
            ]
            for photo, digest in zip((photo for group in roles.values() for photo in group), digests, strict=True)
        }
        drawn = Rng([seed_of(self.seed, "attacked")]).uniform(len(names))[0].argsort()[: self.attacked]
        groups = None if self.groups is None else _groups(resolve(self.groups), names)
        attacked = tuple(sorted(drawn.tolist()))
        places = [(self.folder, False), (self.enrolment, False), (self.strangers, False), (self.public, True)]
        left = [
            each
            for place, all_of in places
            if isinstance(place, str)
            for each in folders.left_out(resolve(place), all_of)
        ]
        return People(
            names,
            attacked,
            training,
            enrolment,
            files,
            public,
            distractors,
            strangers,
            groups,
            tuple(left),
            self.subject,
        )


def _digest(files: dict[str, list[str]]) -> str:
    return hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()


def _split(
    names: Sequence[str],
    photographs: Sequence[tuple[Path, str, int]],
    count: int,
    seed: int,
    roles: tuple[Role, Role],
    first: int = 0,
) -> list[Photo]:
    """The photographs with roles: `count` of each person get the first role, the others the second.

    A person with fewer than `count` has all in the second role. Each person has a generator of their own, so that other
    people's images change nothing. People are numbered from `first`.
    """
    photos = []
    for person, name in enumerate(names):
        mine = [(path, relative) for path, relative, shown in photographs if shown == person]
        order = Rng([seed_of(seed, "split", name)]).uniform(len(mine))[0].argsort().tolist()
        chosen = set(order[:count] if len(mine) >= count else ())
        photos += [
            Photo(path, relative, roles[index not in chosen], first + person)
            for index, (path, relative) in enumerate(mine)
        ]
    return photos


def _groups(file: Path, names: tuple[str, ...]) -> tuple[str, ...]:
    """The labels of each person, joined. Raises GmiError where the file cannot be read or lacks a person."""
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            rows = [[cell.strip() for cell in row] for row in csv.reader(lines) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise GmiError(f"data.groups: {file} cannot be read ({because(error)}).") from error
    labels = {unicodedata.normalize("NFC", name): cells for name, *cells in rows}
    for name in names:
        if not any(labels.get(name, ())):
            raise GmiError(f"data.groups: {file} has no labels of {name}: give each folder one line, NAME,LABEL.")
    return tuple(", ".join(labels[name]) for name in names)


def _refuse_few(photographs: Sequence[tuple[Path, str, int]], count: int) -> None:
    """Raises GmiError for a person whose images would all be set aside."""
    counts = Counter(person for _, _, person in photographs)
    few = {person: size for person, size in counts.items() if size <= count}
    if few:
        names = {person: relative.partition("/")[0] for _, relative, person in photographs}
        listed = ", ".join(f"{names[person]} ({size})" for person, size in few.items())
        raise GmiError(
            f"With data.enrolment {count} each person needs {count + 1} images or more, and some have fewer: {listed}. "
            "Add images, or lower data.enrolment; or move their folders away, and name all outputs of the model in "
            "target.outputs, theirs as background."
        )


def _enrolment(names: tuple[str, ...], folder: Path) -> list[Photo]:
    """The photographs in a folder of enrolment images. Raises GmiError unless it holds the same people."""
    enrolled, photographs = folders.people(folder)
    if enrolled != names:
        odd = min(set(enrolled) ^ set(names))
        lack, have = (folder, "data.folder") if odd in names else ("data.folder", folder)
        raise GmiError(f"{have} has a folder of {odd} and {lack} has none: both must hold the same people.")
    return [Photo(path, name, "enrolment", person) for path, name, person in photographs]


def _read(photos: Sequence[Photo], size: tuple[int, int] | None) -> Images:
    return images.read([photo.path for photo in photos], [photo.person for photo in photos], size)


def _distinct(photos: Sequence[Photo], training: Images, enrolment: Images) -> None:
    """Raises GmiError if an enrolment image is also a training image: it would judge memory, not identity."""
    if same := enrolment.among(training):
        by_role = {role: [photo for photo in photos if photo.role == role] for role in ("training", "enrolment")}
        twin = training.among(enrolment[same[:1]])[0]
        raise GmiError(
            f"{by_role['enrolment'][same[0]].path} is the same picture as {by_role['training'][twin].path}: enrolment "
            f"images must be others ({len(same)} are not)."
        )


def _refuse_known(strangers: Images | None, training: Images, enrolment: Images, public: Images | None) -> None:
    """Raises GmiError if "strangers" include audited people or public images, or differ from the people in colour."""
    if strangers is None:
        return
    if same := {*strangers.among(training), *strangers.among(enrolment)}:
        raise GmiError(f"data.strangers: {len(same)} of its images show the people themselves: remove them.")
    if public is not None and (same := strangers.among(public)):
        raise GmiError(f"data.strangers: {len(same)} of its images lie in data.public too: remove them there.")
    if strangers.bytes.shape[1] != training.bytes.shape[1]:
        raise GmiError("data.strangers: its images and the people's must all be grey or all be in colour.")


def _shape(group: Images) -> str:
    return "x".join(map(str, group.bytes.shape[1:]))
