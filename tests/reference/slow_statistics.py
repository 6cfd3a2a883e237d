"""Slow formulas for gmi.metrics.statistics, written from the papers with loops and without numpy."""

from math import comb, sqrt
from statistics import NormalDist, fmean

NORMAL = NormalDist()


def means_by_person(values: list[float], people: list[int]) -> list[float]:
    return [fmean(v for v, p in zip(values, people, strict=True) if p == person) for person in sorted(set(people))]


def bca(sample: list[float], replicates: list[float], z: float) -> tuple[float, float]:
    """Efron and Tibshirani (1993), eqs. 14.10, 14.14 and 14.15, of the mean; ties count half."""
    mean = fmean(sample)
    below = fmean(1.0 if r < mean - 1e-12 else 0.5 if r <= mean + 1e-12 else 0.0 for r in replicates)
    bias = NORMAL.inv_cdf(below)
    without = [fmean(sample[:i] + sample[i + 1 :]) for i in range(len(sample))]
    centre = fmean(without)
    a = sum((centre - w) ** 3 for w in without) / (6 * sum((centre - w) ** 2 for w in without) ** 1.5)

    def end(z: float) -> float:
        level = NORMAL.cdf(bias + (bias + z) / (1 - a * (bias + z)))
        position = level * (len(replicates) - 1)
        lower, ordered = int(position), sorted(replicates)
        upper = min(lower + 1, len(ordered) - 1)
        return ordered[lower] + (position - lower) * (ordered[upper] - ordered[lower])

    return end(-z), end(z)


def at_least(hits: int, n: int, rate: float) -> float:
    """Chance of that many hits or more in n trials."""
    return sum(comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(hits, n + 1))


def jackknife_error(sample: list[float]) -> float:
    """Standard error of the mean from leaving each out; equals s / sqrt(P)."""
    without = [fmean(sample[:i] + sample[i + 1 :]) for i in range(len(sample))]
    return sqrt((len(sample) - 1) / len(sample) * sum((w - fmean(without)) ** 2 for w in without))
