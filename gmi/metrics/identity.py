"""Does a candidate show its person? Verification at a fixed false match rate, identification, and their controls.

A *comparison* is one image (a probe) against one person: the similarity to the most alike of that person's enrolment
images. Thresholds are set on comparisons of exactly this kind, so that strangers really match at the rate they name
(ISO/IEC 19795-1; best-of-enrolment matching under a threshold from single pairs would match strangers more often).
N counts probes or candidates, M enrolment images, P people; columns are sorted by person id: `np.unique(people)`.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from gmi.errors import GmiError
from gmi.metrics.impostors import Impostors, Threshold
from gmi.metrics.rates import any_of_m
from gmi.metrics.statistics import by_draw

RANKS = (1, 5)


def to_people(similarity: ArrayLike, people: ArrayLike) -> np.ndarray:
    """Similarity (N, P) of each probe to each person: the greatest over that person's enrolment images.

    similarity (N, M): of probes to enrolment images, whose people are (M,). Enrolment images that could not be embedded
    (NaN) are left out; a probe that could not be embedded has a row of NaN. Raises GmiError for a person without a
    usable image.
    """
    similarity, people = np.asarray(similarity, np.float64), np.asarray(people)
    if similarity.ndim != 2 or similarity.shape[1:] != people.shape:
        raise GmiError(f"similarity {similarity.shape} for {people.shape} enrolment images: give (N, M) and (M,)")
    order = np.argsort(people, kind="stable")
    ids, starts = np.unique(people[order], return_index=True)
    best = np.fmax.reduceat(similarity[:, order], starts, axis=1)
    missing = np.isnan(best) & ~np.isnan(best).all(axis=1, keepdims=True)
    if missing.any():
        raise GmiError(f"no enrolment image of {ids[missing.any(0)].tolist()} could be embedded: add images of them")
    return best


def thresholds(
    similarity: ArrayLike, people: ArrayLike, person_ids: ArrayLike, *, fmrs: Sequence[float] = (1e-2, 1e-3)
) -> tuple[Threshold, ...]:
    """The smallest threshold for each rate that at most this share of comparisons between different people reaches.

    similarity (N, P): of real probes, whose people are (N,), to the people person_ids (P,). A probe may be an enrolment
    image or show somebody who is not enrolled: only other people's columns count. Probes that could not be embedded are
    left out. Ties are exact: equal similarities match together or not at all. Comparisons hang together by both of
    their people, and so a threshold's uncertainty is by a jackknife over people. Raises GmiError without comparisons.
    """
    return _cuts(_rows(similarity, people, person_ids), people, person_ids, fmrs)


def pair_thresholds(
    similarity: ArrayLike, left: ArrayLike, right: ArrayLike, *, fmrs: Sequence[float] = (1e-2, 1e-3)
) -> tuple[Threshold, ...]:
    """Thresholds set on single pairs of images, as in papers: similarity (N, M) of images of people (N,) and (M,).

    If the best of several comparisons counts, strangers match more often at such a threshold than its rate says, so
    that only figures for comparison with papers rest on it. Raises GmiError without comparisons.
    """
    return _cuts(np.asarray(similarity, np.float64), left, right, fmrs)


def _cuts(similarity: np.ndarray, left: ArrayLike, right: ArrayLike, fmrs: Sequence[float]) -> tuple[Threshold, ...]:
    impostors = Impostors(right, len(similarity), fmrs)
    impostors.add(similarity, left)
    return impostors.thresholds()


def outcomes(
    similarity: ArrayLike, classes: ArrayLike, person_ids: ArrayLike, thresholds: Sequence[Threshold]
) -> dict[str, np.ndarray]:
    """Outcomes (N,) of each candidate for its own person, from similarity (N, P), classes (N,) and person_ids (P,).

    match@FMR: 1 at or above that threshold. rank1, rank5: 1 if the own person is among the k most alike; ties count
    against, rank = 1 + others at least as alike. auc: share of others that are less alike, ties count half.
    similarity: to the own person. A candidate that could not be embedded (NaN) matches nobody and ranks last; its auc
    is 0.5, a tie with all, as 0 would hide the leak of the others and flatter an attack whose control fails more; its
    similarity stays NaN. Raises GmiError for a class that is not enrolled, and for fewer than two people.
    """
    similarity, own = _claimed(similarity, classes, person_ids)
    people, mine = similarity.shape[1], similarity[np.arange(len(own)), own]
    least, more = (
        np.count_nonzero(compared(similarity, mine[:, None]), axis=1) for compared in (np.greater_equal, np.greater)
    )
    failed = np.isnan(mine)
    rank = np.where(failed, people, least)  # how many are at least as alike
    middle = np.where(failed, (people + 1) / 2, (more + least + 1) / 2)  # of the ranks of a tie
    table = {f"match@{threshold.fmr:g}": (mine >= threshold.value).astype(float) for threshold in thresholds}
    table |= {f"rank{k}": (rank <= k).astype(float) for k in RANKS}
    return table | {"auc": (people - middle) / (people - 1), "similarity": mine}


def permuted(
    similarity: ArrayLike,
    classes: ArrayLike,
    person_ids: ArrayLike,
    thresholds: Sequence[Threshold],
    among: ArrayLike | None = None,
) -> dict[str, np.ndarray]:
    """Matches and similarity (N,) under permuted identities (control C2): each candidate scored as if of somebody else.

    They are exact expectations: means over all wrong people, of those in `among`, or of all P if it is None. It should
    leave out distractors: traits that all audited people share, and other people lack, must not pass for a likeness.
    Other arguments and errors as in `outcomes`.
    """
    similarity, own = _claimed(similarity, classes, person_ids)
    mine = similarity[np.arange(len(own)), own]
    sought = np.ones(similarity.shape[1], bool) if among is None else np.isin(person_ids, among)
    values, wrong = similarity[:, sought], sought.sum() - 1
    table = {
        f"match@{cut.fmr:g}": (np.count_nonzero(values >= cut.value, axis=1) - (mine >= cut.value)) / wrong
        for cut in thresholds
    }
    return table | {"similarity": (values.sum(1) - mine) / wrong}


class Others:
    """How often images of people match other people, whom they are not of: what chance does, by images like these.

    Images of one person are alike, in one draw and in several, so that any of them matches by chance less often than
    as many independent ones.
    """

    def __init__(
        self, classes: ArrayLike, draws: ArrayLike, person_ids: ArrayLike, among: ArrayLike, threshold: float
    ) -> None:
        """classes, draws: of the images (N,), draw by draw. among: whom of person_ids (P,) they are compared with."""
        self._draws, self._threshold = np.asarray(draws), threshold
        people, self._rows = np.unique(np.asarray(classes), return_inverse=True)
        self._columns = np.flatnonzero(np.isin(person_ids, among))
        self._wrong = people[:, None] != np.asarray(person_ids)[self._columns]
        self._now, self._ever = np.zeros_like(self._wrong), np.zeros_like(self._wrong)
        self._draw, self._once = self._draws[0], []

    def add(self, rows: slice | NDArray[np.int64], similarity: np.ndarray) -> None:
        """Counts similarities (M, P) of the images in some rows, which come in their order."""
        hits, draws, people = similarity[:, self._columns] >= self._threshold, self._draws[rows], self._rows[rows]
        for draw in np.unique(draws):
            if draw != self._draw:
                self._close()
                self._draw = draw
            np.logical_or.at(self._now, people[draws == draw], hits[draws == draw])

    @property
    def rates(self) -> tuple[float, float]:
        """Share of pairs of a person and another whom any image of a draw matches, and any of all draws."""
        self._close()
        return float(np.mean(self._once)), float(self._ever[self._wrong].mean())

    def _close(self) -> None:
        self._once.append(self._now[self._wrong].mean())
        self._ever |= self._now
        self._now = np.zeros_like(self._wrong)


def anyone(similarity: ArrayLike, person_ids: ArrayLike, thresholds: Sequence[Threshold]) -> dict[str, np.ndarray]:
    """The outcomes (N, P) of images that show nobody in particular (control C0), each scored as every person in turn.

    Samples of the prior belong to nobody: N times as many comparisons as with one sample per person, and what varies is
    samples as well as people. Arguments and errors as in `outcomes`.
    """
    similarity, _ = _claimed(similarity, np.full(len(np.asarray(similarity)), np.asarray(person_ids)[0]), person_ids)
    people, failed = similarity.shape[1], np.isnan(similarity)
    filled = np.where(failed, 0.0, similarity)
    rank = np.where(failed, people, rankdata(-filled, "max", axis=1))  # of j: how many are at least as alike as j
    middle = rankdata(-filled, "average", axis=1)  # failed: all tie, in the middle
    table = {f"match@{threshold.fmr:g}": (similarity >= threshold.value).astype(float) for threshold in thresholds}
    table |= {f"rank{k}": (rank <= k).astype(float) for k in RANKS}
    return table | {"auc": (people - middle) / (people - 1), "similarity": similarity}


def any_of(match: ArrayLike, classes: ArrayLike, draws: ArrayLike) -> np.ndarray:
    """1 for each draw and person (S, P), both sorted by id, with a candidate that matched, else 0.

    match (N,) of 0 and 1, of candidates for people (N,) in draws (N,).
    """
    return (by_draw(match, classes, draws) > 0).astype(np.float64)


def chance(name: str, people: int, m: int = 1) -> float | None:
    """The level of the outcome `name` for a stranger's image among P people; m > 1: for any of m independent images.

    match@FMR: FMR. rank-k: k / P. auc: 0.5 for every m. None for a similarity, which has no such level: compare it with
    `permuted`.
    """
    if name == "auc":
        return 0.5
    if name.startswith("match@"):
        return any_of_m(float(name.removeprefix("match@")), m)
    if name.startswith("rank"):
        return any_of_m(min(1.0, int(name.removeprefix("rank")) / people), m)
    return None


def _rows(similarity: ArrayLike, classes: ArrayLike, person_ids: ArrayLike) -> np.ndarray:
    """The similarity as float64 (N, P); each row is wholly NaN or wholly a number. Raises GmiError otherwise."""
    similarity, shape = np.asarray(similarity, np.float64), (np.shape(classes) + np.shape(person_ids))
    if similarity.shape != shape or similarity.ndim != 2:
        raise GmiError(f"similarity {similarity.shape} of probes and people {shape}: take it from to_people")
    if (np.diff(np.asarray(person_ids)) <= 0).any():
        raise GmiError("person_ids must be sorted and distinct, as the columns of to_people: np.unique(people)")
    missing = np.isnan(similarity)
    if (missing.any(1) & ~missing.all(1)).any():
        raise GmiError("a probe has a similarity to some people and not to others: take it from to_people")
    return similarity


def _claimed(similarity: ArrayLike, classes: ArrayLike, person_ids: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The similarity as `_rows` gives it, and the column (N,) of each candidate's own person."""
    similarity, classes, ids = _rows(similarity, classes, person_ids), np.asarray(classes), np.asarray(person_ids)
    if len(ids) < 2:
        raise GmiError("identification needs at least two enrolled people: enrol more")
    if len(unknown := np.setdiff1d(classes, ids)):
        raise GmiError(f"classes {unknown.tolist()} are not enrolled: give enrolment images of every person audited")
    return similarity, np.searchsorted(ids, classes)
