"""How well a score tells positives from negatives: areas under the curve and hit rates, with intervals over people."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from gmi.errors import GmiError
from gmi.metrics.statistics import TAIL, Estimate, Outcome, attempt, clopper_pearson, estimate

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """Of two areas for the same records, its standard error, and the p-value of no difference."""

    estimate: Estimate
    p: float
    spread: float


def auc(scores: ArrayLike, truth: ArrayLike, people: ArrayLike | None = None) -> Estimate:
    """Area under the ROC curve of scores (N,) for truth (N,), ties counting half.

    people (N,): whose the records are; None: each is a person's own. The variance is that of the placements, summed by
    person (DeLong et al., Comparing the Areas under Two or More Correlated Receiver Operating Characteristic Curves,
    1988; Obuchowski, Nonparametric Analysis of Clustered ROC Curve Data, 1997); the interval is normal on the logit
    scale, where it keeps to (0, 1). Where there is no variance it is Clopper and Pearson's of the people of the class
    that has fewer. Raises GmiError where a class is missing or has one record.
    """
    value, influence = _area(scores, truth)
    whose = _whose(people, len(influence))
    n, clusters = len(influence), len(np.unique(whose))
    spread = _spread(influence, whose)
    if spread == 0:
        fewer = _fewer(truth, whose)
        low, high = clopper_pearson(round(value * fewer), fewer)
        return Estimate(value, min(low, value), max(high, value), n, clusters)
    inner = np.clip(value, 1e-9, 1 - 1e-9)
    half = -ndtri(TAIL) * spread / (inner * (1 - inner))
    low, high = (1 / (1 + np.exp(-(np.log(inner / (1 - inner)) + end))) for end in (-half, half))
    return Estimate(value, float(min(low, value)), float(max(high, value)), n, clusters)


def auc_difference(left: ArrayLike, right: ArrayLike, truth: ArrayLike, people: ArrayLike | None = None) -> Difference:
    """AUC of the left scores less that of the right ones, for the same records, as `auc`.

    Where there is no variance, and yet a difference, p is the sign test's: all people of the smaller class agree.
    """
    (one, ours), (other, theirs) = _area(left, truth), _area(right, truth)
    whose = _whose(people, len(ours))
    value, spread = one - other, _spread(ours - theirs, whose)
    n, clusters = len(ours), len(np.unique(whose))
    if spread == 0 and value != 0:
        fewer = _fewer(truth, whose)
        ends = (float(np.sign(value)) * end for end in clopper_pearson(round(abs(value) * fewer), fewer))
        low, *_, high = sorted((*ends, value))
        return Difference(Estimate(value, low, high, n, clusters), min(1.0, 2.0 * 0.5**fewer), spread)
    half = -ndtri(TAIL) * spread
    p = 1.0 if value == 0 else float(2 * ndtr(-abs(value) / spread))
    return Difference(Estimate(value, max(-1.0, value - half), min(1.0, value + half), n, clusters), p, spread)


def contrast(left: Difference, right: Difference) -> Difference:
    """The left difference less the right one, which is of other people. Normal, as `auc_difference`.

    Raises GmiError where neither has any variance.
    """
    spread = float(np.hypot(left.spread, right.spread))
    if spread == 0:
        raise GmiError("neither group has any variance: no interval can be given")
    one, other = left.estimate, right.estimate
    value, half = one.value - other.value, -ndtri(TAIL) * spread
    n, clusters = one.n + other.n, one.people + other.people
    return Difference(
        Estimate(value, value - half, value + half, n, clusters), float(2 * ndtr(-abs(value) / spread)), spread
    )


def hit_rate(scores: ArrayLike, truth: ArrayLike, false_alarms: float, people: ArrayLike | None = None) -> Estimate:
    """Share of the positives above the score that at most `false_alarms` of the negatives exceed, person by person.

    Of ties at that score so many are taken, by lot, as use up the false alarms: a positive among them counts with that
    probability, and scores that say nothing hit as often as they raise alarms. The interval is `estimate`'s, of the
    positives: the threshold is taken as it is. Raises GmiError where a class is missing, or where there are too few
    negatives for that rate: fewer than one of them would be a false alarm.
    """
    values, truth = _checked(scores, truth)
    negative = np.sort(values[~truth])[::-1]
    allowed = int(false_alarms * len(negative) + 1e-9)
    if allowed < 1:
        raise GmiError(
            f"{len(negative)} negatives are too few for a false-alarm rate of {false_alarms:g}: it takes "
            f"{int(np.ceil(1 / false_alarms))}"
        )
    hits = np.ones(int(truth.sum()))
    if allowed < len(negative):
        threshold = negative[allowed]
        lot = (allowed - (negative > threshold).sum()) / (negative == threshold).sum()
        hits = np.where(values[truth] > threshold, 1.0, np.where(values[truth] == threshold, lot, 0.0))
    return estimate(hits, _whose(people, len(values))[truth])


@dataclass(frozen=True)
class Detection:
    """How well a method tells members from others."""

    method: str
    auc: Outcome
    hits: dict[str, Outcome]  # by rate of false alarms


def detection(
    method: str, scores: ArrayLike, truth: ArrayLike, people: ArrayLike | None, false_alarms: Iterable[float]
) -> Detection:
    """Area and hit rates of scores (N,) against truth (N,), with people (N,) as clusters."""
    return Detection(
        method,
        attempt(lambda: auc(scores, truth, people)),
        {f"{rate:g}": attempt(lambda r=rate: hit_rate(scores, truth, r, people)) for rate in false_alarms},
    )


def _checked(scores: ArrayLike, truth: ArrayLike) -> tuple[Array, NDArray[np.bool_]]:
    values, truth = np.asarray(scores, np.float64), np.asarray(truth, bool)
    if np.isnan(values).any():
        raise GmiError("scores hold NaN")
    if not 0 < truth.sum() < len(truth):
        raise GmiError("there are only positives, or only negatives: nothing can be told apart")
    return values, truth


def _whose(people: ArrayLike | None, count: int) -> NDArray[np.int64]:
    return np.arange(count) if people is None else np.asarray(people)


def _fewer(truth: ArrayLike, whose: NDArray[np.int64]) -> int:
    """People of the class that has fewer of them."""
    positive = np.asarray(truth, bool)
    return min(len(np.unique(whose[positive])), len(np.unique(whose[~positive])))


def _area(scores: ArrayLike, truth: ArrayLike) -> tuple[float, Array]:
    """The area, and what each record adds to its deviation (N,): its placement among the other class, less the mean.

    A placement is the share of the other class that is on the right side of the record, ties counting half.
    """
    values, truth = _checked(scores, truth)
    m, n = int(truth.sum()), int((~truth).sum())
    if min(m, n) < 2:
        raise GmiError("one positive or one negative has no spread: no interval can be given")
    ranks, influence = rankdata(values), np.empty(len(values))
    below = (ranks[truth] - rankdata(values[truth])) / n
    above = 1 - (ranks[~truth] - rankdata(values[~truth])) / m
    area = float(below.mean())
    influence[truth] = (below - area) / np.sqrt(m * (m - 1))
    influence[~truth] = (above - area) / np.sqrt(n * (n - 1))
    return area, influence


def _spread(influence: Array, people: NDArray[np.int64]) -> float:
    """Standard error: the root of the sum of squares of what people add."""
    _, place = np.unique(people, return_inverse=True)
    return float(np.sqrt((np.bincount(place, influence) ** 2).sum()))
