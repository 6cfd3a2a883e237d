"""Detection of positives by a score: areas under the curve and hit rates, with intervals over people."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from gmi.errors import GmiError
from gmi.metrics.rates import TAIL, clopper_pearson, effective_count, may_be_unseen, rates_around
from gmi.metrics.statistics import Array, Estimate, Outcome, attempt, by_person, difference, estimate, widened

_RESAMPLES = 200  # for a standard error (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, sec. 6.4)


@dataclass(frozen=True)
class Difference:
    """The difference of two areas."""

    estimate: Estimate
    p: float  # p-value of no difference
    spread: float  # standard error


def auc(scores: ArrayLike, truth: ArrayLike, people: ArrayLike | None = None) -> Estimate:
    """Area under the ROC curve of scores (N,) for truth (N,); ties count half.

    people (N,): the person of each record; None: every record is of another person. The variance is that of the
    placements, summed by person (DeLong et al., Comparing the Areas under Two or More Correlated Receiver Operating
    Characteristic Curves, 1988; Obuchowski, Nonparametric Analysis of Clustered ROC Curve Data, 1997). The interval is
    normal on the logit scale, which keeps it in (0, 1). If there is no variance, it is Clopper and Pearson's for the
    people of the smaller class. Raises GmiError if a class is missing or has a single record.
    """
    value, influence = _area(scores, truth)
    ids = _ids(people, len(influence))
    n, clusters = len(influence), len(np.unique(ids))
    spread = _spread(influence, ids)
    if spread == 0:
        fewer = _fewer(truth, ids)
        low, high = clopper_pearson(round(value * fewer), fewer)
        return Estimate(value, min(low, value), max(high, value), n, clusters)
    inner = np.clip(value, 1e-9, 1 - 1e-9)
    half = -ndtri(TAIL) * spread / (inner * (1 - inner))
    low, high = (1 / (1 + np.exp(-(np.log(inner / (1 - inner)) + end))) for end in (-half, half))
    return Estimate(value, float(min(low, value)), float(max(high, value)), n, clusters)


def auc_difference(left: ArrayLike, right: ArrayLike, truth: ArrayLike, people: ArrayLike | None = None) -> Difference:
    """Area under the curve of the left scores (N,) minus that of the right ones (N,), for the same records.

    The other arguments, errors and the variance are those of `auc`. If there is a difference without any variance, p is
    the sign test's: all people of the smaller class agree.
    """
    (left_area, left_influence), (right_area, right_influence) = _area(left, truth), _area(right, truth)
    ids = _ids(people, len(left_influence))
    value, spread = left_area - right_area, _spread(left_influence - right_influence, ids)
    n, clusters = len(left_influence), len(np.unique(ids))
    if spread == 0 and value != 0:
        fewer = _fewer(truth, ids)
        ends = (float(np.sign(value)) * end for end in clopper_pearson(round(abs(value) * fewer), fewer))
        low, *_, high = sorted((*ends, value))
        return Difference(Estimate(value, low, high, n, clusters), min(1.0, 2.0 * 0.5**fewer), spread)
    half = -ndtri(TAIL) * spread
    p = 1.0 if value == 0 else float(2 * ndtr(-abs(value) / spread))
    return Difference(Estimate(value, max(-1.0, value - half), min(1.0, value + half), n, clusters), p, spread)


def contrast(left: Difference, right: Difference) -> Difference:
    """The left difference minus the right one, which is of other people; the interval is normal.

    Raises GmiError if neither has any variance.
    """
    spread = float(np.hypot(left.spread, right.spread))
    if spread == 0:
        raise GmiError("neither group has any variance: no interval can be given")
    a, b = left.estimate, right.estimate
    value, half = a.value - b.value, -ndtri(TAIL) * spread
    n, clusters = a.n + b.n, a.people + b.people
    return Difference(
        Estimate(value, value - half, value + half, n, clusters), float(2 * ndtr(-abs(value) / spread)), spread
    )


def hit_rate(scores: ArrayLike, truth: ArrayLike, false_alarms: float, people: ArrayLike | None = None) -> Estimate:
    """Share of the positives above the score that at most a share `false_alarms` of the negatives exceeds.

    Shares are means over people. Of ties at that score, a part chosen by lot uses up the remaining false alarms: a
    positive among them counts with that probability, so that uninformative scores hit as often as they raise alarms.
    The interval is `estimate`'s for the positives, widened by what is not known of the threshold: false alarms hang
    together by person. With fewer than 3.7 independent ones its lower end is 0, as the threshold of that rate may lie
    above all scores seen. Raises GmiError if a class is missing, or if the negatives are too few for that rate: less
    than one of them would be a false alarm.
    """
    values, truth = _checked(scores, truth)
    ids = _ids(people, len(values))
    negative, positive, owners = values[~truth], values[truth], ids[truth]
    _refuse_few(len(negative), false_alarms)
    _, whose, trials = np.unique(ids[~truth], return_inverse=True, return_counts=True)
    events = np.bincount(whose, _above(negative, negative, false_alarms))
    count = effective_count(events, trials, events.sum(), len(negative))
    rarer, commoner = rates_around(false_alarms, count, len(trials))
    few, found, many = (_above(positive, negative, rate) for rate in (rarer, false_alarms, commoner))
    least, greatest = (by_person(some, owners).mean() for some in (few, many))
    return widened(estimate(found, owners), 0.0 if may_be_unseen(count) else float(least), float(greatest))


def hit_difference(left: ArrayLike, right: ArrayLike, truth: ArrayLike, false_alarms: float) -> Estimate:
    """Hit rate of the left scores (N,) minus that of the right ones (N,), for the same people, one record each.

    The interval is `difference`'s over the positives, which takes both thresholds for known, and never narrower than
    the bootstrap's over positives and negatives (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, sec. 6.2
    and 8.3), always of the same draws. Raises GmiError as `hit_rate` does.
    """
    sides = [_checked(scores, truth)[0] for scores in (left, right)]
    positive = np.asarray(truth, bool)
    held, lacking = ([side[rows] for side in sides] for rows in (positive, ~positive))
    _refuse_few(len(lacking[0]), false_alarms)
    inner = difference(*(_above(*each, false_alarms) for each in zip(held, lacking, strict=True)))
    rng, drawn = np.random.default_rng(0), np.empty(_RESAMPLES)
    for number in range(_RESAMPLES):
        some, others = (rng.integers(len(each), size=len(each)) for each in (held[0], lacking[0]))
        first, second = (
            _above(have[some], lack[others], false_alarms).mean() for have, lack in zip(held, lacking, strict=True)
        )
        drawn[number] = first - second
    half = -ndtri(TAIL) * drawn.std(ddof=1)
    low, high = max(-1.0, min(inner.low, inner.value - half)), min(1.0, max(inner.high, inner.value + half))
    return Estimate(inner.value, float(low), float(high), inner.n, inner.people)


def _refuse_few(negatives: int, false_alarms: float) -> None:
    if false_alarms * negatives + 1e-9 < 1:
        raise GmiError(
            f"{negatives} negatives are too few for a false-alarm rate of {false_alarms:g}: it takes "
            f"{int(np.ceil(1 / false_alarms))}"
        )


def _above(values: Array, negative: Array, rate: float) -> Array:
    """Whether the values (N,) lie above the threshold that this share of the negatives (M,) exceeds; a tie, by lot."""
    allowed = int(rate * len(negative) + 1e-9)
    if allowed >= len(negative):
        return np.ones(len(values))
    place = len(negative) - 1 - allowed
    threshold = np.partition(negative, place)[place]
    lot = (allowed - (negative > threshold).sum()) / (negative == threshold).sum()
    return np.where(values > threshold, 1.0, np.where(values == threshold, lot, 0.0))


@dataclass(frozen=True)
class Detection:
    """The area under the curve and the hit rates of one method that tells members from others."""

    method: str
    auc: Outcome
    hits: dict[str, Outcome]  # by rate of false alarms


def detection(
    method: str, scores: ArrayLike, truth: ArrayLike, people: ArrayLike | None, false_alarms: Iterable[float]
) -> Detection:
    """Area and hit rates of scores (N,) for truth (N,), with people (N,) as clusters; see `auc` and `hit_rate`."""
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


def _ids(people: ArrayLike | None, count: int) -> NDArray[np.int64]:
    """The person of each record (N,)."""
    return np.arange(count) if people is None else np.asarray(people)


def _fewer(truth: ArrayLike, ids: NDArray[np.int64]) -> int:
    """Number of people in the class that has fewer of them."""
    positive = np.asarray(truth, bool)
    return min(len(np.unique(ids[positive])), len(np.unique(ids[~positive])))


def _area(scores: ArrayLike, truth: ArrayLike) -> tuple[float, Array]:
    """The area, and the influence of each record on it (N,): its placement in the other class minus the mean.

    A placement is the share of the other class that lies on the right side of the record; ties count half.
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
    """Standard error: the root of the sum over people of their squared influence."""
    _, index = np.unique(people, return_inverse=True)
    return float(np.sqrt((np.bincount(index, influence) ** 2).sum()))
