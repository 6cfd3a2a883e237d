"""Power: what an audit could have shown, and how many people it takes."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri, stdtrit

from gmi.errors import GmiError
from gmi.metrics.rates import TAIL, unseen


def detectable(*differences: ArrayLike, tests: int = 1, power: float = 0.8) -> float:
    """Smallest true effect that an audit would have called with this power: every difference's interval above 0.

    differences: (P,) of each person, one array for each control (and judge) that must be beaten; all people's are
        resampled together, as they hang together.
    tests: the number of attacks among which Holm's method has to call this one first.
    Each resample of the centred differences says how large an effect would have been called in it. If most people show
    no difference, an effect brings a spread of its own: a share d of people won outright adds d (1 - d). Raises
    GmiError for fewer than two people.
    """
    rows = np.stack([np.asarray(row, np.float64) for row in differences])
    people = rows.shape[1]
    if people < 2 or not np.isfinite(rows).all():
        raise GmiError("what an audit could detect cannot be told from one person, or without her figures")
    quantile = stdtrit(people - 1, 1 - TAIL / tests)
    if all(np.median(np.abs(row)) == 0 for row in rows):
        c = (quantile + stdtrit(people - 1, power)) ** 2 / people
        variance = rows.var(1, ddof=1).max()
        least = (c + np.sqrt(c**2 + 4 * c * (1 + c) * variance)) / (2 * (1 + c))  # d^2 = c (s^2 + d (1 - d))
        return float(max(least, unseen(people) / (1 - unseen(people))))
    chosen = np.random.default_rng(0).integers(people, size=(int(np.clip(4e6 / people, 200, 2000)), people))
    samples = [(row - row.mean())[chosen] for row in rows]
    needed = [quantile * sample.std(1, ddof=1) / np.sqrt(people) - sample.mean(1) for sample in samples]
    return float(np.quantile(np.max(needed, 0), power))


def people_needed(spread: float, margin: float, bounds: int = 1, power: float = 0.8) -> int:
    """Number of people from which bounds below `margin` can be expected with this power, where there is no effect.

    spread: standard deviation of the per-person differences. Bounds are one-sided, of 95 %:
    ((z(0.95) + z(power)) spread / margin)^2.
    bounds: the number of those that must all lie below it, each with the power's root.
    """
    each = power ** (1 / bounds)
    return int(np.ceil(((ndtri(1 - 2 * TAIL) + ndtri(each)) * spread / margin) ** 2))


def people_unseen(share: float) -> int:
    """Number of people from which `unseen` is below a share: none among them excludes it. 0.05: 59, 0.1: 29."""
    return int(np.floor(np.log(0.05) / np.log1p(-share))) + 1
