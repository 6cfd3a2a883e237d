"""Records of people: attributes that anybody may know, the outcome that a model predicts, and a sensitive attribute."""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from io import StringIO
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from gmi.assets.catalogue import resolve
from gmi.attributes.spelling import refuse_other_spellings, spellings, spelt
from gmi.errors import GmiError, because
from gmi.metrics.statistics import Array
from gmi.settings import settings

_MISSING = ("", "?", "na", "n/a", "nan", "null")  # how tables mark a missing value, in lower case


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    name: str
    values: tuple[str, ...] | None  # its categories; None: it holds numbers


@dataclass(frozen=True)
class Layout:
    """The roles of a table's columns."""

    features: tuple[Column, ...]  # columns of `Records.features`, in order
    sensitive: Column
    outcome: Column

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The columns of a model's inputs: the features, and after them the sensitive attribute."""
        return (*self.features, self.sensitive)

    @property
    def choices(self) -> int:
        """V, the number of values of the sensitive attribute."""
        return len(self.sensitive.values or ())

    @property
    def classes(self) -> int | None:
        """K, the number of classes of the outcome; None: it is a number."""
        return None if self.outcome.values is None else len(self.outcome.values)


@dataclass(frozen=True)
class Records:
    """Records of N people, as numbers; a category is the index of the value among its column's values."""

    features: Array  # (N, D): attributes that the adversary knows
    sensitive: NDArray[np.int64]  # (N,)
    outcome: Array  # (N,)

    def __len__(self) -> int:
        return len(self.features)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "Records":
        """The records in these rows."""
        return Records(self.features[rows], self.sensitive[rows], self.outcome[rows])

    def inputs(self, sensitive: int | NDArray[np.int64]) -> Array:
        """A model's inputs (N, D + 1), with this value, or these values (N,), of the sensitive attribute."""
        column = np.broadcast_to(np.asarray(sensitive, np.float64), len(self))
        return np.column_stack([self.features, column])

    def rows(self) -> Array:
        """All columns (N, D + 2): features, outcome, sensitive attribute."""
        return np.column_stack([self.context(), self.sensitive.astype(np.float64)])

    def context(self) -> Array:
        """The columns that the adversary knows of each person (N, D + 1): features and outcome."""
        return np.column_stack([self.features, self.outcome])

    def hidden(self) -> "Records":
        """The same records with the sensitive attribute hidden (-1), as an attack gets them."""
        return replace(self, sensitive=np.full(len(self), -1))


@dataclass(frozen=True)
class Tables:
    """The parts of a table; each person is in one of them only."""

    layout: Layout
    training: Records  # private records that the target learns from
    held_out: Records  # private records that it does not learn from
    public: Records  # the adversary's records
    digest: str  # SHA-256 of the files

    @property
    def twins(self) -> int:
        """Held-out records that equal one of training in every column: people alike, or people who stand twice."""
        known = set(map(tuple, self.training.rows()))
        return sum(row in known for row in map(tuple, self.held_out.rows()))


@settings
class Table:
    """A CSV file with a header, and the roles of its columns and rows."""

    name: str  # name of the data, for reports
    file: str  # path of the CSV file, or "asset:NAME/..."
    sensitive: str  # name of the sensitive column
    outcome: str  # name of the column that the target predicts
    numbers: tuple[str, ...] = ()  # names of columns that hold numbers; the others hold categories
    # categories that differ in case or in how a number is written ("yes" and "Yes", "1" and "1.0"): refuse them, take
    # them for the one that most records have, or keep them apart
    alike: Literal["refused", "merged", "kept"] = "refused"
    without: tuple[str, ...] = ()  # names of columns that are not used
    training: Annotated[int, Field(ge=10)]  # records that the target learns from
    public: Annotated[int, Field(ge=10)]  # records that the adversary has; the rest of the file is held out
    public_file: str | None = None  # file with the adversary's records, of other people; None: the same file
    shuffled: bool = True  # draw the parts from the whole file; False: training, public and held-out follow each other

    def load(self, seed: int) -> Tables:
        """The parts of the table. seed: of the split.

        Raises GmiError if a file cannot be read, a cell is empty, a column is uninformative, or records are too few.
        """
        names, rows, digest = _read(self.file)
        others = (*self.numbers, *self.without)
        known = {} if self.alike == "kept" else spellings(self.file, names, rows, others, self.alike == "merged")
        rows = spelt(names, rows, known)
        used = [name for name in names if name not in self.without]
        for key, columns_of_key in {
            "sensitive": (self.sensitive,),
            "outcome": (self.outcome,),
            "numbers": self.numbers,
            "without": self.without,
        }.items():
            for name in columns_of_key:
                if name not in names or (key != "without" and name not in used):
                    raise GmiError(f"data.{key}: {self.file} has no column {name!r}; it has {', '.join(used)}.")
        if self.sensitive == self.outcome:
            raise GmiError("data.sensitive and data.outcome name one column: what is predicted is known to everybody.")
        if self.sensitive in self.numbers:
            raise GmiError(f"data.numbers: {self.sensitive} is sensitive, which must be categories: bin its numbers.")
        for name in (self.sensitive, self.outcome):
            if len({row[names.index(name)] for row in rows}) < 2:
                raise GmiError(f"data: all records of {self.file} have one {name}: there is nothing to tell apart.")
        columns = {name: _column(name, rows, names, name in self.numbers, self.file) for name in used}
        features = tuple(columns[name] for name in used if name not in (self.sensitive, self.outcome))
        if not features:
            raise GmiError(
                "data: there is no column but the sensitive one and the outcome: nothing is known of anybody."
            )
        layout = Layout(features, columns[self.sensitive], columns[self.outcome])
        records = _records(layout, names, rows, self.file)
        order = np.random.default_rng(seed).permutation(len(records)) if self.shuffled else np.arange(len(records))
        if self.public_file is None:
            start = self.training + self.public  # of the held-out records
            public = records.take(order[self.training : start])
        else:
            names, rows, public_digest = _read(self.public_file)
            respelt = spelt(names, rows, known)
            if self.alike == "refused":
                refuse_other_spellings(self.public_file, names, rows, respelt)
            rows = respelt
            if missing := [column.name for column in (*layout.inputs, layout.outcome) if column.name not in names]:
                raise GmiError(f"data.public_file: {self.public_file} has no column {', '.join(missing)}.")
            others = _records(layout, names, rows, self.public_file)
            shared, chance = _shared(others, records)
            if shared > chance + 0.1:
                raise GmiError(
                    f"data.public_file: {100 * shared:.0f} % of the records of {self.public_file} are in {self.file}, "
                    "too: the adversary's records are of other people; remove them there."
                )
            chosen = np.random.default_rng([seed, 1]).permutation(len(others))[: self.public]
            start, public = self.training, others.take(chosen)
            digest = sha256((digest + public_digest).encode()).hexdigest()
            if len(others) < self.public:
                raise GmiError(f"data.public: {self.public_file} has {len(others)} records, not {self.public}.")
        if len(records) < start + 10:
            raise GmiError(
                f"data: {self.file} has {len(records)} records, and ten or more must be held out beside {start}."
            )
        parts = Tables(layout, records.take(order[: self.training]), records.take(order[start:]), public, digest)
        _refuse_uninformative(parts)
        return parts


def _read(file: str) -> tuple[list[str], list[list[str]], str]:
    """The header, the rows and the SHA-256 of a CSV file. Raises GmiError if it cannot be used."""
    path = resolve(file)
    try:
        content = path.read_bytes()
        names, *rows = csv.reader(StringIO(content.decode("utf-8-sig"), newline=""))
    except FileNotFoundError as error:
        raise GmiError(f"data: there is no file {path}.") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise GmiError(f"data: {path} cannot be read as a CSV file in UTF-8 ({because(error)}).") from error
    except ValueError as error:
        raise GmiError(f"data: {path} is empty.") from error
    names = [name.strip() for name in names]
    while rows and not rows[-1]:  # blank lines at the end, as spreadsheets leave them
        rows.pop()
    if len(names) == 1 and ";" in names[0]:
        raise GmiError(f"data: {path} is separated by semicolons: save it with commas.")
    if len(set(names)) < len(names):
        raise GmiError(f"data: two columns of {path} have one name: rename one.")
    for line, row in enumerate(rows, start=2):
        if len(row) != len(names):
            raise GmiError(f"data: line {line} of {path} has {len(row)} cells, and the header {len(names)}.")
    return names, [[cell.strip() for cell in row] for row in rows], sha256(content).hexdigest()


def _column(name: str, rows: Sequence[Sequence[str]], names: Sequence[str], number: bool, file: str) -> Column:
    """The column `name` of a table. Raises GmiError if a cell is empty, or if its values cannot be used."""
    cells = [row[names.index(name)] for row in rows]
    for line, cell in enumerate(cells, start=2):
        if cell.lower() in _MISSING:
            mark = f" ({cell!r})" if cell else ""
            raise GmiError(f"data: line {line} of {file} has no {name}{mark}: fill it in or remove the line.")
    values = sorted(set(cells))
    if len(values) < 2:
        raise GmiError(f"data: {name} is the same in all of {file}: leave it out with data.without.")
    if not number and len(values) > 100:
        raise GmiError(f"data: {name} has {len(values)} values: is it one of data.numbers, or a name?")
    return Column(name, None if number else tuple(values))


def _shared(others: Records, records: Records) -> tuple[float, float]:
    """The share of `others` that equal a record, and the share of records that equal another one, as by chance."""
    counts = Counter(map(tuple, records.rows()))
    twins = sum(count for count in counts.values() if count > 1)
    return float(np.mean([row in counts for row in map(tuple, others.rows())])), twins / len(records)


def _records(layout: Layout, names: Sequence[str], rows: Sequence[Sequence[str]], file: str) -> Records:
    """The rows of a table as records. Raises GmiError for a cell that does not fit its column."""

    def coded(column: Column) -> Array:
        index, numbers = names.index(column.name), np.empty(len(rows))
        codes = None if column.values is None else {value: code for code, value in enumerate(column.values)}
        for line, row in enumerate(rows):
            try:
                numbers[line] = float(row[index]) if codes is None else codes[row[index]]
            except (ValueError, KeyError) as error:
                comma = " (write decimals with a point)" if "," in row[index] else ""
                what = f"no number{comma}" if codes is None else f"none of its values {', '.join(column.values or ())}"
                raise GmiError(
                    f"data: line {line + 2} of {file} has {row[index]!r} as {column.name}, which is {what}."
                ) from error
        if not np.isfinite(numbers).all():
            line = int(np.flatnonzero(~np.isfinite(numbers))[0])
            raise GmiError(
                f"data: line {line + 2} of {file} has no finite {column.name}: fill it in or remove the line."
            )
        return numbers

    features = np.column_stack([coded(column) for column in layout.features])
    return Records(features, coded(layout.sensitive).astype(np.int64), coded(layout.outcome))


def _refuse_uninformative(parts: Tables) -> None:
    """Raises GmiError if a part has one outcome or one sensitive value only, or a feature is the same in training."""
    for name, part in (("training", parts.training), ("public", parts.public), ("held-out", parts.held_out)):
        for column, values in ((parts.layout.outcome, part.outcome), (parts.layout.sensitive, part.sensitive)):
            if len(np.unique(values)) < 2:
                raise GmiError(f"data: all {name} records have one {column.name}: there is nothing to tell apart.")
    for index, column in enumerate(parts.layout.features):
        if len(np.unique(parts.training.features[:, index])) < 2:
            raise GmiError(f"data: {column.name} is the same in all training records: leave it out with data.without.")
