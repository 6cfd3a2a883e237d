"""Outputs of a model: whom each of them means, where they are not the people in sorted order."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

from torch import Tensor

from gmi.assets.catalogue import resolve
from gmi.errors import GmiError, because
from gmi.settings.mistakes import suggestion


@dataclass(frozen=True)
class Outputs:
    """The outputs of a model, in its own order."""

    names: tuple[str, ...]  # of each output (D,); those of people are their folders'
    columns: tuple[int, ...]  # the output that belongs to each person (K,)

    @classmethod
    def sorted(cls, people: tuple[str, ...]) -> "Outputs":
        """The people in sorted order, and nobody else."""
        return cls(people, tuple(range(len(people))))

    @property
    def plain(self) -> bool:
        """True where they are the people in their order."""
        return self.columns == tuple(range(len(self.names)))

    def digest(self, model: str) -> str:
        """The digest of a model with these outputs; the model's own where they are plain."""
        return model if self.plain else sha256(f"{model} {self.columns}".encode()).hexdigest()

    def of_people(self, answers: Tensor) -> Tensor:
        """The people's numbers (N, K) among those of all outputs (N, D)."""
        return answers if self.plain else answers[:, list(self.columns)]

    def renamed(self, means: Sequence[str]) -> str:
        """The file's text if the numbers of each person in turn mean these people (K,) instead."""
        names = list(self.names)
        for column, name in zip(self.columns, means, strict=True):
            names[column] = name
        return "".join(f"{name}\n" for name in names)

    def people(self, labels: Tensor) -> Tensor:
        """The people (N, 1) whom labels (N, 1), which are numbers of outputs, mean. Every output is a person's."""
        order = labels.new_empty(len(self.names))
        order[list(self.columns)] = labels.new_tensor(range(len(self.columns)))
        return order[labels.long()]


@dataclass(frozen=True)
class Labels:
    """Names by which a model calls its outputs in its answers."""

    names: tuple[str, ...]  # of each output (D,)
    stated: bool  # whether the configuration names them; else they are the people's

    @classmethod
    def of(cls, order: Outputs, classes: tuple[str, ...] | None) -> "Labels":
        """Those that target.classes names; None: as in `order`. Raises GmiError if it has another number of names."""
        names = order.names if classes is None else tuple(_composed(name) for name in classes)
        if len(names) != len(order.names):
            raise GmiError(
                f"target.classes names {len(names)} classes, and there are {len(order.names)} outputs: if some are of "
                "nobody in data.folder, name all outputs in target.outputs, these as background."
            )
        if classes is not None and len({*names}) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise GmiError(f"target.classes names {twice} twice: each output needs a name of its own.")
        return cls(names, classes is not None)

    def number(self, label: object) -> int:
        """The output that a label means: by its name, or else by its place from 0 on.

        Where names are numbers themselves, a number is a name if target.classes states them; if it does not, it must
        mean the same both ways. Raises GmiError where it does not, or where there is no such output.
        """
        text = str(int(label)) if isinstance(label, float) and label.is_integer() else _composed(str(label))
        if isinstance(label, bool) or not (text.isdecimal() or isinstance(label, str)):
            raise GmiError(f"The model answers {label!r} where a class should be.")
        count = int(text) if text.isdecimal() else -1
        named = self._places.get(text, self._numbers.get(count))
        place = count if 0 <= count < len(self.names) else None
        if not self._numbers or count < 0:
            meant = place if named is None else named
        elif self.stated or named == place:
            meant = named
        else:
            raise GmiError(
                f"The model answers {label!r}, and as classes are called by numbers it may be a name or a place: list "
                "the model's names of its outputs, in their order, in target.classes."
            )
        if meant is None:
            mend = (
                "it is none of target.classes"
                if self.stated
                else "set target.classes, or target.outputs if it knows others, too"
            )
            near = suggestion(str(label), self.names)
            raise GmiError(f"The model answers with a class {label!r} that the data lacks{near}: {mend}.")
        return meant

    @cached_property
    def _places(self) -> dict[str, int]:
        """The first output of each name."""
        return {name: place for place, name in reversed([*enumerate(self.names)])}

    @cached_property
    def _numbers(self) -> dict[int, int]:
        """The outputs whose names are numbers, by these."""
        return {int(name): place for name, place in self._places.items() if name.isdecimal()}


def _composed(name: str) -> str:
    """A name in Unicode's normal form NFC, as those of folders are."""
    return unicodedata.normalize("NFC", name)


Named = str | tuple[str, ...] | None
"""What a configuration says of the outputs: `outputs` reads it."""


def outputs(given: Named, people: tuple[str, ...], own: tuple[str, ...] | None = None) -> Outputs:
    """The outputs that a configuration names.

    Args:
        given: their names in the model's order, or a text file with one a line; "natural": the people, numbers in
            their names by size (2 before 10); "model": by the model's own names; None: the people in sorted order. A
            name that is no person's (a background class, people who are not audited) is named, too: what that output
            says is ignored.
        people: names of the people (K,).
        own: the model's own names of its outputs; None: it has none.
    Raises GmiError where the file cannot be read, where a person is not named or named twice, and where nothing is said
    and the model itself names the people in another order.
    """
    own = None if own is None else tuple(_composed(name) for name in own)
    if given is None:
        if own is not None and own != people and {*own} >= {*people}:
            raise GmiError(
                "The model names its outputs itself (id2label), and they are not the people in sorted order: set "
                "target.outputs: model."
            )
        return Outputs.sorted(people)
    names, where = _named(given, people, own)
    for person in people:
        if names.count(person) != 1:
            raise GmiError(
                f"target.outputs: {person} stands {names.count(person)} times in {where}: name each output once, a "
                "person's by the name of the folder."
            )
    return Outputs(names, tuple(names.index(person) for person in people))


def _named(
    given: str | tuple[str, ...], people: tuple[str, ...], own: tuple[str, ...] | None
) -> tuple[tuple[str, ...], str]:
    """The names of the outputs, and where they stand. Raises GmiError where they cannot be read."""
    if isinstance(given, tuple):
        return tuple(_composed(name) for name in given), "the list"
    if given == "natural":
        return tuple(sorted(people, key=_natural)), "the people"
    if given == "model":
        if own is None:
            raise GmiError("target.outputs: this model has no names for its outputs: name them, or a file with them.")
        return own, "the model's own names (id2label)"
    path = resolve(given)
    try:
        text = _composed(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise GmiError(f"target.outputs: {path} cannot be read ({because(error)}).") from error
    return tuple(line.strip() for line in text.splitlines() if line.strip()), str(path)


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts numbers within names by size."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
