"""The images that a generative model learnt from, those that a control learns from, and those that neither saw."""

from collections.abc import Sequence
from dataclasses import dataclass as plain_dataclass
from hashlib import sha256
from itertools import groupby
from pathlib import Path

import torch

from gmi.data import images
from gmi.data.images import Images
from gmi.errors import GmiError
from gmi.rng import Rng, seed_of
from gmi.settings import Count, Whole, settings
from gmi.views import grey


@plain_dataclass(frozen=True)
class Records:
    """`classes` are people: no interval takes two images of one person for two people."""

    trained: Images  # private: what the target learnt from
    other: Images | None  # what the control learns from, if it is trained here
    held_out: Images  # what neither saw
    alike: Images | None = None  # of the trained people, and seen by neither

    @property
    def digest(self) -> str:
        parts = (self.trained, self.other, self.held_out, self.alike)
        return sha256("/".join("" if one is None else one.digest for one in parts).encode()).hexdigest()


@settings
class Photographs:
    """A folder of what the target was trained on: one folder of images a person, or images alone, each a person's.

    held_out: another such folder of the same kind, with none of these people; or how many of the people in `folder` are
    set aside, drawn with `seed`. other: how many more are set aside for a control to learn from. images: of each
    person, at most. alike: how many more of each trained person no model learns from, or another folder of such, with
    the same names of people: what is a copy of a record, and what only shows the same person, is told by them. size:
    height and width that all are fitted to. grey: one channel.
    """

    name: str
    folder: str
    held_out: Count | str
    other: Whole = 0
    images: Count | None = None
    alike: Count | str | None = None
    size: Count = 32
    grey: bool = False
    seed: Whole = 0

    def __post_init__(self) -> None:
        if isinstance(self.alike, int) and self.images is None:
            raise ValueError("alike: without images every photograph is learnt from; say of how many of each person")

    def load(self) -> Records:
        """Raises GmiError where a folder or an image cannot be used, where too few are left, and for equal files."""
        where = images.folder(self.folder, "data.folder")
        people = self._people(where)
        aside = self.held_out if isinstance(self.held_out, int) else 0
        if len(people) - aside - self.other < 2:
            raise GmiError(
                f"data: {where} has {len(people)} people, and {aside} held out and {self.other} for the control leave "
                "fewer than two."
            )
        order = Rng([seed_of(self.seed, "held out")]).uniform(len(people))[0].argsort().tolist()
        names = [list(people)[place] for place in order]
        drawn = [people[name] for name in names]
        if isinstance(self.held_out, str):
            held = list(self._people(images.folder(self.held_out, "data.held_out")).values())
        else:
            held = drawn[:aside]
        other = drawn[aside : aside + self.other]
        trained = drawn[aside + self.other :]
        if isinstance(self.alike, str):
            others = self._people(images.folder(self.alike, "data.alike"))
            more = [others.get(name, []) for name in names[aside + self.other :]]
        else:
            more = [some[self.images :][: self.alike] for some in trained] if self.alike else []
        found = Records(
            self._read([some[: self.images] for some in trained], 0),
            self._read([some[: self.images] for some in other], len(people)) if other else None,
            self._read([some[: self.images] for some in held], 2 * len(people)),
            self._read(more, 0) if any(more) else None,
        )
        if self.alike and found.alike is None:
            raise GmiError(f"data.alike: there are no more photographs of the people in {where}.")
        if len(held) < 2:
            raise GmiError("data.held_out: two people or more must be held out, to see what chance finds of them.")
        unseen = {*found.held_out.digests, *(found.alike.digests if found.alike else ())}
        for some, what in ((found.other, "a control"), (found.trained, "the target")):
            if some is not None and (same := unseen.intersection(some.digests)):
                raise GmiError(
                    f"data: {len(same)} files that {what} is trained on are held out, too: remove them there."
                )
        if found.other is not None and (same := set(found.other.digests).intersection(found.trained.digests)):
            raise GmiError(
                f"data: the target and the control would learn from {len(same)} equal files: remove one each."
            )
        return found

    def _people(self, folder: Path) -> dict[str, list[Path]]:
        """The images of each, by the name of their folder, or of an image that is a person's own."""
        found = images.files(folder)
        if not found:
            raise GmiError(f"data: {folder} holds no image.")
        flat = {path.name: [path] for path in found if path.parent == folder}
        inner = [path for path in found if path.parent != folder]
        nested = groupby(inner, key=lambda path: path.relative_to(folder).parts[0])
        return flat | {name: list(some) for name, some in nested}

    def _read(self, people: Sequence[Sequence[Path]], first: int) -> Images:
        paths = [path for some in people for path in some]
        whose = [first + place for place, some in enumerate(people) for _ in some]
        every = images.read(paths, whose, (self.size, self.size))
        pixels = (grey(every.pixels) * 255).round().byte() if self.grey else every.bytes.expand(-1, 3, -1, -1)
        return Images(pixels.contiguous(), torch.tensor(whose), every.digests)
