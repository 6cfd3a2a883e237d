"""Is it the person, or only what she shares with others? The same images, scored among the person's look-alikes.

An attack that recovers sex, age or skin and nothing else finds its person among all others with an AUC well above 0.5.
Among people who share these traits it does not. Look-alikes are taken by the judge itself, from photographs, so that no
labels of traits are needed: the enrolled people most similar to her. Where labels are at hand, the people of her group
are look-alikes, too. N counts images, P people, K look-alikes of each.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmi.metrics.statistics import Array, by_draw

SHARE, FEWEST, MOST = 0.1, 5, 20
"""The look-alikes of a person: that share of the others, within these numbers."""


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


def lookalikes(similarity: ArrayLike) -> NDArray[np.int64]:
    """The people (P, K) most similar to each, the most similar first, from similarity (P, P) between people."""
    values = np.array(similarity, np.float64)
    values = (values + values.T) / 2
    np.fill_diagonal(values, -np.inf)
    others = len(values) - 1
    count = min(others, max(FEWEST, min(MOST, round(SHARE * others))))
    return np.argsort(-values, axis=1, kind="stable")[:, :count]


def of_group(groups: Sequence[Hashable | None]) -> list[NDArray[np.int64]]:
    """The others in each person's group, from the groups of people (P,); None: a person in no group, who is alone."""
    members: dict[Hashable, list[int]] = {}
    for person, group in enumerate(groups):
        members.setdefault(person if group is None else ("in", group), []).append(person)
    return [
        np.array([other for other in members[person if group is None else ("in", group)] if other != person], np.int64)
        for person, group in enumerate(groups)
    ]


def within(
    similarity: ArrayLike,
    columns: ArrayLike,
    draws: ArrayLike,
    alike: Sequence[NDArray[np.int64]] | NDArray[np.int64],
    samples: ArrayLike,
) -> Within:
    """The AUCs among look-alikes of every person who has images.

    similarity: (N, P) of the attack's images to people.
    columns: (N,) of each image, the column of its person.
    draws: (N,) of each image.
    alike: (P,) of arrays (K,), columns of each person's look-alikes; a person without any ties with all.
    samples: similarity (R, P) of the prior's samples.
    Under the null that images know what look-alikes share and nothing more, an image of any of them could as well be
    hers: `own` and `others` are alike. Samples show how often a person is preferred to her look-alikes as such, which
    hangs on how typical she is. Of a person none of whose look-alikes was attacked, `others` is `nobody`. An image that
    could not be embedded (NaN) ties with all.
    """
    values, columns, draws = np.asarray(similarity, np.float64), np.asarray(columns), np.asarray(draws)
    samples, people = np.asarray(samples, np.float64), np.unique(columns)
    nobody = np.array([_preferred(samples, person, alike[person]).mean() for person in people])
    own = np.array(
        [_preferred(row[None], person, alike[person])[0] for row, person in zip(values, columns, strict=True)]
    )
    own = by_draw(own, columns, draws)
    images = {
        (draw, person): values[(draws == draw) & (columns == person)] for draw in np.unique(draws) for person in people
    }

    def claimed(draw: object, person: int) -> list[float]:
        """Each attacked look-alike's images, as if they were the person's, among the other look-alikes."""
        mine = alike[person]
        shown = [other for other in mine if (draw, other) in images]
        return [float(_preferred(images[draw, other], person, mine[mine != other]).mean()) for other in shown]

    claims = [
        claimed(draw, person) or [usual]
        for draw in np.unique(draws)
        for person, usual in zip(people, nobody, strict=True)
    ]
    return Within(own, np.array([sum(each) / len(each) for each in claims]).reshape(own.shape), nobody)


def _preferred(similarity: Array, person: int, others: NDArray[np.int64]) -> Array:
    """Share (N,) of the others to whom each image is less similar than to the person; ties count half."""
    if len(others) == 0:
        return np.full(len(similarity), 0.5)
    mine, theirs = similarity[:, [person]], similarity[:, others]
    share = ((mine > theirs) + 0.5 * (mine == theirs)).mean(1)
    return np.where(np.isnan(mine[:, 0]), 0.5, share)
