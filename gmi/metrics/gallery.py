"""Comparisons of many images with all enrolled people, some images at a time.

Templates are compared in single precision. That is exact enough but where a comparison decides something by a hair:
those are made again in double precision. So what an image's own person, its rank and thresholds hang on is decided as
in double precision, whatever the size of a block, the number of threads and the processor.
N counts probes, M enrolment images, P people, D the dimensions of a template; columns are sorted by person id.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gmi.errors import GmiError
from gmi.metrics.statistics import Array

Whole = NDArray[np.int64] | NDArray[np.int32]

_BLOCK = 8_000_000  # comparisons of a block
_PEOPLE = 2000  # with whom a block is compared at a time: what they take stays in the processor's cache
_PAIRS = 64  # comparisons that are made again at a time
_SEEN = 64  # probes and people by whom rounding is measured
_MARGIN = 8.0  # times the rounding that was seen: within that a comparison is made again
_MANY = 0.2  # share of a block that is compared again as a whole
_TIE = 1e-12  # relative difference that is rounding even in double precision


@dataclass(frozen=True)
class Gallery:
    """Enrolled people, each with one or more templates; an image is compared with a person's most alike one."""

    compare: Callable[[Tensor, Tensor], Tensor]  # similarities (N, M) of templates (N, D) and (M, D), of any precision
    templates: Tensor  # (M, D); those that hold a NaN, as no face was found, are left out
    people: NDArray[np.int64]  # (M,)

    @cached_property
    def ids(self) -> NDArray[np.int64]:
        """The enrolled people (P,), sorted. Raises GmiError for a person without a usable image."""
        ids = np.unique(self.people)
        if len(without := np.setdiff1d(ids, self.people[self._usable])):
            raise GmiError(f"no enrolment image of {without.tolist()} could be embedded: add images of them")
        return ids

    def dense(self, probes: Tensor) -> Array:
        """Similarity (N, P) of each probe to each person, as `blocks` has it; NaN for a probe without a template."""
        similarity = np.empty((len(probes), len(self.ids)))
        for rows, values in self.blocks(probes):
            similarity[rows] = values
        return similarity

    def blocks(self, probes: Tensor) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """The rows of each block, and similarities (n, P) in single precision, of probes (N, D).

        A block is computed while the one before it is used.
        """
        step = max(1, _BLOCK // len(self.ids))
        blocks = [slice(start, min(start + step, len(probes))) for start in range(0, len(probes), step)]
        with ThreadPoolExecutor(1) as worker:
            ahead = [worker.submit(self._best, probes[rows].float()) for rows in blocks[:1]]
            for rows, following in zip_longest(blocks, blocks[1:]):
                values = ahead.pop().result()
                if following is not None:
                    ahead.append(worker.submit(self._best, probes[following].float()))
                yield rows, values

    def sharp(self, probes: Tensor, own: NDArray[np.int64], levels: Sequence[float]) -> Iterator[tuple[slice, Array]]:
        """Blocks of similarities (n, P) that decide as double precision does.

        own: column (N,) of each probe's own person; her similarity is exact, and ties with it are equal to it.
        levels: similarities at or above which something is decided.
        """
        for rows, rough in self.blocks(probes):
            mine = own[rows]
            chosen = rough[np.arange(len(rough)), mine]
            difference = rough - chosen[:, None]
            near = np.abs(difference, out=difference) <= 2 * self.rounding
            for level in levels:
                np.subtract(rough, np.float32(level), out=difference)
                near |= np.abs(difference, out=difference) <= self.rounding
            if near.mean() > _MANY:  # one by one it would take longer
                values = self._best(probes[rows].double())
                hers = values[np.arange(len(values)), mine][:, None]
                yield rows, np.where(np.abs(values - hers) <= _TIE * (1 + np.abs(hers)), hers, values)
                continue
            near[np.arange(len(rough)), mine] = ~np.isnan(chosen)
            row, column = divmod(np.flatnonzero(near), near.shape[1])  # much faster than of two axes
            values, close = rough.astype(np.float64), self.exact(probes[rows], row, column)
            values[row, column] = close
            hers = values[row, mine[row]]
            values[row, column] = np.where(np.abs(close - hers) <= _TIE * (1 + np.abs(hers)), hers, close)
            yield rows, values

    def exact(self, probes: Tensor, rows: Whole, columns: Whole) -> Array:
        """Similarities (T,) in double precision of the probes in these rows (T,) to the people in these columns (T,).

        Some are made at a time, each probe among them with each person among them.
        """
        parts = [np.empty(0)]
        for start in range(0, len(rows), _PAIRS):
            some, row = np.unique(rows[start : start + _PAIRS], return_inverse=True)
            people, column = np.unique(columns[start : start + _PAIRS], return_inverse=True)
            counts = self._counts[people]
            images = np.concatenate([self._images[self._first[person] : self._first[person + 1]] for person in people])
            left, right = probes[torch.from_numpy(some)], self.templates[torch.from_numpy(images)]
            close = self.compare(left.double(), right.double()).numpy()
            parts.append(np.maximum.reduceat(close, np.cumsum(counts) - counts, axis=1)[row, column])
        return np.concatenate(parts)

    @cached_property
    def _usable(self) -> NDArray[np.int64]:
        """Numbers of the images that have a template."""
        return (~self.templates.isnan().any(1)).numpy().nonzero()[0]

    @cached_property
    def _images(self) -> NDArray[np.int64]:
        """Numbers of the usable images, person by person."""
        return self._usable[np.argsort(self.people[self._usable], kind="stable")]

    @cached_property
    def _first(self) -> NDArray[np.int64]:
        """Where each person's images begin among `_images` (P + 1,), and where the last one's end."""
        return np.append(np.searchsorted(self.people[self._images], self.ids), len(self._images))

    @cached_property
    def _counts(self) -> NDArray[np.int64]:
        return np.diff(self._first)

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        """Columns, those of people with many images first."""
        return np.argsort(-self._counts, kind="stable")

    @cached_property
    def _layers(self) -> list[Tensor]:
        """The first templates of all people, the second ones of those who have two, and so on, in `_order`."""
        counts, first = self._counts[self._order], self._first[:-1][self._order]
        return [
            self.templates[torch.from_numpy(self._images[first[: (counts > layer).sum()] + layer])].float()
            for layer in range(counts[0])
        ]

    @cached_property
    def rounding(self) -> float:
        """How far single precision may be from double: a margin times the most that is seen between some people."""
        middle = len(self._images) // 2
        left, right = (self.templates[torch.from_numpy(part[:_SEEN])] for part in np.split(self._images, [middle]))
        seen = (self.compare(left.float(), right.float()) - self.compare(left.double(), right.double())).abs()
        return _MARGIN * float(seen.max()) if seen.numel() else 0.0

    def _best(self, probes: Tensor) -> NDArray[Any]:
        """Similarities (n, P) of probes (n, D) in their precision: the greatest of each person's, tile by tile."""
        best = torch.full((len(probes), len(self.ids)), -torch.inf, dtype=probes.dtype)
        for first in range(0, len(self.ids), _PEOPLE):
            for layer in (each for each in self._layers if len(each) > first):
                some = layer[first : first + _PEOPLE].to(probes.dtype)
                part = best[:, first : first + len(some)]
                torch.maximum(part, self.compare(probes, some), out=part)
        if (self._counts == self._counts[0]).all():
            return best.numpy()
        return best[:, torch.from_numpy(np.argsort(self._order))].numpy()


def spread(number: int, most: int) -> NDArray[np.int64]:
    """Rows, at most so many of this number, evenly spaced."""
    count = min(number, most)
    return np.arange(count) * number // max(1, count)
