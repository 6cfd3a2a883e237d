"""Regression on answers of which only a bound may be known, in the axes of what is known already.

A state t (D,) is a draw from a Gaussian; an answer about axes e (D,) is e t and a little noise: a number, or known to
lie above or below one. The estimate is the mode, by expectation maximisation: answers are put in as their expectation
within the bound, then the state follows as if they had been seen. For bounds alone this is probit regression (Albert &
Chib, JASA 1993), for numbers and bounds Tobit (Tobin, Econometrica 1958), for numbers ridge regression.
"""

import math

import torch
from torch import Tensor

_ROUNDS = 60  # of expectation maximisation: more change nothing that matters
_SHRINKAGE = 0.02  # of the covariance towards its diagonal, as it is measured on few states
_NOISE = (0.003, 0.01, 0.03, 0.1, 0.3)  # standard deviations of points, in units of the answers' spread
_CUT = 0.4  # the same where there are bounds, on which no noise can be measured


def gaussian(states: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) of states (N, D), the covariance shrunk towards its diagonal."""
    mean = states.mean(0)
    covariance = (states - mean).T @ (states - mean) / len(states)
    return mean, (1 - _SHRINKAGE) * covariance + _SHRINKAGE * covariance.diag().diag()


def states(axes: Tensor, low: Tensor, high: Tensor, mean: Tensor, covariance: Tensor, spread: float) -> Tensor:
    """The likeliest states (K, D), float64.

    Args:
        axes: of the questions (N, D).
        low: least value (N, K) that each answer may stand for; -inf where only `high` bounds it.
        high: greatest value (N, K), equal to `low` where the answer is a number; inf where only `low` bounds it.
        mean: of the states (D,).
        covariance: of the states (D, D).
        spread: standard deviation of the answers.
    """
    gram, expected = axes @ covariance @ axes.T, (axes @ mean)[:, None]
    points = low == high
    whole = bool(points.all())
    noise = spread * (_least_noise(gram / spread**2, (low - expected) / spread) if whole else _CUT)
    factor = torch.linalg.cholesky(gram + noise**2 * torch.eye(len(gram), dtype=gram.dtype))
    fitted, weights = expected.expand_as(low), torch.zeros_like(low)
    for _ in range(1 if whole else _ROUNDS):
        answers = torch.where(points, low, _within(fitted, low, high, noise))
        weights = torch.cholesky_solve(answers - expected, factor)
        fitted = expected + gram @ weights
    return mean + (covariance @ axes.T @ weights).T


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
