"""Statistics with intervals: no bare number in a report, but a 95 % interval whose unit is the *person*, not the image.

Candidates of one person depend on each other, so values are averaged per person first. The interval is ABC (DiCiccio &
Efron, More Accurate Confidence Intervals in Exponential Families, 1992): what BCa's bootstrap over people tends to, in
closed form, so that the same values always give the same interval. Its levels are expanded for small samples
(Hesterberg 2015). It is never narrower than a *guard* for what resampling cannot see: for a level with known bounds,
and for any values of which most are the same, people unlike all those observed (`unseen`); for a difference, Student's
t.

Values may come in several *draws*: seeds of one audit, trainings of one defence, samples of one prior. What draws have
in common adds to the interval, by the components of variance of a two-way layout. `scripts/calibrate_intervals.py`
measures how often every kind of interval covers the truth.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field
from scipy.special import stdtrit

from gmi.errors import GmiError
from gmi.metrics.rates import TAIL, Bounds, unseen

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int  # candidates or comparisons
    people: int  # clusters: what the interval rests on


@dataclass(frozen=True)
class Failed:
    """A metric that could not be computed, and why; never 0, never absent."""

    failed: Annotated[str, Field(min_length=1)]  # the reason


def by_person(values: ArrayLike, people: ArrayLike) -> Array:
    """Mean value (P,) of each distinct person, sorted by id, from values (N,) and their people (N,).

    A person with a NaN among the values has a mean of NaN. Raises GmiError for other shapes.
    """
    return by_draw(values, people, np.zeros(np.shape(people), int))[0]


def by_draw(values: ArrayLike, people: ArrayLike, draws: ArrayLike) -> Array:
    """Mean value (S, P) of each person in each draw, both sorted by id, from values (N,), people (N,) and draws (N,).

    A person with a NaN among the values of a draw has a mean of NaN there. Raises GmiError for other shapes, and where
    a person is missing from a draw.
    """
    values, people, draws = np.asarray(values, np.float64), np.asarray(people), np.asarray(draws)
    if values.ndim != 1 or not values.shape == people.shape == draws.shape:
        raise GmiError(f"{values.shape} values for {people.shape} people: give one person's id for each value")
    (ids, person), (names, draw) = numbered(people), numbered(draws)
    cell, shape = draw * len(ids) + person, (len(names), len(ids))
    count = np.bincount(cell, minlength=len(names) * len(ids))
    if not count.all():
        raise GmiError("a person is missing from a draw: give values of the same people in every draw")
    return (np.bincount(cell, values, len(count)) / count).reshape(shape)


def numbered(ids: ArrayLike) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The distinct ids, sorted, and the place among them (N,) of each of the ids (N,); small numbers are not sorted."""
    ids = np.asarray(ids)
    if ids.size == 0 or ids.dtype.kind not in "iu" or ids.min() < 0 or ids.max() > 10 * ids.size:
        return np.unique(ids, return_inverse=True)
    there = np.bincount(ids.ravel()) > 0
    return np.flatnonzero(there).astype(ids.dtype), (np.cumsum(there) - 1)[ids]


def estimate(
    values: ArrayLike, people: ArrayLike, *, draws: ArrayLike | None = None, bounds: Bounds | None = (0.0, 1.0)
) -> Estimate:
    """Mean over people of the per-person means of values (N,).

    people: (N,) ids of the people whose values they are.
    draws: (N,) ids of the draws that they come from; None: there is one.
    bounds: the least and greatest possible value, which the guard needs and the interval keeps; None: unknown (as for a
        distance), and the guard is Student's t.
    Raises GmiError for values that are missing (NaN), infinite or out of bounds, and without bounds if all people are
    equal, since then no interval can be given.
    """
    means = by_draw(values, people, np.zeros(np.shape(people), int) if draws is None else draws)
    _check(means, bounds)
    return _mean(means, bounds, bounds is not None, len(np.asarray(values)), TAIL)


def difference(
    left: ArrayLike, right: ArrayLike, *, bounds: Bounds | None = (-1.0, 1.0), tail: float = TAIL
) -> Estimate:
    """Mean of the paired differences left - right, one pair per person, with n = P.

    left, right: (P,), or (S, P) where there are several draws; one with (P,) is the same in all draws.
    bounds: the least and greatest possible difference.
    tail: share of intervals that may lie above the truth, and of those that may lie below it.
    The guard is Student's t, and where most people differ by the same amount, mostly 0, `unseen`: "no difference" is
    only as certain as P people make it (100 people: 0 +- 0.03). Raises GmiError as `estimate` does.
    """
    pairs = _paired(left, right)
    means = pairs[0] - pairs[1]
    _check(means, bounds)
    return _mean(means, bounds, False, means.shape[1], tail)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number. Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979."""
    adjusted, greatest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        greatest = max(greatest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = greatest
    return adjusted


def recovered(attack: ArrayLike, control: ArrayLike, oracle: ArrayLike) -> Estimate | Failed:
    """The share (A - B) / (O - B) that the attack recovered of what the prior can express.

    attack, control, oracle: values (P,) in [0, 1] of each person, or (S, P) where there are several draws.
    A, B and O are their means. The interval is Fieller's for a ratio of paired means (Some Problems in Interval
    Estimation, 1954), guarded by `unseen` where most people gain the same. Failed if the interval of O - B includes 0:
    the figure does not show then what the prior can express of these people. Raises GmiError as `estimate` does.
    """
    a, b, o = np.broadcast_arrays(*_paired(attack, control, oracle))
    room, people = difference(o, b), a.shape[1]
    common = _common(np.stack([a - b, o - b])) if len(a) > 1 else np.zeros((2, 2))
    gain, span = (a - b).mean(0), (o - b).mean(0)
    value = gain.mean() / span.mean() if room.low > 0 else np.nan
    within = np.cov(gain, span) / people if people > 1 else np.zeros((2, 2))
    spread = (within + common) * _quantile(within[0, 0], common[0, 0], people, len(a), TAIL) ** 2
    width = span.mean() ** 2 - spread[1, 1]
    if room.low <= 0 or width <= 0:
        what = "nothing was in reach by this figure" if room.low <= 0 else "too little is known of what was in reach"
        return Failed(f"{what}: the oracle exceeds the control by {room.value:.2f} [{room.low:.2f}, {room.high:.2f}]")
    middle = gain.mean() * span.mean() - spread[0, 1]
    half = np.sqrt(max(0.0, middle**2 - width * (gain.mean() ** 2 - spread[0, 0])))
    low, high = (middle - half) / width, (middle + half) / width
    rest = gain - value * span
    if _alike(gain) or _alike(rest):  # people unlike them can add 1 + |value| to the numerator
        guard = unseen(people) * (1 + abs(value)) / span.mean()
        low, high = min(low, value - guard), max(high, value + guard)
    return Estimate(float(value), float(low), float(high), people, people)


def widened(inner: Estimate, least: float, greatest: float) -> Estimate:
    """The estimate of a rate with a second, independent source of doubt, by which alone it may be least to greatest.

    Distances from the value to the ends add up as variances do (Zou & Donner, Construction of Confidence Limits about
    Effect Measures, 2008: their MOVER).
    """
    value = inner.value
    below = np.hypot(value - inner.low, max(0.0, value - least))
    above = np.hypot(inner.high - value, max(0.0, greatest - value))
    return Estimate(value, float(max(0.0, value - below)), float(min(1.0, value + above)), inner.n, inner.people)


def jackknife(
    without: ArrayLike,
    value: float,
    n: int,
    *,
    bounds: Bounds | None = None,
    sizes: ArrayLike | None = None,
    people: int | None = None,
) -> Estimate:
    """Estimate of a statistic that is not a mean (a Frechet distance), from its values (G,) with each group left out.

    sizes: (G,) numbers of images in each group; None: they are equal.
    people: of whom the interval is, where some of the groups are none; None: each group is a person.
    Student's t on the jackknife's standard error (Tukey 1958), which for equal groups is
    sqrt((G - 1) / G sum (without - mean)^2); for others that of Busing et al., Delete-m Jackknife for Unequal m,
    Statistics and Computing, 1999, eq. 7, 8: a statistic's bias by the number of images does not pass for spread. It
    suits smooth statistics only; it shows spread, not bias. Raises GmiError for fewer than two groups, and if all
    values are equal.
    """
    without = np.asarray(without, np.float64)
    _check(np.append(without, value), None)
    if np.ptp(without) == 0:
        raise GmiError(f"no spread over {len(without)} people left out in turn: no interval can be given")
    shares = np.ones(len(without)) if sizes is None else np.asarray(sizes, np.float64)
    times = shares.sum() / shares
    single = times * value - (times - 1) * without  # what a group alone adds
    whole = len(without) * value - ((1 - 1 / times) * without).sum()
    error = np.sqrt(((single - whole) ** 2 / (times - 1)).mean())
    people = len(without) if people is None else people
    half = float(stdtrit(max(people - 1, 1), 1 - TAIL)) * error
    low, high = np.clip((value - half, value + half), *(bounds or (-np.inf, np.inf)))
    return Estimate(float(value), float(low), float(high), n, people)


def _mean(means: Array, bounds: Bounds | None, guard_unseen: bool, n: int, tail: float) -> Estimate:
    """Mean of means (S, P): expanded ABC, never narrower than its guards, within the bounds."""
    (draws, people), averages = means.shape, means.mean(0)
    value, equal = averages.mean(), np.ptp(averages) <= _epsilon(averages)
    if bounds is None and equal:
        raise GmiError(f"no spread over {people} people and no bounds: no interval can be given")
    least, greatest = bounds or (-np.inf, np.inf)
    low = high = value
    if not equal:
        low, high = _abc(averages, tail)
        if not guard_unseen:
            low, high = min(low, value - _student(averages, tail)), max(high, value + _student(averages, tail))
    if draws > 1:
        within, common = averages.var(ddof=1) / people if people > 1 else 0.0, _common(means[None])[0, 0]
        half = _quantile(within, common, people, draws, tail) * np.sqrt(within + common)
        usual = _student(averages, tail) if people > 1 else 0.0
        wider = half / usual if usual > 0 else 1.0
        low, high = value - max(half * equal, wider * (value - low)), value + max(half * equal, wider * (high - value))
    if bounds is not None and (guard_unseen or _alike(averages)):
        low = min(low, value - unseen(people) * (value - least))
        high = max(high, value + unseen(people) * (greatest - value))
    value, low, high = np.clip((value, low, high), least, greatest)
    return Estimate(float(value), float(low), float(high), n, people)


def _abc(means: Array, tail: float) -> Bounds:
    """ABC interval of the mean of means (P,): for a mean, bias and acceleration are both a sixth of its skewness.

    The normal quantile is widened to Student's (Hesterberg 2015, section 4.5.1).
    """
    people, rest = len(means), means - means.mean()
    acceleration = (rest**3).sum() / (6 * (rest**2).sum() ** 1.5)  # |a| < 1/6
    z = np.sqrt(people / (people - 1)) * stdtrit(people - 1, 1 - tail)
    ends = acceleration + np.array([-z, z])
    steps = ends / np.maximum(1 - acceleration * ends, 0.2) ** 2
    low, high = means.mean() + np.sqrt((rest**2).sum()) / people * steps
    return float(low), float(high)


def _common(columns: Array) -> Array:
    """Covariance (K, K) of means over means (K, S, P) by what draws have in common.

    What people explain of it is not taken off: with two or three draws, such a component of variance is 0 too often.
    """
    return np.atleast_2d(np.cov(columns.mean(2))) / columns.shape[1]


def _quantile(within: float, common: float, people: int, draws: int, tail: float) -> float:
    """Student's quantile for the sum of two variances of a mean, by Satterthwaite's degrees of freedom (1946)."""
    if within + common == 0 or people < 2:
        return 0.0
    parts = within**2 / (people - 1) + common**2 / max(1, draws - 1)
    return float(stdtrit((within + common) ** 2 / parts, 1 - tail))


def _student(values: Array, tail: float = TAIL) -> Any:
    """Half the width of Student's interval of a mean of values (..., P): a number for each leading index."""
    people = values.shape[-1]
    return stdtrit(people - 1, 1 - tail) * values.std(-1, ddof=1) / np.sqrt(people)


def _alike(means: Array) -> bool:
    """Whether more than half of the means (P,) are the same: then resampling knows next to nothing of the others."""
    return bool((np.abs(means - np.median(means)) <= _epsilon(means)).mean() > 0.5)


def _epsilon(values: Array) -> float:
    return 1e-12 * max(1.0, float(np.abs(values).max()))


def _paired(*columns: ArrayLike) -> list[Array]:
    """The columns as (S, P) each; Raises GmiError for other people."""
    arrays = [np.asarray(column, np.float64) for column in columns]
    if any(not 1 <= array.ndim <= 2 or array.shape[-1:] != arrays[0].shape[-1:] for array in arrays):
        raise GmiError(f"per-person values {[array.shape for array in arrays]}: give one a person, the same people")
    arrays = [np.atleast_2d(array) for array in arrays]
    if len({len(array) for array in arrays} - {1}) > 1:
        raise GmiError(f"{[len(array) for array in arrays]} draws: give the same draws, or one")
    for array in arrays:
        _check(array, None)
    return arrays


def _check(values: Array, bounds: Bounds | None) -> None:
    if values.size == 0:
        raise GmiError("no values: an estimate needs at least one person")
    if bad := int((~np.isfinite(np.atleast_2d(values)).all(0)).sum()):
        raise GmiError(
            f"{bad} of {values.shape[-1]} people have no value: record the metric as failed, do not drop them"
        )
    if bounds is not None and not (bounds[0] - 1e-9 <= values.min() and values.max() <= bounds[1] + 1e-9):
        raise GmiError(f"values from {values.min():.4g} to {values.max():.4g} are out of the bounds {bounds}")


Outcome = Estimate | Failed


Figure = TypeVar("Figure")


def attempt(compute: Callable[[], Figure | Failed]) -> Figure | Failed:
    """The computed figure, or the reason why it could not be computed: a GmiError becomes Failed."""
    try:
        return compute()
    except GmiError as error:
        return Failed(str(error))
