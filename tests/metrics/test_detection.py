"""Areas and hit rates: against slow formulas, and intervals that cover what they should."""

import numpy as np
import pytest
from scipy.special import ndtr

from gmi.errors import GmiError
from gmi.metrics.detection import Difference, auc, auc_difference, contrast, hit_difference, hit_rate


def slow(scores, truth):
    pairs = [(one > other) + 0.5 * (one == other) for one in scores[truth] for other in scores[~truth]]
    return np.mean(pairs)


def drawn(rng, n, apart, share=0.3):
    truth = rng.uniform(size=n) < share
    truth[:2] = True, False
    return rng.normal(size=n) + apart * truth, truth


def test_the_area_is_the_share_of_pairs_in_order():
    scores, truth = drawn(np.random.default_rng(0), 120, 0.8)
    for some in (scores, scores.round(0)):  # ties count half
        assert auc(some, truth).value == pytest.approx(slow(some, truth))
        assert auc(-some, truth).value == pytest.approx(1 - slow(some, truth))
    whole = auc(np.array([1.0, 2.0, 3.0, 4.0]), np.array([False, False, True, True]))
    assert whole.value == whole.high == 1 and whole.low < 0.5  # two of each say little


def test_variance_is_delongs():
    """By the definition: covariance of the placements over pairs, no ranks."""
    rng = np.random.default_rng(1)
    left, truth = drawn(rng, 60, 1.0)
    right = left * 0.5 + rng.normal(size=60)
    place = {}
    for name, scores in (("left", left), ("right", right)):
        order = (scores[truth][:, None] > scores[~truth]).astype(float)
        place[name] = order.mean(1), order.mean(0)
    m, n = truth.sum(), (~truth).sum()
    variance = sum(np.var(place["left"][side] - place["right"][side], ddof=1) / size for side, size in ((0, m), (1, n)))
    found = auc_difference(left, right, truth)
    assert found.estimate.value == pytest.approx(slow(left, truth) - slow(right, truth))
    assert found.estimate.high - found.estimate.value == pytest.approx(1.96 * variance**0.5, rel=1e-3)
    assert found.p == pytest.approx(2 * ndtr(-abs(found.estimate.value) / variance**0.5))
    assert auc_difference(left, left, truth).p == 1


def test_intervals_cover_the_truth():
    rng, area = np.random.default_rng(2), ndtr(1 / 2**0.5)
    inside = differs = 0
    for _ in range(400):
        scores, truth = drawn(rng, 150, 1.0)
        found = auc(scores, truth)
        inside += found.low <= area <= found.high
        other = auc_difference(scores, rng.normal(size=150) + truth, truth)
        differs += other.p < 0.05
    assert 0.925 <= inside / 400 <= 0.985  # 95 %, and twice 1.1 % of chance
    assert 0.02 <= differs / 400 <= 0.085


def test_records_of_one_person_count_as_one():
    """Each person twice is not twice as many people; and images of a person hang together."""
    rng = np.random.default_rng(3)
    scores, truth = drawn(rng, 80, 1.0)
    twice = auc(np.tile(scores, 2), np.tile(truth, 2), np.tile(np.arange(80), 2))
    once = auc(scores, truth)
    assert (twice.value, twice.n, twice.people) == (pytest.approx(once.value), 160, 80)
    assert twice.high - twice.low == pytest.approx(once.high - once.low, rel=0.03)
    assert auc(np.tile(scores, 2), np.tile(truth, 2)).low > twice.low
    inside, area = 0, ndtr(1 / 2**0.5)
    for _ in range(300):
        person = np.repeat(np.arange(30), 6)
        truth = np.tile([True, True, True, False, False, False], 30)
        scores = rng.normal(size=30)[person] * 0.8 + 0.6 * rng.normal(size=180) + truth
        found = auc(scores, truth, person)
        inside += found.low <= area <= found.high
    assert 0.91 <= inside / 300 <= 0.99


def test_what_is_perfect_is_as_sure_as_there_are_people():
    """Forty people with ten images each are forty, told apart or not."""
    person = np.repeat(np.arange(40), 10)
    truth = np.tile([True] * 5 + [False] * 5, 40)
    found = auc(truth.astype(float), truth, person)
    assert (found.value, found.high) == (1, 1) and found.low == pytest.approx(0.025 ** (1 / 40))
    more = auc_difference(truth.astype(float), np.zeros(400), truth, person)
    assert more.estimate.value == 0.5 and 0.3 < more.estimate.low < 0.4 and 0.6 < more.estimate.high < 0.7
    assert more.p == pytest.approx(2 * 0.5**40)
    less = auc_difference(np.zeros(400), truth.astype(float), truth, person)
    assert (less.estimate.low, less.estimate.high) == (-more.estimate.high, -more.estimate.low) and less.p == more.p
    few = auc_difference(truth[:30].astype(float), np.zeros(30), truth[:30], person[:30])
    assert few.p == 0.25


def test_hits_are_counted_above_the_negatives_that_are_allowed():
    scores = np.array([9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0, 9.5, 7.5, -1.0])
    truth = np.arange(13) >= 10
    found = hit_rate(scores, truth, 0.1)  # one of ten negatives may lie above
    assert found.value == pytest.approx(1 / 3) and found.people == 3 and found.low < 0.1 < 0.9 < found.high
    assert hit_rate(scores, truth, 0.3).value == pytest.approx(2 / 3)
    assert hit_rate(np.zeros(13), truth, 0.3).value == pytest.approx(0.3)  # nobody stands out: as guessing
    with pytest.raises(GmiError, match=r"10 negatives are too few for a false-alarm rate of 0\.01: it takes 100"):
        hit_rate(scores, truth, 0.01)


@pytest.mark.parametrize(("share", "rate"), [(0.3, 0.1), (0.6, 0.02)])
def test_a_difference_of_hits_knows_of_the_luck_of_both_thresholds(share, rate):
    """Two scores that tell as much, of 400 people; in the second world three negatives decide on a threshold."""
    rng, missed = np.random.default_rng(0), 0
    for _ in range(150):
        truth, common = rng.random(400) < share, rng.normal(size=400)
        left, right = (2 * truth + common + rng.normal(size=400) for _ in range(2))
        found = hit_difference(left, right, truth, rate)
        missed += not found.low <= 0 <= found.high
    assert missed <= 0.08 * 150
    back = hit_difference(right, left, truth, rate)
    assert back.value == -found.value and back.low == pytest.approx(-found.high)
    same = hit_difference(left, left, truth, rate)
    assert same.value == 0 and same.low == -same.high < 0  # people unlike all those may be there
    with pytest.raises(GmiError, match="negatives are too few for a false-alarm rate"):
        hit_difference(left, right, truth, 1e-4)


@pytest.mark.parametrize(
    ("scores", "truth", "words"),
    [
        ([1.0, 2.0], [True, True], "only positives"),
        ([1.0, 2.0], [False, False], "only positives, or only negatives"),
        ([np.nan, 2.0], [False, True], "hold NaN"),
        ([1.0, 2.0, 3.0], [False, True, True], "no interval can be given"),
    ],
)
def test_what_cannot_be_told_apart_is_said(scores, truth, words):
    with pytest.raises(GmiError, match=words):
        auc(scores, truth)


def test_a_contrast_is_of_two_differences_of_other_people():
    rng = np.random.default_rng(0)

    def more(count: int, gain: float) -> Difference:
        truth = np.arange(count) % 2 == 0
        return auc_difference(rng.normal(size=count) + gain * truth, rng.normal(size=count), truth)

    left, right = more(400, 2.0), more(300, 0.0)
    found = contrast(left, right)
    assert found.estimate.value == left.estimate.value - right.estimate.value
    assert found.spread == pytest.approx(np.hypot(left.spread, right.spread))
    assert found.estimate.low > 0.2 and found.p < 1e-6 and found.estimate.people == 700
    swapped = contrast(right, left)
    assert swapped.p == found.p and swapped.estimate.low == pytest.approx(-found.estimate.high)
    same = np.arange(10) % 2 == 0
    with pytest.raises(GmiError, match="neither group has any variance"):
        contrast(*[auc_difference(same, same, same)] * 2)
