"""Repeats: what several trainings, or several seeds of an audit, say together.

Draws of the same model about the same people go to `statistics.difference`. Here are the two other cases: models that
were trained anew, each with a luck of its own, and seeds between which the people change, too. Both add the variance
between repeats to that over people, without taking off what people explain of it: with two or three repeats, a
component of variance is 0 too often. Degrees of freedom are Satterthwaite's (An Approximate Distribution of Estimates
of Variance Components, 1946).
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri, stdtr, stdtrit

from gmi.metrics.detection import Difference
from gmi.metrics.rates import TAIL, Bounds
from gmi.metrics.statistics import Array, Estimate, Failed, Outcome, difference

Part = tuple[float, float]
"""A variance of a mean, and its degrees of freedom."""


def trained_difference(left: ArrayLike, right: ArrayLike, *, tail: float = TAIL, together: bool = False) -> Difference:
    """Mean of left - right, one pair per person, of two models that were each trained anew for every draw.

    left, right: values (P,), or (S, P) where there are S trainings, in [0, 1].
    tail: share of intervals that may lie above the truth, and of those that may lie below it.
    together: both have the same weights in each draw, so that a training's luck is in both and only the variance of
        their differences counts.
    Else each model's trainings are its own: the variance of either's draws counts. The interval is that of `difference`
    over people, and never narrower than Student's, to which p belongs. Raises GmiError as `difference` does.
    """
    sides = [np.atleast_2d(np.asarray(side, np.float64)) for side in (left, right)]
    inner = difference(*(side.mean(0) for side in sides), tail=tail)
    if inner.people < 2:
        return Difference(inner, 1.0, 0.0)
    pairs = sides[0].mean(0) - sides[1].mean(0)
    lucky = [sides[0] - sides[1]] if together else sides
    return _widened(inner, [(pairs.var(ddof=1) / len(pairs), len(pairs) - 1.0), *map(_between, lucky)], tail)


def averaged_difference(differences: Sequence[Difference]) -> Difference:
    """Mean of the differences that several seeds found, whose people may be the same or others.

    The people of all seeds count as those of one: more seeds tell of luck, they are no more people.
    """
    if len(differences) == 1:
        return differences[0]
    estimate = averaged([each.estimate for each in differences], (-1.0, 1.0))
    assert isinstance(estimate, Estimate)
    values = np.array([[each.estimate.value] for each in differences])
    within = float(np.mean([each.spread**2 for each in differences]))
    return _widened(estimate, [(within, np.inf), _between(values)])


def averaged(outcomes: Sequence[Outcome], bounds: Bounds = (0.0, 1.0)) -> Outcome:
    """Mean of the figures that several seeds found, as in `averaged_difference`; the first that failed, if one did."""
    estimates = [each for each in outcomes if isinstance(each, Estimate)]
    if len(estimates) < len(outcomes):
        return next(each for each in outcomes if isinstance(each, Failed))
    if len(estimates) == 1:
        return estimates[0]
    values, lows, highs = np.array([(each.value, each.low, each.high) for each in estimates]).T
    value, between = values.mean(), _between(values[:, None])
    below, above = (
        _half([(float(width / ndtri(1 - TAIL)) ** 2, np.inf), between])
        for width in ((values - lows).mean(), (highs - values).mean())
    )
    low, high = np.clip((value - below, value + above), *bounds)
    count = sum(each.n for each in estimates)
    return Estimate(float(value), float(low), float(high), count, max(each.people for each in estimates))


def upper(estimate: Estimate) -> float:
    """The bound below which the truth lies with 95 % confidence, from a two-sided interval, as of normal noise."""
    return estimate.value + (estimate.high - estimate.value) * float(ndtri(1 - 2 * TAIL) / ndtri(1 - TAIL))


def in_words(seeds: int) -> str:
    """The number of seeds, for a sentence."""
    return "one seed" if seeds == 1 else f"{seeds} seeds"


def _between(draws: Array) -> Part:
    """The part that the luck of draws (S, P) has in their mean; none where there is one draw."""
    if len(draws) < 2:
        return 0.0, np.inf
    return float(draws.mean(1).var(ddof=1)) / len(draws), len(draws) - 1.0


def _widened(inner: Estimate, parts: Sequence[Part], tail: float = TAIL) -> Difference:
    """The difference with p of Student's test, and an interval that holds this test's."""
    half, value = _half(parts, tail), inner.value
    spread, freedom = _spread(parts)
    low, high = max(-1.0, min(inner.low, value - half)), min(1.0, max(inner.high, value + half))
    p = 1.0 if value == 0 else 0.0 if spread == 0 else float(2 * stdtr(freedom, -abs(value) / spread))
    return Difference(Estimate(value, low, high, inner.n, inner.people), p, spread)


def _half(parts: Iterable[Part], tail: float = TAIL) -> float:
    spread, freedom = _spread(parts)
    return float(stdtrit(freedom, 1 - tail)) * spread


def _spread(parts: Iterable[Part]) -> tuple[float, float]:
    """The standard error of a sum of variances, and its degrees of freedom."""
    variances, freedoms = np.array(list(parts)).T
    total, uncertain = variances.sum(), (variances**2 / freedoms).sum()
    return float(np.sqrt(total)), float(total**2 / uncertain) if uncertain > 0 else np.inf
