"""Rates of independent trials: exact intervals, what nobody observed can hide, and chance levels."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv, gammaincinv
from scipy.stats import binom

TAIL = 0.025  # on each side of an interval

Bounds = tuple[float, float]


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


def garwood(count: float) -> Bounds:
    """Exact central interval of 95 % of a Poisson mean from its count (Garwood 1936).

    The count need not be whole: an effective count is what clustered events are worth.
    """
    low = 0.0 if count <= 0 else float(gammaincinv(count, TAIL))
    return low, float(gammaincinv(count + 1, 1 - TAIL))


def effective_count(events: ArrayLike, trials: ArrayLike, total_events: float, total_trials: float) -> float:
    """How many independent events say as much of a rate as events that hang together by people.

    events, trials: (Q,) of every person; a comparison of two people is one of both.
    total_events, total_trials: each event and trial counted once.
    The variance of the rate is the jackknife's, each person left out with all that involves her (Arvesen, Jackknifing
    U-Statistics, 1969); independent events of rate p have p^2 (1 - p) / count. At most the number of events.
    """
    left = total_trials - np.asarray(trials, np.float64)
    if not total_events or (left <= 0).any():
        return 0.0
    rate, people = total_events / total_trials, len(left)
    without = (total_events - np.asarray(events, np.float64)) / left
    variance = (people - 1) / people * ((without - without.mean()) ** 2).sum()
    return float(total_events if variance == 0 else min(total_events, rate**2 * (1 - rate) / variance))


def rates_around(rate: float, count: float, people: int) -> Bounds:
    """The rates that a threshold set at `rate` may truly have, from its effective count of events.

    Exact Poisson limits of the count; with none, people stand in for independent trials.
    """
    low, high = garwood(count)
    return (0.0, min(1.0, high / people)) if count <= 0 else (rate * low / count, min(1.0, rate * high / count))


def quantile_ranks(share: float, people: int) -> tuple[int, int]:
    """Ranks, from 0 and ascending, of the two values between which a quantile lies with 95 % confidence.

    The number of values below the quantile is binomial, whatever their distribution. A rank of -1 or `people` lies
    beyond all of them.
    """
    low, high = binom.ppf((TAIL, 1 - TAIL), people, share)
    return int(low) - 1, int(high)


def may_be_unseen(count: float) -> bool:
    """Whether so few events (below 3.7) are expected that there might have been none: no end can be told then."""
    return bool(np.exp(-count) > TAIL)
