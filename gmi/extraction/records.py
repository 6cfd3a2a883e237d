"""Training records of a generative model, images for a control to learn from, and images that neither model saw."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch

from gmi.data import folders, images
from gmi.data.images import Images
from gmi.errors import GmiError
from gmi.extraction.copies import distances
from gmi.rng import Rng, seed_of
from gmi.settings import Count, Whole, settings
from gmi.views import grey

SAME = 0.02  # distance below which two files hold one photograph: encoding changes less, another photograph far more


@dataclass(frozen=True)
class Records:
    """The images of an audit. Their `classes` are people, so that intervals count people, not images."""

    training: Images  # private images that the target learnt from
    other: Images | None  # images that the control learns from, if it is trained here
    held_out: Images  # images of other people that neither model saw
    alike: Images | None = None  # more images of the trained people, which neither model saw
    left_out: tuple[str, ...] = ()  # what lies in the folders and was not read as an image, each with the reason

    @property
    def digest(self) -> str:
        """SHA-256 over the files of all parts."""
        parts = (self.training, self.other, self.held_out, self.alike)
        return sha256("/".join("" if part is None else part.digest for part in parts).encode()).hexdigest()


@settings
class Photographs:
    """The photographs on which the target was trained, and others of the same kind.

    A folder of photographs holds one folder of images for each person, or images alone, each of another person.
    """

    name: str  # name of the data, for reports
    folder: str  # photographs that the target was trained on; or "asset:NAME/..."
    # images that no model saw: another such folder, of other people; or how many of the people in `folder` are set
    # aside, drawn with `seed`
    held_out: Count | str
    other: Whole = 0  # people in `folder` who are set aside for a control to learn from
    images: Count | None = None  # most images of each person; None: all
    # more images of the trained people, from which no model learns, to tell copies of a record from images of the same
    # person: how many of each person, or another folder with the same names of people; None: there are none
    alike: Count | str | None = None
    size: Count = 32  # height and width to which images are fitted
    grey: bool = False  # True: one channel, False: three
    seed: Whole = 0  # seed of the choice of people

    def __post_init__(self) -> None:
        if isinstance(self.alike, int) and self.images is None:
            raise ValueError("alike: without images every photograph is learnt from; say of how many of each person")

    def load(self) -> Records:
        """The images, read from their files.

        Raises GmiError if a folder or an image cannot be used, for too few people, and if one file has two roles.
        """
        where = folders.folder(self.folder, "data.folder")
        people = self._people(where)
        count = self.held_out if isinstance(self.held_out, int) else 0
        start = count + self.other  # of the trained people
        if len(people) - start < 2:
            raise GmiError(
                f"data: {where} has {len(people)} people, and {count} held out and {self.other} for the control leave "
                "fewer than two."
            )
        order = Rng([seed_of(self.seed, "held out")]).uniform(len(people))[0].argsort().tolist()
        names = [list(people)[index] for index in order]
        paths = [people[name] for name in names]
        if isinstance(self.held_out, str):
            held_out = list(self._people(folders.folder(self.held_out, "data.held_out")).values())
        else:
            held_out = paths[:count]
        other, trained = paths[count:start], paths[start:]
        if isinstance(self.alike, str):
            others = self._people(folders.folder(self.alike, "data.alike"))
            alike = [others.get(name, []) for name in names[start:]]
        else:
            alike = [group[self.images :][: self.alike] for group in trained] if self.alike else []
        records = Records(
            self._read([group[: self.images] for group in trained], 0),
            self._read([group[: self.images] for group in other], len(people)) if other else None,
            self._read([group[: self.images] for group in held_out], 2 * len(people)),
            self._read(alike, 0) if any(alike) else None,
            tuple(self._left_out()),
        )
        if self.alike and records.alike is None:
            raise GmiError(f"data.alike: there are no more photographs of the people in {where}.")
        if len(held_out) < 2:
            raise GmiError("data.held_out: two people or more must be held out, to see what chance finds of them.")
        _refuse_shared(records)
        return records

    def _people(self, folder: Path) -> dict[str, list[Path]]:
        """The images of each person, by the name of their folder, or of the image that is all of a person."""
        flat = {path.name: [path] for path in folders.files(folder) if path.parent == folder}
        inner = folders.within(folder)
        if not flat and not inner:
            raise GmiError(f"data: {folder} holds no image.")
        for person in inner:
            folders.refuse_empty(person)
        return flat | {person.name: folders.files(person) for person in inner}

    def _left_out(self) -> Iterator[str]:
        for place in dict.fromkeys((self.folder, self.held_out, self.alike)):
            if isinstance(place, str):
                root = folders.folder(place, "data")
                read = folders.within(root)  # a link to a person's folder is followed
                left = {path: why for path, why in folders.listing(root)[1].items() if path not in read}
                left |= {path: why for person in read for path, why in folders.listing(person)[1].items()}
                for path, why in left.items():
                    yield f"{path.relative_to(root.parent).as_posix()}: {why}"

    def _read(self, people: Sequence[Sequence[Path]], first: int) -> Images:
        """The images of these people, numbered from `first`."""
        paths = [path for group in people for path in group]
        classes = [first + person for person, group in enumerate(people) for _ in group]
        every = images.read(paths, classes, (self.size, self.size))
        pixels = (grey(every.pixels) * 255).round().byte() if self.grey else every.bytes.expand(-1, 3, -1, -1)
        return Images(pixels.contiguous(), torch.tensor(classes), every.digests)


def _refuse_shared(records: Records) -> None:
    """Raises GmiError if a file from which one model learns is held out, or the other model learns from it, too."""
    for key, unseen in (("held_out", records.held_out), ("alike", records.alike)):
        for group, what in ((records.other, "a control"), (records.training, "the target")):
            if unseen is not None and group is not None and (same := unseen.among(group)):
                raise GmiError(f"data.{key}: {len(same)} of its images {what} is trained on, too: remove them there.")
    if records.other is not None and (same := records.other.among(records.training)):
        raise GmiError(f"data: the target and the control would learn from {len(same)} equal images: remove one each.")
    for unseen, what in ((records.alike, "alike"), (records.held_out, "held out")):
        twins = 0 if unseen is None else int((distances(unseen.pixels, records.training.pixels) < SAME).any(1).sum())
        if twins:
            raise GmiError(
                f"data: {twins} photographs that are {what} are records once more, in another file: remove them, or no "
                "copy of a record can be told from them."
            )
