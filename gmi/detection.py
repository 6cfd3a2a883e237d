"""How well a score tells positives from negatives: areas under the curve and hit rates, with intervals over records."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from gmi.errors import GmiError
from gmi.statistics import TAIL, Estimate, clopper_pearson

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """Of two areas for the same records, with the p-value of no difference."""

    estimate: Estimate
    p: float


def auc(scores: ArrayLike, truth: ArrayLike) -> Estimate:
    """Area under the ROC curve of scores (N,) for truth (N,), ties counting half.

    The interval is that of DeLong et al., Comparing the Areas under Two or More Correlated Receiver Operating
    Characteristic Curves, 1988, on the logit scale, where it keeps to (0, 1); at 0 or 1, where there is no variance, it
    is Clopper and Pearson's of the smaller class. Raises GmiError where one of the classes is missing.
    """
    positive, negative = _placements(scores, truth)
    value, n = float(positive.mean()), len(positive) + len(negative)
    spread = _variance(positive[None], negative[None])[0, 0] ** 0.5
    if spread == 0:
        fewer = min(len(positive), len(negative))
        low, high = clopper_pearson(round(value * fewer), fewer)
        return Estimate(value, min(low, value), max(high, value), n, n)
    inner = np.clip(value, 1e-9, 1 - 1e-9)
    half = -ndtri(TAIL) * spread / (inner * (1 - inner))
    low, high = (1 / (1 + np.exp(-(np.log(inner / (1 - inner)) + end))) for end in (-half, half))
    return Estimate(value, float(min(low, value)), float(max(high, value)), n, n)


def auc_difference(left: ArrayLike, right: ArrayLike, truth: ArrayLike) -> Difference:
    """AUC of the left scores less that of the right ones, for the same records. DeLong et al. 1988, eq. 8."""
    pairs = [_placements(scores, truth) for scores in (left, right)]
    positive, negative = (np.stack(rows) for rows in zip(*pairs, strict=True))
    value = float(positive[0].mean() - positive[1].mean())
    covariance = _variance(positive, negative)
    spread = max(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1], 0.0) ** 0.5
    n = positive.shape[1] + negative.shape[1]
    half = -ndtri(TAIL) * spread
    p = 1.0 if value == 0 else 0.0 if spread == 0 else float(2 * ndtr(-abs(value) / spread))
    return Difference(Estimate(value, max(-1.0, value - half), min(1.0, value + half), n, n), p)


def hit_rate(scores: ArrayLike, truth: ArrayLike, false_alarms: float) -> Estimate:
    """Share of the positives above the score that at most `false_alarms` of the negatives exceed.

    Clopper and Pearson's interval, of the positives: the threshold is taken as it is. Raises GmiError where a class is
    missing, or where there are too few negatives for that rate: fewer than one of them would be a false alarm.
    """
    scores, truth = _checked(scores, truth)
    negative = np.sort(scores[~truth])[::-1]
    allowed = int(false_alarms * len(negative) + 1e-9)
    if allowed < 1:
        raise GmiError(
            f"{len(negative)} negatives are too few for a false-alarm rate of {false_alarms:g}: it takes "
            f"{int(np.ceil(1 / false_alarms))}"
        )
    threshold = negative[allowed] if allowed < len(negative) else -np.inf
    hits = int((scores[truth] > threshold).sum())
    low, high = clopper_pearson(hits, int(truth.sum()))
    return Estimate(hits / int(truth.sum()), low, high, len(scores), int(truth.sum()))


def _checked(scores: ArrayLike, truth: ArrayLike) -> tuple[Array, NDArray[np.bool_]]:
    values, truth = np.asarray(scores, np.float64), np.asarray(truth, bool)
    if np.isnan(values).any():
        raise GmiError("scores hold NaN")
    if not 0 < truth.sum() < len(truth):
        raise GmiError("there are only positives, or only negatives: nothing can be told apart")
    return values, truth


def _placements(scores: ArrayLike, truth: ArrayLike) -> tuple[Array, Array]:
    """For each positive the share of negatives below it, and for each negative that of positives above it."""
    values, truth = _checked(scores, truth)
    whole, m, n = rankdata(values), int(truth.sum()), int((~truth).sum())
    below = (whole[truth] - rankdata(values[truth])) / n
    above = 1 - (whole[~truth] - rankdata(values[~truth])) / m
    return below, above


def _variance(positive: Array, negative: Array) -> Array:
    """Covariances (S, S) of the areas of S scores, from placements (S, positives) and (S, negatives)."""
    if min(positive.shape[1], negative.shape[1]) < 2:
        raise GmiError("one positive or one negative has no spread: no interval can be given")
    return np.atleast_2d(np.cov(positive)) / positive.shape[1] + np.atleast_2d(np.cov(negative)) / negative.shape[1]
