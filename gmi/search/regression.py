"""Regression on answers of which only a bound may be known, in the axes of what is known already.

A state t (D,) is a draw from a Gaussian; an answer about axes e (D,) is e t and a little noise: a number, or known to
lie above or below one. The estimate is the mode, by expectation maximisation: answers are put in as their expectation
within the bound, then the state follows as if they had been seen. For bounds alone this is probit regression (Albert &
Chib, JASA 1993), for numbers and bounds Tobit (Tobin, Econometrica 1958), for numbers ridge regression.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

_FOLDS = 5
_ROUNDS = 60  # of expectation maximisation: more change nothing that matters
_SHRINKAGE = 0.02  # of the covariance towards its diagonal, as it is measured on few states
_NOISE = (0.003, 0.01, 0.03, 0.1, 0.3)  # standard deviations of points, in units of the answers' spread
_CUT = 0.4  # the same where there are bounds alone, on which no noise can be measured
_MIXED = (0.1, 0.2, 0.4)  # the same where there are points and bounds


def gaussian(states: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) of states (N, D), the covariance shrunk towards its diagonal."""
    mean = states.mean(0)
    covariance = (states - mean).T @ (states - mean) / len(states)
    return mean, (1 - _SHRINKAGE) * covariance + _SHRINKAGE * covariance.diag().diag()


class Fit(NamedTuple):
    """States, and how well each fifth of the answers is foretold from the others."""

    states: Tensor  # (K, D) float64
    # chance that an answer of a yes, or among the highest tenth of a state's, is foretold higher than another; 0.5:
    # nothing is known
    foretold: float
    # root mean square of what is foretold less the answers that are numbers, in units of their spread; inf: none is
    error: float


def fit(axes: Tensor, low: Tensor, high: Tensor, mean: Tensor, covariance: Tensor, spread: float) -> Fit:
    """The likeliest states.

    Args:
        axes: of the questions (N, D).
        low: least value (N, K) that each answer may stand for; -inf where only `high` bounds it.
        high: greatest value (N, K), equal to `low` where the answer is a number; inf where only `low` bounds it.
        mean: of the states (D,).
        covariance: of the states (D, D).
        spread: standard deviation of the answers.
    """
    low, high = low.double(), high.double()
    gram, expected = axes @ covariance @ axes.T, (axes @ mean)[:, None]
    points = low == high
    if points.all():
        noises = (_least_noise(gram / spread**2, (low - expected) / spread),)
    else:
        noises = _MIXED if points.any() else (_CUT,)
    tried = []
    for noise in noises:
        foretold = _foretold(gram, expected, low, high, noise * spread)
        away = (foretold - low)[points]
        error = float(away.square().mean().sqrt() / low[points].std()) if points.any() else math.inf
        tried.append((error, noise, foretold))
    error, noise, foretold = min(tried, key=lambda each: each[0])
    weights = _weights(gram, expected, low, high, noise * spread)
    yes = low >= low.quantile(0.9, dim=0) if points.all() else ~low.isinf()
    return Fit(mean + (covariance @ axes.T @ weights).T, _area(foretold, yes), error)


def _foretold(gram: Tensor, expected: Tensor, low: Tensor, high: Tensor, noise: float) -> Tensor:
    """Each fifth of the answers (N, K), foretold from the others."""
    foretold, rows = torch.empty_like(low), torch.arange(len(low))
    for fold in range(_FOLDS):
        left, others = rows[rows % _FOLDS == fold], rows[rows % _FOLDS != fold]
        part = _weights(gram[others][:, others], expected[others], low[others], high[others], noise)
        foretold[left] = expected[left] + gram[left][:, others] @ part
    return foretold


def _weights(gram: Tensor, expected: Tensor, low: Tensor, high: Tensor, noise: float) -> Tensor:
    """What each answer adds to the states (N, K), by expectation maximisation where there are bounds."""
    points, fitted, weights = low == high, expected.expand_as(low), torch.zeros_like(low)
    factor = torch.linalg.cholesky(gram + noise**2 * torch.eye(len(gram), dtype=gram.dtype))
    for _ in range(1 if points.all() else _ROUNDS):
        answers = torch.where(points, low, _within(fitted, low, high, noise))
        weights = torch.cholesky_solve(answers - expected, factor)
        fitted = expected + gram @ weights
    return weights


def _area(foretold: Tensor, yes: Tensor) -> float:
    """The mean over states of the chance that a yes is foretold higher than a no (N, K); 0.5 where there are none."""
    areas = [
        (column[hit][:, None] > column[~hit]).double().mean()
        for column, hit in zip(foretold.T, yes.T, strict=True)
        if hit.any() and not hit.all()
    ]
    return float(torch.stack(areas).mean()) if areas else 0.5


def _within(mean: Tensor, low: Tensor, high: Tensor, noise: float) -> Tensor:
    """Expectations of normal answers, given that they are at least `low`, or where that is -inf, at most `high`."""
    above = mean + noise * _hazard((low - mean) / noise)
    below = mean - noise * _hazard((mean - high) / noise)
    return torch.where(low.isinf(), below, above)


def _hazard(values: Tensor) -> Tensor:
    """The mean of standard normal draws above these values; the values are finite or of no interest."""
    finite = values.nan_to_num(0.0, 0.0, 0.0)
    return torch.exp(-finite.square() / 2 - math.log(2 * math.pi) / 2 - torch.special.log_ndtr(-finite))


def _least_noise(gram: Tensor, answers: Tensor) -> float:
    """The noise with which each answer is best told from the others: leave-one-out (Rasmussen & Williams, eq. 5.12)."""

    def error(noise: float) -> float:
        inverse = torch.linalg.inv(gram + noise**2 * torch.eye(len(gram), dtype=gram.dtype))
        return float(((inverse @ answers) / inverse.diag()[:, None]).square().mean())

    return min(_NOISE, key=error)
