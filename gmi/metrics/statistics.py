"""Statistics with intervals: no bare number in a report, but a 95 % interval whose unit is the *person*, not the image.

Candidates of one person depend on each other, so values are averaged per person first and people are resampled (cluster
bootstrap). The interval is BCa (Efron 1987) at levels expanded for small samples (Hesterberg 2015). By itself it covers
the true value in 93 to 97 % of most cases an audit meets, but in fewer when nearly all people have the same value. So
it is never narrower than a *guard* for what the bootstrap cannot see: for a level with known bounds, people unlike all
those observed (`unseen`); for a difference, Student's t, which keeps false calls at 2.5 % when hits are few and BCa
alone makes 6 %. tests/metrics/test_statistics.py measures the coverage.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field
from scipy.special import betaincinv, ndtr, ndtri, stdtr, stdtrit

from gmi.errors import GmiError

TAIL = 0.025  # on each side of an interval

Bounds = tuple[float, float]


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


def by_person(values: ArrayLike, people: ArrayLike) -> np.ndarray:
    """Mean value (P,) of each distinct person, sorted by id, from values (N,) and their people (N,).

    A person with a NaN among the values has a mean of NaN. Raises GmiError for other shapes.
    """
    values, people = np.asarray(values, np.float64), np.asarray(people)
    if values.ndim != 1 or values.shape != people.shape:
        raise GmiError(f"{values.shape} values for {people.shape} people: give one person's id for each value")
    _, person, count = np.unique(people, return_inverse=True, return_counts=True)
    return np.bincount(person, values) / count


def estimate(
    values: ArrayLike, people: ArrayLike, *, bounds: Bounds | None = (0.0, 1.0), seed: int = 0, resamples: int = 2000
) -> Estimate:
    """Mean over people of the per-person means of values (N,), whose people are (N,).

    bounds: the least and greatest possible value, which the guard needs and the interval keeps; None: unknown (as for a
    distance), and the guard is Student's t. Raises GmiError for values that are missing (NaN), infinite or out of
    bounds, and without bounds if all people are equal, since then no interval can be given.
    """
    means = by_person(values, people)
    _check(means, bounds)
    return _mean(means, bounds, bounds is not None, len(np.asarray(values)), seed, resamples)


def difference(
    left: ArrayLike, right: ArrayLike, *, bounds: Bounds | None = (-1.0, 1.0), seed: int = 0, resamples: int = 2000
) -> Estimate:
    """Mean of the paired differences left (P,) - right (P,), one pair per person, with n = P.

    The guard is Student's t. If all people differ by the same amount, mostly 0, there is no spread to learn from, and
    "no difference" is only as certain as P people make it: the guard is then `unseen` (100 people: 0 +- 0.03). Raises
    GmiError as `estimate` does.
    """
    pairs = _paired(left, right)
    means = pairs[0] - pairs[1]
    _check(means, bounds)
    return _mean(means, bounds, False, len(means), seed, resamples)


def p_value(differences: ArrayLike) -> float:
    """P-value of Student's paired t-test, two-sided, for differences (P,), one per person.

    It is 1 for fewer than two people, and if all differences are 0.
    """
    values = np.asarray(differences, np.float64)
    if len(values) < 2 or not values.any():
        return 1.0
    spread = values.std(ddof=1) / np.sqrt(len(values))
    return 0.0 if spread == 0 else float(2 * stdtr(len(values) - 1, -abs(values.mean()) / spread))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number. Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979."""
    adjusted, greatest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        greatest = max(greatest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = greatest
    return adjusted


def recovered(
    attack: ArrayLike, control: ArrayLike, oracle: ArrayLike, *, seed: int = 0, resamples: int = 2000
) -> Estimate | Failed:
    """The share (A - B) / (O - B) that the attack recovered of what the prior can express.

    A, B and O are the means of attack, best control and oracle projection, with per-person values (P,) in [0, 1]. The
    interval resamples people, all three values together, and is guarded by the linearised ratio's Student's t. Failed
    if the interval of O - B includes 0: the figure does not show then what the prior can express of these people.
    Raises GmiError as `estimate` does.
    """
    a, b, o = _paired(attack, control, oracle)
    room = difference(o, b, seed=seed, resamples=resamples)
    if room.low <= 0:
        return Failed(
            f"nothing was in reach by this figure: the oracle exceeds the control by {room.value:.2f} "
            f"[{room.low:.2f}, {room.high:.2f}]"
        )
    people, gain, span = len(a), a - b, o - b
    value = gain.mean() / span.mean()
    rest = (gain - value * span) / span.mean()  # the ratio's influence on each person: mean 0
    if np.ptp(rest) <= _epsilon(rest):  # all people alike; people unlike them can add 1 + |value| to the numerator
        half = unseen(people) * (1 + abs(value)) / span.mean()
        return Estimate(float(value), float(value - half), float(value + half), people, people)
    chosen = _resampled(people, seed, resamples)
    room_left = np.maximum(span[chosen].mean(1), 1e-12)  # the few resamples without room give a huge ratio: a tail
    replicates = gain[chosen].mean(1) / room_left
    without = (gain.sum() - gain) / (span.sum() - span)
    low, high = bca(replicates, value, without, _expanded(people))
    guard = _student(rest)
    return Estimate(float(value), min(low, value - guard), max(high, value + guard), people, people)


def detectable(differences: ArrayLike, power: float = 0.8) -> float:
    """Smallest true mean paired difference that this audit would have called (interval above 0) with this power.

    d = (t(0.975) + t(power)) sqrt(variance / P), where the variance s^2 is that of the per-person differences (P,). If
    most people show no difference, an effect brings a spread of its own: a share d of people won outright adds
    d (1 - d), so that d > 0 even if all differences are 0 (100 people: 0.07). Above 1, no rate could have been called.
    Raises GmiError for fewer than two people.
    """
    differences = np.asarray(differences, np.float64)
    people = len(differences)
    _check(differences, None)
    if people < 2:
        raise GmiError("what an audit could detect cannot be told from one person: give at least two")
    c = (stdtrit(people - 1, 1 - TAIL) + stdtrit(people - 1, power)) ** 2 / people
    variance = differences.var(ddof=1)
    if np.median(np.abs(differences)) > 0:
        return float(np.sqrt(c * variance))
    return float((c + np.sqrt(c**2 + 4 * c * (1 + c) * variance)) / (2 * (1 + c)))  # d^2 = c (s^2 + d (1 - d))


def unseen(people: int) -> float:
    """Greatest share that people unlike all P observed ones can have, with 95 % confidence: 1 - 0.05^(1/P), about 3/P.

    The zero-hit upper bound, one-sided: the upper end of `clopper_pearson(0, P, level=0.90)`, where a central interval
    of 95 % ends at 1 - 0.025^(1/P). 0/100: 2.95 %, 0/530: 0.56 %, 0/1000: 0.30 %.
    """
    return 1 - 0.05 ** (1 / people)


def clopper_pearson(hits: int, n: int, level: float = 0.95) -> Bounds:
    """Exact central interval of a rate from n independent trials, (1 - level) / 2 per side (Clopper & Pearson 1934)."""
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else float(betaincinv(hits, n - hits + 1, tail))
    high = 1.0 if hits == n else float(betaincinv(hits + 1, n - hits, 1 - tail))
    return low, high


def any_of_m(fmr: float, m: int) -> float:
    """Chance 1 - (1 - FMR)^m that at least one of m independent strangers matches."""
    return -float(np.expm1(m * np.log1p(-fmr))) if fmr < 1 else 1.0


def jackknife(without: ArrayLike, value: float, n: int, *, bounds: Bounds | None = None) -> Estimate:
    """Estimate of a statistic that is not a mean (a Frechet distance), from its values (P,) with each person left out.

    Student's t on the jackknife's standard error (Tukey 1958): sqrt((P - 1) / P sum (without - mean)^2). It suits
    smooth statistics only; it shows spread, not bias. Raises GmiError for fewer than two people, and if all values are
    equal.
    """
    without = np.asarray(without, np.float64)
    _check(np.append(without, value), None)
    if np.ptp(without) == 0:
        raise GmiError(f"no spread over {len(without)} people left out in turn: no interval can be given")
    # the standard error of a mean has sqrt(P (P - 1)) where the jackknife has sqrt(P / (P - 1)): P - 1 times less
    half = _student(without) * (len(without) - 1)
    low, high = np.clip((value - half, value + half), *(bounds or (-np.inf, np.inf)))
    return Estimate(float(value), float(low), float(high), n, len(without))


def bca(replicates: np.ndarray, value: float, without: np.ndarray, z: float) -> Bounds:
    """Bias-corrected and accelerated interval (Efron 1987, eq. 2.3) at the normal quantiles -z and z.

    replicates (B,) of the statistic, its value, and its values (P,) with each person left out. Ties count half.
    """
    slack = 1e-9 * np.ptp(without)  # sums in another order differ in the last digit, and ties must stay ties
    below = ((replicates < value - slack).mean() + (replicates <= value + slack).mean()) / 2
    bias = ndtri(np.clip(below, 0.5 / len(replicates), 1 - 0.5 / len(replicates)))
    skew = without.mean() - without
    acceleration = (skew**3).sum() / (6 * (skew**2).sum() ** 1.5)  # |a| < 1/6: the denominator below stays positive
    ends = bias + np.array([-z, z])
    low, high = np.quantile(replicates, ndtr(bias + ends / (1 - acceleration * ends)))
    return float(low), float(high)


def _mean(means: np.ndarray, bounds: Bounds | None, guard_unseen: bool, n: int, seed: int, resamples: int) -> Estimate:
    """Mean of means (P,): expanded BCa, never narrower than its guard, within the bounds."""
    people, value = len(means), means.mean()
    equal = np.ptp(means) <= _epsilon(means)
    if bounds is None and equal:
        raise GmiError(f"no spread over {people} people and no bounds: no interval can be given")
    least, greatest = bounds or (-np.inf, np.inf)
    if bounds is not None and (guard_unseen or equal):
        low, high = value - unseen(people) * (value - least), value + unseen(people) * (greatest - value)
    else:
        low, high = value - _student(means), value + _student(means)
    if not equal:
        replicates = means[_resampled(people, seed, resamples)].mean(1)
        ends = bca(replicates, value, (means.sum() - means) / (people - 1), _expanded(people))
        low, high = min(low, ends[0]), max(high, ends[1])
    value, low, high = np.clip((value, low, high), least, greatest)
    return Estimate(float(value), float(low), float(high), n, people)


def _expanded(people: int) -> float:
    """Normal quantile that widens a percentile interval to Student's (Hesterberg 2015, section 4.5.1)."""
    return float(np.sqrt(people / (people - 1)) * stdtrit(people - 1, 1 - TAIL))


def _student(values: np.ndarray) -> float:
    """Half the width of Student's 95 % interval of a mean of values (P,)."""
    return float(stdtrit(len(values) - 1, 1 - TAIL) * values.std(ddof=1) / np.sqrt(len(values)))


def _resampled(people: int, seed: int, resamples: int) -> np.ndarray:
    """Indices (resamples, P) of people drawn with replacement."""
    return np.random.default_rng(seed).integers(people, size=(resamples, people))


def _epsilon(values: np.ndarray) -> float:
    return 1e-12 * max(1.0, float(np.abs(values).max()))


def _paired(*columns: ArrayLike) -> list[np.ndarray]:
    arrays = [np.asarray(column, np.float64) for column in columns]
    if any(array.ndim != 1 or array.shape != arrays[0].shape for array in arrays):
        raise GmiError(f"per-person values {[array.shape for array in arrays]}: give one a person, the same people")
    for array in arrays:
        _check(array, None)
    return arrays


def _check(values: np.ndarray, bounds: Bounds | None) -> None:
    if len(values) == 0:
        raise GmiError("no values: an estimate needs at least one person")
    if bad := int((~np.isfinite(values)).sum()):
        raise GmiError(f"{bad} of {len(values)} people have no value: record the metric as failed, do not drop them")
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
