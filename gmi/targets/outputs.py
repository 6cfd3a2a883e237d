"""Outputs of a model: whom each of them means, where they are not the people in sorted order."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from torch import Tensor

from gmi.assets.catalogue import resolve
from gmi.errors import GmiError, because


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


def outputs(file: str | None, people: tuple[str, ...]) -> Outputs:
    """The outputs that a text file names, one name a line in the model's order; None: the people in sorted order.

    A name that is no person's (a background class, people who are not audited) has a line, too; what that output says
    is ignored. Raises GmiError where the
    file cannot be read, a person is not in it, or is in it twice.
    """
    if file is None:
        return Outputs.sorted(people)
    path = resolve(file)
    try:
        text = unicodedata.normalize("NFC", path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise GmiError(f"target.outputs: {path} cannot be read ({because(error)}).") from error
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    for person in people:
        if names.count(person) != 1:
            raise GmiError(
                f"target.outputs: {person} stands {names.count(person)} times in {path}: give one line to each output, "
                "with the name of the person's folder."
            )
    return Outputs(names, tuple(names.index(person) for person in people))
