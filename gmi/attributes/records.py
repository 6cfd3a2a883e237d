"""Records of people: what anybody may know of them, the outcome that a model predicts, and the sensitive attribute."""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import replace
from hashlib import sha256
from io import StringIO
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from gmi.assets.catalogue import resolve
from gmi.errors import GmiError
from gmi.settings import settings

Array = NDArray[np.float64]
_MISSING = ("", "?", "na", "n/a", "nan", "null")  # as tables write it; in lower case


@plain_dataclass(frozen=True)
class Column:
    """values: its categories; None: it holds numbers."""

    name: str
    values: tuple[str, ...] | None


@plain_dataclass(frozen=True)
class Layout:
    """known: columns of `Records.known`, in order; a model's inputs have the sensitive one after them."""

    known: tuple[Column, ...]
    sensitive: Column
    outcome: Column

    @property
    def inputs(self) -> tuple[Column, ...]:
        return (*self.known, self.sensitive)

    @property
    def choices(self) -> int:
        """Values that the sensitive attribute may have."""
        return len(self.sensitive.values or ())

    @property
    def classes(self) -> int | None:
        """Of the outcome; None: it is a number."""
        return None if self.outcome.values is None else len(self.outcome.values)


@plain_dataclass(frozen=True)
class Records:
    """Numbers are as they are; of a category stands its place among the column's values."""

    known: Array  # (N, D)
    sensitive: NDArray[np.int64]  # (N,)
    outcome: Array  # (N,)

    def __len__(self) -> int:
        return len(self.known)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "Records":
        return Records(self.known[rows], self.sensitive[rows], self.outcome[rows])

    def inputs(self, sensitive: int | NDArray[np.int64]) -> Array:
        """What a model takes (N, D + 1), with that value of the sensitive attribute."""
        column = np.broadcast_to(np.asarray(sensitive, np.float64), len(self))
        return np.column_stack([self.known, column])

    def rows(self) -> Array:
        """Everything (N, D + 2)."""
        return np.column_stack([self.context(), self.sensitive.astype(np.float64)])

    def context(self) -> Array:
        """What the adversary knows of each person (N, D + 1): everything but the sensitive attribute."""
        return np.column_stack([self.known, self.outcome])

    def hidden(self) -> "Records":
        """As an attack gets them: without the sensitive attribute."""
        return replace(self, sensitive=np.full(len(self), -1))


@plain_dataclass(frozen=True)
class Tables:
    """The same people are never in two of them."""

    layout: Layout
    training: Records  # private: what the target learns from
    held_out: Records  # private, and not learnt from
    public: Records  # the adversary's
    digest: str


@settings
class Table:
    """A CSV file with a header, and who of it plays which part.

    sensitive, outcome: names of columns. numbers: those that hold numbers; the others hold categories. without: those
    that are not used. training, public: how many records the target learns from, and the adversary has; the rest is
    held out. public_file: where the adversary's records, of other people, come from, if not from the same file.
    shuffled: whether the parts are drawn from the whole file, or follow one another: training, public, held-out.
    """

    name: str
    file: str
    sensitive: str
    outcome: str
    numbers: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    training: Annotated[int, Field(ge=10)]
    public: Annotated[int, Field(ge=10)]
    public_file: str | None = None
    shuffled: bool = True

    def load(self, seed: int) -> Tables:
        """Raises GmiError where the file cannot be read, where a cell is empty, where a column says nothing."""
        names, rows, digest = _read(self.file)
        wanted = [one for one in names if one not in self.without]
        for key, asked in {
            "sensitive": (self.sensitive,),
            "outcome": (self.outcome,),
            "numbers": self.numbers,
            "without": self.without,
        }.items():
            for one in asked:
                if one not in names or (key != "without" and one not in wanted):
                    raise GmiError(f"data.{key}: {self.file} has no column {one!r}; it has {', '.join(wanted)}.")
        if self.sensitive == self.outcome:
            raise GmiError("data.sensitive and data.outcome name one column: what is predicted is known to everybody.")
        if self.sensitive in self.numbers:
            raise GmiError(f"data.numbers: {self.sensitive} is sensitive, which must be categories: bin its numbers.")
        for one in (self.sensitive, self.outcome):
            if len({row[names.index(one)] for row in rows}) < 2:
                raise GmiError(f"data: all records of {self.file} have one {one}: there is nothing to tell apart.")
        columns = {one: _column(one, rows, names, one in self.numbers, self.file) for one in wanted}
        known = tuple(columns[one] for one in wanted if one not in (self.sensitive, self.outcome))
        if not known:
            raise GmiError(
                "data: there is no column but the sensitive one and the outcome: nothing is known of anybody."
            )
        layout = Layout(known, columns[self.sensitive], columns[self.outcome])
        records = _records(layout, names, rows, self.file)
        order = np.random.default_rng(seed).permutation(len(records)) if self.shuffled else np.arange(len(records))
        if self.public_file is None:
            taken = self.training + self.public
            public = records.take(order[self.training : taken])
        else:
            names, rows, more = _read(self.public_file)
            if missing := [one.name for one in (*layout.inputs, layout.outcome) if one.name not in names]:
                raise GmiError(f"data.public_file: {self.public_file} has no column {', '.join(missing)}.")
            others = _records(layout, names, rows, self.public_file)
            shared, chance = _shared(others, records)
            if shared > chance + 0.1:
                raise GmiError(
                    f"data.public_file: {100 * shared:.0f} % of the records of {self.public_file} are in {self.file}, "
                    "too: the adversary's records are of other people; remove them there."
                )
            chosen = np.random.default_rng([seed, 1]).permutation(len(others))[: self.public]
            taken, public, digest = self.training, others.take(chosen), sha256((digest + more).encode()).hexdigest()
            if len(others) < self.public:
                raise GmiError(f"data.public: {self.public_file} has {len(others)} records, not {self.public}.")
        if len(records) < taken + 10:
            raise GmiError(
                f"data: {self.file} has {len(records)} records, and ten or more must be held out beside {taken}."
            )
        parts = Tables(layout, records.take(order[: self.training]), records.take(order[taken:]), public, digest)
        _refuse_saying_nothing(parts)
        return parts


def _read(file: str) -> tuple[list[str], list[list[str]], str]:
    """Header, rows and SHA-256."""
    path = resolve(file)
    try:
        content = path.read_bytes()
        names, *rows = csv.reader(StringIO(content.decode("utf-8-sig"), newline=""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise GmiError(f"data: {path} cannot be read as a CSV file in UTF-8 ({error}).") from error
    except ValueError as error:
        raise GmiError(f"data: {path} is empty.") from error
    names = [one.strip() for one in names]
    if len(names) == 1 and ";" in names[0]:
        raise GmiError(f"data: {path} is separated by semicolons: save it with commas.")
    if len(set(names)) < len(names):
        raise GmiError(f"data: two columns of {path} have one name: rename one.")
    for place, row in enumerate(rows):
        if len(row) != len(names):
            raise GmiError(f"data: line {place + 2} of {path} has {len(row)} cells, and the header {len(names)}.")
    return names, [[one.strip() for one in row] for row in rows], sha256(content).hexdigest()


def _column(name: str, rows: Sequence[Sequence[str]], names: Sequence[str], number: bool, file: str) -> Column:
    cells = [row[names.index(name)] for row in rows]
    for place, one in enumerate(cells):
        if one.lower() in _MISSING:
            shown = f" ({one!r})" if one else ""
            raise GmiError(f"data: line {place + 2} of {file} has no {name}{shown}: fill it in or remove the line.")
    values = sorted(set(cells))
    if len(values) < 2:
        raise GmiError(f"data: {name} is the same in all of {file}: leave it out with data.without.")
    if not number and len(values) > 100:
        raise GmiError(f"data: {name} has {len(values)} values: is it one of data.numbers, or a name?")
    return Column(name, None if number else tuple(values))


def _shared(others: Records, records: Records) -> tuple[float, float]:
    """The share of others that equal a record, and of records that equal another: so many strangers would."""
    found = Counter(map(tuple, records.rows()))
    twins = sum(count for count in found.values() if count > 1)
    return float(np.mean([row in found for row in map(tuple, others.rows())])), twins / len(records)


def _records(layout: Layout, names: Sequence[str], rows: Sequence[Sequence[str]], file: str) -> Records:
    def coded(column: Column) -> Array:
        place = names.index(column.name)
        found = np.empty(len(rows))
        codes = None if column.values is None else {one: code for code, one in enumerate(column.values)}
        for line, row in enumerate(rows):
            try:
                found[line] = float(row[place]) if codes is None else codes[row[place]]
            except (ValueError, KeyError) as error:
                what = "no number" if codes is None else f"none of its values {', '.join(column.values or ())}"
                raise GmiError(
                    f"data: line {line + 2} of {file} has {row[place]!r} as {column.name}, which is {what}."
                ) from error
        if not np.isfinite(found).all():
            line = int(np.flatnonzero(~np.isfinite(found))[0])
            raise GmiError(
                f"data: line {line + 2} of {file} has no finite {column.name}: fill it in or remove the line."
            )
        return found

    known = np.column_stack([coded(one) for one in layout.known])
    return Records(known, coded(layout.sensitive).astype(np.int64), coded(layout.outcome))


def _refuse_saying_nothing(parts: Tables) -> None:
    for name, some in (("training", parts.training), ("public", parts.public), ("held-out", parts.held_out)):
        for column, values in ((parts.layout.outcome, some.outcome), (parts.layout.sensitive, some.sensitive)):
            if len(np.unique(values)) < 2:
                raise GmiError(f"data: all {name} records have one {column.name}: there is nothing to tell apart.")
    for place, column in enumerate(parts.layout.known):
        if len(np.unique(parts.training.known[:, place])) < 2:
            raise GmiError(f"data: {column.name} is the same in all training records: leave it out with data.without.")
