"""Thresholds from comparisons between different people, of which there may be billions: the greatest are kept.

N counts probes, P people.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmi.errors import GmiError
from gmi.metrics.rates import Bounds, effective_count, may_be_unseen, rates_around
from gmi.metrics.statistics import Array

_FEWEST = 2_000_000  # comparisons that are kept, if there are so many
_TAIL = 3.0  # times the greatest rate: the share that is kept of more
_TIES = 1_000_000  # comparisons that are not made again if so many are as near to a threshold: a judge that ties
_SAMPLE = 1_000_000  # comparisons that are kept for the distribution, about as many

Places = NDArray[np.int64]
Comparisons = tuple[NDArray[Any], NDArray[np.int32], NDArray[np.int32]]
"""Similarities (T,), numbers of probes and columns."""
Exact = Callable[[NDArray[np.int32], NDArray[np.int32]], Array]
"""Similarities (T,) in double precision of probes, by rows (T,), to people, by columns (T,)."""


@dataclass(frozen=True)
class Threshold:
    """A similarity at or above which a comparison is a match."""

    fmr: float  # the desired false match rate
    value: float
    comparisons: int  # comparisons between different people on which it was set
    false_matches: int  # how many of these reach it: at most fmr * comparisons
    effective: float = 0.0  # how many independent false matches say as much of its rate
    rates: Bounds = (0.0, 1.0)  # the false match rates that it may have among people in general, 95 % confidence
    low: float = -np.inf  # the threshold that has the desired rate among them lies from here
    high: float = np.inf  # to here; infinite where it may lie above all comparisons

    @property
    def trusted(self) -> bool:
        """Whether 30 effective false matches set it: the rate is known to +-30 %, 90 % confidence (Doddington 2000)."""
        return self.effective >= 30


class Impostors:
    """Comparisons of probes with other people, added block by block; `thresholds` are set on them."""

    def __init__(
        self, people: ArrayLike, probes: int, fmrs: Sequence[float], precision: type[np.floating] = np.float64
    ) -> None:
        """people: of the columns (P,).

        probes: about how many there will be.
        fmrs: the desired false match rates.
        precision: in which similarities are kept; single takes less memory, and wants `thresholds` to compare again.
        """
        self.fmrs, self._columns = fmrs, np.asarray(people)
        self._order = np.argsort(self._columns, kind="stable")
        self._sorted = self._columns[self._order]
        expected = probes * len(self._columns)
        self._most = max(_FEWEST, int(_TAIL * max(fmrs, default=0.0) * expected) + 1)
        self._step, self._skip = max(1, expected // _SAMPLE), 0
        while gcd(self._step, len(self._columns)) > 1:  # else it would come to a few columns only
            self._step += 1
        self._floor = -np.inf
        room = self._most + self._most // 2 + 1
        self._tail = np.empty(room, precision), np.empty(room, np.int32), np.empty(room, np.int32)
        self._kept = 0  # as many of these are in use
        self._people: list[NDArray[np.int64]] = []
        self._trials = np.zeros(len(self._columns), np.int64)
        self._of_rows: list[NDArray[np.int64]] = []
        self._sample: list[NDArray[Any]] = []
        self._rows = 0

    @property
    def sample(self) -> Array:
        """Similarities of some comparisons, evenly taken, or of all where there are not many."""
        return np.concatenate([np.empty(0), *self._sample])

    def add(self, similarity: ArrayLike, people: ArrayLike) -> None:
        """Adds the comparisons (n, P) of probes of these people (n,); those with NaN, and with their own, are no part.

        A probe may show somebody who is in no column.
        """
        values, left = np.asarray(similarity), np.asarray(people)
        first, last = (np.searchsorted(self._sorted, left, side) for side in ("left", "right"))
        own_rows = np.repeat(np.arange(len(left)), last - first)
        steps = np.arange(len(own_rows)) - np.repeat(np.cumsum(last - first) - (last - first), last - first)
        own_columns = self._order[np.repeat(first, last - first) + steps]
        of_rows = values.shape[1] - np.bincount(own_rows, minlength=len(values))
        self._trials += len(values) - np.bincount(own_columns, minlength=values.shape[1])
        if (missing := np.isnan(values)).any():
            missing[own_rows, own_columns] = False  # they are no trials anyway
            of_rows = of_rows - missing.sum(1)
            self._trials -= missing.sum(0)
        self._of_rows.append(of_rows)
        self._people.append(left)
        self._keep(self._of_others(values, left, np.flatnonzero(values > self._floor)))
        places = np.arange(self._skip, values.size, self._step)
        self._skip = (self._skip - values.size) % self._step
        self._sample.append(self._of_others(values, left, places)[0])
        self._rows += len(values)

    def _of_others(self, values: NDArray[Any], left: NDArray[Any], places: Places) -> Comparisons:
        """Those of these places, row by row, that compare different people."""
        rows, columns = divmod(places, values.shape[1])
        chosen = (left[rows] != self._columns[columns]) & ~np.isnan(values[rows, columns])
        rows, columns = rows[chosen], columns[chosen]
        return values[rows, columns], (rows + self._rows).astype(np.int32), columns.astype(np.int32)

    def thresholds(self, exact: Exact | None = None, rounding: float = 0.0) -> tuple[Threshold, ...]:
        """The smallest threshold for each rate that at most this share of the comparisons reaches.

        exact: compares again what is nearer to a threshold than rounding allows to tell.
        rounding: of the similarities that were added, far less than lies between a threshold and the least that is
            kept; they decide as they are if it is 0.
        Ties are exact: equal similarities match together or not at all. Comparisons hang together by both of their
        people, and so a threshold's uncertainty is by a jackknife over people; an end of it that lies beyond what is
        kept is infinite. It uses the comparisons up. Raises GmiError without any.
        """
        of_rows = np.concatenate([np.empty(0, np.int64), *self._of_rows])
        if not (total := int(of_rows.sum())):
            raise GmiError("no comparison between different people: give probes of at least two people")
        left = np.concatenate(self._people)
        ids, index = np.unique(np.concatenate([left, self._columns]), return_inverse=True)
        of_probe, of_column = np.split(index, [len(left)])
        trials = np.bincount(index, np.concatenate([of_rows, self._trials]))
        self._keep_greatest()
        values, rows, columns = self._tail
        values, rows, columns = values[: self._kept], rows[: self._kept], columns[: self._kept]
        order = np.argsort(np.negative(values, out=values))  # the greatest comes first
        for each in (values, rows, columns):
            each[:] = each[order]
        del order  # it may be large
        below = values.astype(np.float64)

        def put_right(place: int, compared: Exact) -> None:
            """Brings what is too near to this place to be told from it into the order of double precision."""
            first = np.searchsorted(below, below[place] - 2 * rounding)
            last = np.searchsorted(below, below[place] + 2 * rounding, "right")
            if last - first > _TIES:
                return
            near = -compared(rows[first:last], columns[first:last])
            again = np.argsort(near)
            below[first:last] = near[again]
            rows[first:last], columns[first:last] = rows[first:last][again], columns[first:last][again]

        def cut(rate: float) -> float:
            place = int(rate * total + 1e-9)
            if place >= len(below):
                return -np.inf
            if exact is not None and rounding > 0:
                put_right(place, exact)
            return float(np.nextafter(-below[place], np.inf))

        def at(fmr: float) -> Threshold:
            value = cut(fmr)
            count = int(np.searchsorted(below, -value, "right"))
            people = np.concatenate([of_probe[rows[:count]], of_column[columns[:count]]])
            effective = effective_count(np.bincount(people, minlength=len(ids)), trials, count, total)
            rates = rates_around(fmr, effective, len(ids))
            ends = cut(rates[1]), np.inf if may_be_unseen(effective) else cut(rates[0])
            return Threshold(fmr, value, total, count, effective, rates, *ends)

        return tuple(at(fmr) for fmr in self.fmrs)

    def _keep(self, found: Comparisons) -> None:
        """Adds comparisons, of which the greatest stay where there is no room for all."""
        step = max(1, self._most // 2)
        for start in range(0, len(found[0]), step):
            some = [each[start : start + step] for each in found]
            if self._kept + len(some[0]) > len(self._tail[0]):
                self._keep_greatest()
            for room, each in zip(self._tail, some, strict=True):
                room[self._kept : self._kept + len(each)] = each
            self._kept += len(some[0])

    def _keep_greatest(self) -> None:
        """Leaves out what is not among the greatest comparisons; of those that equal the least, the first are kept."""
        if (spare := self._kept - self._most) <= 0:
            return
        values = self._tail[0][: self._kept]
        greatest = np.partition(values, spare)[spare:]
        self._floor = float(greatest[0])
        chosen = values > self._floor
        ties = np.flatnonzero(values == self._floor)
        chosen[ties[: np.count_nonzero(greatest == self._floor)]] = True
        for each in self._tail:
            each[: self._most] = each[: self._kept][chosen]
        self._kept = self._most
