"""Is it the person, or only what she shares with others? The same images, scored among the person's look-alikes.

An attack that recovers sex, age or skin and nothing else finds its person among all others with an AUC well above 0.5.
Among people who share these traits it does not. Look-alikes are taken by the judge itself, from photographs, so that no
labels of traits are needed: the enrolled people most similar to her. Where labels are at hand, the people of her group
are look-alikes, too. N counts images, P people, K look-alikes of each.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from gmi.metrics.gallery import spread
from gmi.metrics.statistics import Array, by_draw

SHARE, FEWEST, MOST = 0.1, 5, 20
"""The look-alikes of a person: that share of the others, within these numbers."""
_GROUP = 200  # people who stand for a group
_NOBODY = -1
_BLOCK = 2_000_000  # similarities at once


@dataclass(frozen=True)
class Within:
    """AUC of each attacked person among her look-alikes: of her images, and of images that cannot know who she is."""

    own: Array  # (S, A), of the attack's images of her
    others: Array  # (S, A), of the attack's images of her look-alikes, claimed to be hers
    nobody: Array  # (A,), of the prior's samples, claimed to be hers

    @property
    def beyond(self) -> tuple[Array, Array]:
        """What the attack's images have (S, A) over each of the two controls."""
        return self.own - self.others, self.own - self.nobody


class Likeness:
    """How alike people are: the mean similarity of each one's photographs to every person, added block by block.

    It takes four bytes for any two people.
    """

    def __init__(self, people: int) -> None:
        self._sums, self._counts = torch.zeros(people, people), torch.zeros(people)

    def add(self, similarity: ArrayLike, columns: ArrayLike) -> None:
        """Adds photographs with similarities (n, P), of the people in these columns (n,); -1: of nobody enrolled."""
        values, whose = np.asarray(similarity, np.float32), np.asarray(columns)
        known = np.flatnonzero((whose >= 0) & ~np.isnan(values).any(1))
        place = torch.from_numpy(whose[known])
        self._sums.index_add_(0, place, torch.from_numpy(values[known]))
        self._counts.index_add_(0, place, torch.ones(len(known)))

    @property
    def lookalikes(self) -> NDArray[np.int64]:
        """The people (P, K) most similar to each; those without a photograph are last."""
        sums, counts = self._sums.numpy(), self._counts.numpy()[:, None]
        parts, step = [], max(1, _BLOCK // len(sums))
        with np.errstate(invalid="ignore"):
            for start in range(0, len(sums), step):
                rows = slice(start, start + step)
                parts.append(_nearest((sums[rows] / counts[rows] + (sums[:, rows] / counts).T) / 2, start))
        return np.concatenate(parts)


def lookalikes(similarity: ArrayLike) -> NDArray[np.int64]:
    """The people (P, K) most similar to each, the most similar first, from similarity (P, P) between people."""
    values = np.asarray(similarity, np.float64)
    return _nearest((values + values.T) / 2, 0)


def _nearest(similarity: Array, first: int) -> NDArray[np.int64]:
    """The columns (n, K) of the most similar others, from similarity (n, P); the rows are people from `first` on."""
    values, others = similarity.copy(), similarity.shape[1] - 1
    values[np.arange(len(values)), first + np.arange(len(values))] = -np.inf
    count = min(others, max(FEWEST, min(MOST, round(SHARE * others))))
    values[np.isnan(values)] = -np.inf
    chosen = np.argpartition(-values, count - 1, axis=1)[:, :count] if count else np.empty((len(values), 0), np.int64)
    chosen.sort(axis=1)
    order = np.argsort(-np.take_along_axis(values, chosen, 1), axis=1, kind="stable")
    return np.take_along_axis(chosen, order, 1)


def of_group(groups: Sequence[Hashable | None]) -> list[NDArray[np.int64]]:
    """The others in each person's group, from the groups of people (P,); None: a person in no group, who is alone.

    Of a group of more than 200, evenly chosen ones stand for all.
    """
    members: dict[Hashable, list[int]] = {}
    names = [person if group is None else ("in", group) for person, group in enumerate(groups)]
    for person, name in enumerate(names):
        members.setdefault(name, []).append(person)
    chosen = {name: np.array(each, np.int64)[spread(len(each), _GROUP)] for name, each in members.items()}
    return [chosen[name][chosen[name] != person] for person, name in enumerate(names)]


class Claims:
    """Images of an attack, each as her own person's and as her look-alikes', added block by block.

    Under the null that images know what look-alikes share and nothing more, an image of any of them could as well be
    hers. An image that could not be embedded (NaN) ties with all, and so does a person without look-alikes.
    """

    def __init__(self, alike: Sequence[NDArray[np.int64]] | NDArray[np.int64], columns: ArrayLike) -> None:
        """alike: (P,) of arrays (K,), columns of each person's look-alikes. columns: of the people with images."""
        self._people = np.unique(np.asarray(columns))
        self._alike = np.full((len(alike), max([1, *map(len, alike)])), _NOBODY)
        for person, others in enumerate(alike):
            self._alike[person, : len(others)] = others
        mine = self._alike[self._people]
        shown = np.isin(mine, self._people)
        self._claimants, whose = mine[shown], self._people[shown.nonzero()[0]]
        order = np.argsort(self._claimants, kind="stable")
        self._claimants, self._claimed = self._claimants[order], whose[order]  # the second as the first one's image
        self._own: list[Array] = []
        self._columns: list[NDArray[np.int64]] = []
        self._draws: list[NDArray[np.int64]] = []
        self._claims: list[tuple[NDArray[Any], Array, NDArray[Any]]] = []  # by draw, person and whose image

    def add(self, similarity: ArrayLike, columns: ArrayLike, draws: ArrayLike) -> None:
        """Adds images with similarities (n, P), of the people in these columns (n,), in these draws (n,)."""
        values, whose, drawn = np.asarray(similarity, np.float64), np.asarray(columns), np.asarray(draws)
        number = np.arange(len(values))
        self._own.append(self._preferred(values, number, whose, np.full(len(whose), _NOBODY)))
        self._columns.append(whose)
        self._draws.append(drawn)
        first, last = (np.searchsorted(self._claimants, whose, side) for side in ("left", "right"))
        rows = np.repeat(number, last - first)
        claims = np.arange(len(rows)) - np.repeat(np.cumsum(last - first) - (last - first), last - first)
        people = self._claimed[np.repeat(first, last - first) + claims]
        shares = self._preferred(values, rows, people, whose[rows])
        keys, place = np.unique(np.stack([drawn[rows], people, whose[rows]]), axis=1, return_inverse=True)
        sums = np.bincount(place.ravel(), shares, keys.shape[1])
        self._claims.append((keys, sums.astype(np.float64), np.bincount(place.ravel(), minlength=keys.shape[1])))

    def within(self, samples: ArrayLike) -> "Within":
        """The AUCs among look-alikes of every person who has images.

        samples: similarity (R, P) of the prior's samples, which show how often a person is preferred to her look-alikes
        as such: that hangs on how typical she is. Of a person none of whose look-alikes has images, `others` is
        `nobody`.
        """
        by_column = np.ascontiguousarray(np.asarray(samples, np.float64).T)
        nobody = np.array([_share(by_column[mine], by_column[self._others(mine)]).mean() for mine in self._people])
        columns, draws = np.concatenate(self._columns), np.concatenate(self._draws)
        own = by_draw(np.concatenate(self._own), columns, draws)
        seeds = np.unique(draws)
        keys, sums, counts = (np.concatenate(parts, axis=-1) for parts in zip(*self._claims, strict=True))
        # the mean over each look-alike's images first, and then over look-alikes
        keys, place = np.unique(keys, axis=1, return_inverse=True)
        sums, counts = (np.bincount(place.ravel(), part, keys.shape[1]) for part in (sums, counts))
        means = sums / counts
        cell = np.searchsorted(seeds, keys[0]) * len(self._people) + np.searchsorted(self._people, keys[1])
        sums, counts = np.bincount(cell, means, own.size), np.bincount(cell, minlength=own.size)
        others = np.where(counts > 0, sums / np.maximum(counts, 1), np.tile(nobody, len(seeds)))
        return Within(own, others.reshape(own.shape), nobody)

    def _others(self, person: int) -> NDArray[np.int64]:
        """Columns of a person's look-alikes."""
        others = self._alike[person]
        return others[others != _NOBODY]

    def _preferred(
        self, similarity: Array, rows: NDArray[np.int64], people: NDArray[np.int64], without: NDArray[np.int64]
    ) -> Array:
        """Share (T,) of a person's look-alikes to whom an image is less similar than to her.

        similarity: (n, P). rows: of the images (T,). people: their columns (T,). without: the one left out (T,).
        """
        parts = [np.empty(0)]
        step = max(1, _BLOCK // self._alike.shape[1])
        for start in range(0, len(rows), step):
            row, person = rows[start : start + step], people[start : start + step]
            others = self._alike[person]
            counted = (others != _NOBODY) & (others != without[start : start + step, None])
            parts.append(_share(similarity[row, person], similarity[row[:, None], others].T, counted.T))
        return np.concatenate(parts)


def _share(mine: Array, theirs: Array, counted: NDArray[np.bool_] | None = None) -> Array:
    """Share (T,) of others whose similarities (K, T) are less than one's own (T,); ties count half, as NaN does.

    counted: which of the others count (K, T); None: all. With none it is 0.5.
    """
    wins = (mine > theirs) + 0.5 * (mine == theirs)
    if counted is not None:
        wins *= counted
    number = len(theirs) if counted is None else counted.sum(0)
    return np.where(np.isnan(mine) | (number == 0), 0.5, wins.sum(0) / np.maximum(number, 1))


def within(
    similarity: ArrayLike,
    columns: ArrayLike,
    draws: ArrayLike,
    alike: Sequence[NDArray[np.int64]] | NDArray[np.int64],
    samples: ArrayLike,
) -> Within:
    """The AUCs among look-alikes, of similarity (N, P) at once; the other arguments are those of `Claims`."""
    claims = Claims(alike, columns)
    claims.add(similarity, columns, draws)
    return claims.within(samples)
