"""Regression on numbers and bounds: closed forms, planted states, and truncated normals by another formula."""

import pytest
import torch
from scipy.stats import truncnorm

from gmi.search.regression import _within, fit, gaussian


def world(count: int, size: int = 6, people: int = 20):
    """Axes (count, size), states (people, size), and mean and covariance of which they are draws."""
    draws = torch.Generator().manual_seed(3)
    root = torch.randn(size, size, generator=draws, dtype=torch.double)
    mean = torch.randn(size, generator=draws, dtype=torch.double)
    truth = mean + torch.randn(people, size, generator=draws, dtype=torch.double) @ root
    axes = torch.randn(count, size, generator=draws, dtype=torch.double)
    return axes, truth, mean, root.T @ root


def test_enough_numbers_give_the_states() -> None:
    axes, truth, mean, covariance = world(12)
    answers = axes @ truth.T
    found = fit(axes, answers, answers, mean, covariance, float(answers.std()))
    torch.testing.assert_close(found.states, truth, rtol=0, atol=0.05)


def test_few_numbers_give_the_posterior_mean() -> None:
    """As many as half of the dimensions: what they do not tell follows from the covariance; Gaussian conditioning."""
    axes, truth, mean, covariance = world(3)
    answers = axes @ truth.T
    found = fit(axes, answers, answers, mean, covariance, 1.0)
    noise = min((0.003, 0.01, 0.03, 0.1, 0.3), key=lambda noise: _left_out(axes, answers, mean, covariance, noise))
    precision = covariance.inverse() + axes.T @ axes / noise**2
    wanted = torch.linalg.solve(precision, covariance.inverse() @ mean[:, None] + axes.T @ answers / noise**2).T
    torch.testing.assert_close(found.states, wanted, rtol=1e-5, atol=1e-5)


def _left_out(axes, answers, mean, covariance, noise: float) -> float:
    """The mean square error of each answer, foretold from the others."""
    total = 0.0
    for out in range(len(axes)):
        rest = [row for row in range(len(axes)) if row != out]
        some = axes[rest]
        gram = some @ covariance @ some.T + noise**2 * torch.eye(len(rest), dtype=torch.double)
        gain = covariance @ some.T @ gram.inverse()
        state = mean[:, None] + gain @ (answers[rest] - (some @ mean)[:, None])
        total += float((axes[out] @ state - answers[out]).square().mean())
    return total


def test_noisy_numbers_are_not_believed_to_the_last_digit() -> None:
    axes, truth, mean, covariance = world(40)
    answers = axes @ truth.T
    spread = float(answers.std())
    noisy = answers + 0.3 * spread * torch.randn(answers.shape, generator=torch.Generator().manual_seed(4)).double()
    found = fit(axes, noisy, noisy, mean, covariance, spread)
    exact = torch.linalg.lstsq(axes, noisy).solution.T
    assert (found.states - truth).norm() < (exact - truth).norm()


def test_bounds_alone_give_the_directions() -> None:
    """Whether each answer is above a level: the more are told, the nearer."""
    axes, truth, mean, covariance = world(600)
    answers = axes @ truth.T
    level = answers.quantile(0.9)
    yes = answers >= level
    low, high = torch.where(yes, level, -torch.inf), torch.where(yes, torch.inf, level)
    alike = [
        torch.cosine_similarity(
            fit(axes[:n], low[:n], high[:n], mean, covariance, float(answers.std())).states, truth
        ).median()
        for n in (20, 100, 600)
    ]
    assert alike[0] < alike[1] < alike[2] and alike[2] > 0.97


def test_the_highest_alone_are_worth_more_than_bounds() -> None:
    axes, truth, mean, covariance = world(60)
    answers = axes @ truth.T
    least = answers.topk(4, 1).values[:, -1:].expand_as(answers)
    shown = answers >= least
    spread = float(answers.std())
    part = fit(
        axes, torch.where(shown, answers, -torch.inf), torch.where(shown, answers, least), mean, covariance, spread
    )
    bounds = fit(
        axes,
        torch.where(shown, least, -torch.inf),
        torch.where(shown, torch.inf, least),
        mean,
        covariance,
        spread,
    )
    assert (part.states - truth).norm() < (bounds.states - truth).norm()


@pytest.mark.parametrize(("low", "high"), [(0.4, torch.inf), (-torch.inf, 0.4), (9.0, torch.inf), (-torch.inf, -50.0)])
def test_expectations_within_bounds_are_those_of_truncated_normals(low: float, high: float) -> None:
    mean, noise = torch.linspace(-2, 2, 9, dtype=torch.double), 0.5
    wanted = truncnorm.mean((low - mean.numpy()) / noise, (high - mean.numpy()) / noise, mean.numpy(), noise)
    found = _within(mean, torch.tensor(low).double(), torch.tensor(high).double(), noise)
    torch.testing.assert_close(found, torch.from_numpy(wanted), rtol=1e-4, atol=1e-6)


def test_the_gaussian_is_that_of_the_states_and_can_be_inverted() -> None:
    few = torch.randn(4, 9, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    mean, covariance = gaussian(few)
    torch.testing.assert_close(mean, few.mean(0))
    torch.testing.assert_close(covariance.diag(), few.var(0, unbiased=False))
    assert torch.linalg.eigvalsh(covariance).min() > 0


def test_answers_are_foretold_from_the_others_alone() -> None:
    """Those of the truth nearly all, those at random not at all, however they were fitted."""
    axes, truth, mean, covariance = world(60)
    answers = axes @ truth.T
    spread = float(answers.std())
    found = fit(axes, answers, answers, mean, covariance, spread)
    assert found.foretold > 0.99 and found.error < 0.02
    draws = torch.randn(60, 20, generator=torch.Generator().manual_seed(5), dtype=torch.double) * spread
    lost = fit(axes, draws, draws, mean, covariance, spread)
    assert abs(lost.foretold - 0.5) < 0.1 and lost.error > 0.9
    for values, at_least, at_most in ((answers, 0.9, 1.0), (draws, 0.35, 0.6)):
        yes = values > 1.3 * spread
        low, high = torch.where(yes, spread, -torch.inf), torch.where(yes, torch.inf, spread)
        told = fit(axes, low, high, mean, covariance, spread)
        assert at_least < told.foretold <= at_most and told.error == torch.inf
