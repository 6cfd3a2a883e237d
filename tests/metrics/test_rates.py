"""Rates: counts that hang together, against slow formulas and simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from gmi.metrics import rates
from gmi.metrics.identity import thresholds


@pytest.mark.parametrize("count", [0, 1, 2, 30])
def test_garwoods_limits_invert_the_poisson(count: int) -> None:
    low, high = rates.garwood(count)
    assert math.isclose(stats.poisson.cdf(count, high), 0.025, rel_tol=1e-6)
    assert low == 0 if count == 0 else math.isclose(stats.poisson.sf(count - 1, low), 0.025, rel_tol=1e-6)


def test_independent_events_count_fully_and_copies_do_not() -> None:
    rng = np.random.default_rng(0)
    trials, events = np.full(400, 50), rng.binomial(50, 0.01, 400)
    total = events.sum()
    count = rates.effective_count(events, trials, total, 20_000)
    assert 0.8 * total < count <= total
    copies = rates.effective_count(10 * events, 10 * trials, 10 * total, 200_000)  # each of them ten times
    assert copies == pytest.approx(count, rel=0.1)
    assert rates.effective_count(np.zeros(5), np.full(5, 10), 0, 50) == 0
    assert rates.effective_count(np.full(5, 0.2), np.full(5, 10), 1.0, 50) == 1  # constant scores, by lot


def test_a_threshold_counts_people_not_comparisons() -> None:
    """Against the slow jackknife; pairs of look-alikes make most false matches, as many probes as each may have."""
    rng = np.random.default_rng(0)
    people, probes = 12, np.repeat(np.arange(12), 6)
    pairs = rng.normal(size=(people, people))
    similarity = (pairs + pairs.T)[probes] + 0.1 * rng.normal(size=(72, people))
    (cut,) = thresholds(similarity, probes, np.arange(people), fmrs=(0.05,))
    matches, strange = similarity >= cut.value, probes[:, None] != np.arange(people)

    def rate(left_out: int | None) -> float:
        inside = strange & (probes[:, None] != left_out) & (np.arange(people) != left_out)
        return matches[inside].mean()

    without = np.array([rate(person) for person in range(people)])
    variance = (people - 1) / people * ((without - without.mean()) ** 2).sum()
    expected = rate(None) ** 2 * (1 - rate(None)) / variance
    assert cut.effective == pytest.approx(expected) and cut.effective < cut.false_matches / 5
    assert cut.rates == pytest.approx([0.05 * end / expected for end in rates.garwood(expected)])
    assert cut.low < cut.value and not cut.trusted


def test_too_few_events_leave_the_end_open() -> None:
    assert rates.may_be_unseen(3.6) and not rates.may_be_unseen(3.7)
    assert rates.rates_around(0.01, 0.0, 40) == (0.0, pytest.approx(3.69 / 40, rel=0.01))
    (cut,) = thresholds(np.random.default_rng(0).random((20, 20)), np.arange(20), np.arange(20), fmrs=(0.001,))
    assert cut.high == math.inf and cut.effective == 0
