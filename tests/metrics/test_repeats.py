"""Repeats: equal models are not told apart by the luck of their trainings, and seeds are averaged with their luck."""

import numpy as np
import pytest
from scipy import stats

from gmi.metrics.detection import Difference, auc_difference
from gmi.metrics.repeats import averaged, averaged_difference, trained_difference, upper
from gmi.metrics.statistics import Estimate, Failed, difference


def arm(rng: np.random.Generator, trainings: int, people: int, luck: float, less: float = 0.0) -> np.ndarray:
    """AUC (S, P) of a model: people differ, each training has a luck of its own, and all is noisy."""
    noise = rng.normal(0, luck, (trainings, 1)) + rng.normal(0, 0.15, (trainings, people))
    return np.clip(0.6 - less + rng.normal(0, 0.05, people) + noise, 0, 1)


def test_with_one_training_p_is_that_of_the_paired_t_test():
    rng = np.random.default_rng(0)
    left, right = rng.uniform(0, 1, (2, 25))
    found = trained_difference(left, right)
    assert found.p == pytest.approx(stats.ttest_1samp(left - right, 0).pvalue)
    assert found.estimate == difference(left, right)
    assert trained_difference(left, left).p == 1 and trained_difference([0.4], [0.1]).p == 1
    assert trained_difference(np.full(25, 0.7), np.full(25, 0.5)).p == 0


def test_with_several_trainings_p_is_welchs_where_people_do_not_differ():
    left, right = np.array([[0.5], [0.6], [0.64]]), np.array([[0.3], [0.36], [0.5]])
    found = trained_difference(np.tile(left, 2000), np.tile(right, 2000))
    theirs = stats.ttest_ind(left[:, 0], right[:, 0], equal_var=False)
    assert found.p == pytest.approx(theirs.pvalue) and found.estimate.value == pytest.approx(0.58 - 0.38667, abs=1e-4)
    ends = theirs.confidence_interval()
    assert (found.estimate.low, found.estimate.high) == pytest.approx((ends.low, ends.high))


@pytest.mark.parametrize("trainings", [2, 3])
@pytest.mark.parametrize("people", [20, 40, 60])
def test_equal_arms_are_seldom_told_apart(trainings: int, people: int):
    """Of arms whose trainings differ with a standard deviation of 0.03, people alone tell 16 % and 11 % apart."""
    rng = np.random.default_rng(0)
    found = [trained_difference(*(arm(rng, trainings, people, 0.03) for _ in range(2))) for _ in range(1000)]
    assert np.mean([each.p < 0.05 for each in found]) <= 0.07
    assert all(each.p < 0.05 or each.estimate.low <= 0 <= each.estimate.high for each in found)


def test_a_difference_of_arms_is_seen():
    rng = np.random.default_rng(0)
    for trainings, share in ((2, 0.5), (3, 0.8)):
        told = [
            trained_difference(arm(rng, trainings, 40, 0.03), arm(rng, trainings, 40, 0.03, 0.15)) for _ in range(200)
        ]
        assert np.mean([each.p < 0.05 and each.estimate.value > 0 for each in told]) > share


@pytest.mark.parametrize("same", [True, False], ids=["same people", "other people"])
@pytest.mark.parametrize(("seeds", "luck"), [(2, 0.0), (2, 0.1), (3, 0.3)])
def test_the_average_of_seeds_covers_what_it_says(seeds: int, luck: float, same: bool):
    rng, truth, covered = np.random.default_rng(0), np.arange(200) < 60, []
    for _ in range(200):
        found, everyone = [], rng.normal(0, 1, 200)
        for _ in range(seeds):
            common = (everyone if same else rng.normal(0, 1, 200)) + 0.8 * truth
            scores = [common + rng.normal(0, 0.7, 200) for _ in range(2)]
            found.append(auc_difference(scores[0] + rng.normal(0, luck) * truth, scores[1], truth))
        average = averaged_difference(found).estimate
        covered.append(average.low <= 0 <= average.high)
    assert np.mean(covered) > 0.92


def test_one_seed_is_as_it_was_and_a_failure_stays_one():
    one, other = Estimate(0.6, 0.5, 0.65, 40, 40), Estimate(0.6, 0.5, 0.65, 40, 40)
    assert averaged([one]) is one and averaged([one, Failed("none")]) == Failed("none")
    again = averaged([one, other])
    assert isinstance(again, Estimate) and again.n == 80 and again.people == 40
    assert (again.low, again.value, again.high) == pytest.approx((0.5, 0.6, 0.65))
    apart = averaged([one, Estimate(0.7, 0.6, 0.75, 40, 40)])
    assert isinstance(apart, Estimate) and apart.value == pytest.approx(0.65) and apart.high - apart.low > 0.15
    single = Difference(one, 0.01, 0.04)
    assert averaged_difference([single]) is single
    assert averaged_difference([single, single]).estimate.low == pytest.approx(0.5)


def test_the_bound_is_one_sided():
    assert upper(Estimate(0.1, 0.1 - 1.96, 0.1 + 1.959964, 9, 9)) == pytest.approx(0.1 + stats.norm.ppf(0.95))


def test_a_guard_in_front_of_the_same_weights_shares_their_luck() -> None:
    """It changes nothing, so nothing is known the worse for how far trainings lie apart."""
    rng = np.random.default_rng(0)
    accuracy = np.array([[0.90], [0.94], [0.98]]) + rng.normal(0, 0.02, (3, 60))
    apart, together = (trained_difference(accuracy, accuracy, together=same).estimate for same in (False, True))
    assert apart.high > 0.05 and together.value == 0 and together.high < 0.06
    worse = accuracy - 0.03 - rng.normal(0, 0.01, (3, 60))
    assert trained_difference(accuracy, worse, together=True).estimate.low > 0.02
