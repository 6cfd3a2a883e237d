"""Verification and identification: by hand, against slow definitions, with ties, failures and shuffles."""

import numpy as np
import pytest
import torch
from reference import slow_metrics as slow

from gmi.errors import GmiError
from gmi.metrics import identity
from gmi.metrics.identity import Threshold

pytestmark = pytest.mark.filterwarnings("error")
NAN = float("nan")


def coarse(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Similarities with many ties."""
    return rng.integers(0, 12, shape) / 12


def test_a_person_is_as_alike_as_the_most_alike_enrolment_image() -> None:
    similarity = torch.tensor([[0.1, 0.9, 0.5, NAN], [NAN] * 4])
    best = identity.to_people(similarity, torch.tensor([7, 3, 7, 3]))
    np.testing.assert_allclose(best[0], [0.9, 0.5], rtol=1e-6)  # columns: 3, 7
    assert np.isnan(best[1]).all()
    with pytest.raises(GmiError, match=r"no enrolment image of \[3\]"):
        identity.to_people([[0.1, NAN], [NAN, NAN]], [7, 3])
    with pytest.raises(GmiError, match="enrolment images"):
        identity.to_people([[0.1, 0.2]], [7])


def test_to_people_is_the_slow_formula_in_any_order() -> None:
    rng = np.random.default_rng(0)
    similarity, people = rng.random((9, 14)), np.append(np.arange(5), rng.integers(0, 5, 9))
    expected = slow.to_people(similarity, people)
    np.testing.assert_array_equal(identity.to_people(similarity, people), expected)
    rows, columns = rng.permutation(9), rng.permutation(14)
    shuffled = identity.to_people(similarity[rows][:, columns], people[columns])
    np.testing.assert_array_equal(shuffled, expected[rows])


def test_threshold_by_hand() -> None:
    similarity = [[0.99, 0.3, 0.2], [0.5, 0.98, 0.4], [0.1, 0.6, 0.97]]  # impostors .1 .2 .3 .4 .5 .6
    half, sixth, none = identity.thresholds(similarity, [0, 1, 2], [0, 1, 2], fmrs=(0.5, 0.17, 0.01))
    assert (half.comparisons, half.false_matches, sixth.false_matches, none.false_matches) == (6, 3, 1, 0)
    assert 0.3 < half.value <= 0.4 and 0.5 < sixth.value <= 0.6 < none.value < 0.61
    assert half.value == np.nextafter(0.3, 1), "the smallest threshold that does it"
    (everything,) = identity.thresholds(similarity, [0, 1, 2], [0, 1, 2], fmrs=(1.0,))
    assert everything.false_matches == 6


def test_thresholds_are_the_slow_formula_with_ties_failures_and_strangers() -> None:
    rng = np.random.default_rng(0)
    ids = np.array([2, 3, 5, 8, 13])
    for _ in range(20):
        similarity, people = coarse(rng, 40, 5), rng.choice([*ids, 99], 40)  # 99 is not enrolled
        similarity[rng.random(40) < 0.1] = NAN
        for t in identity.thresholds(similarity, people, ids, fmrs=(0.5, 0.1, 0.01)):
            comparisons, false_matches, least = slow.threshold(similarity, people, ids, t.fmr)
            assert (t.comparisons, t.false_matches) == (comparisons, false_matches)
            np.testing.assert_array_equal(similarity >= t.value, similarity >= least)
            assert t.false_matches <= t.fmr * t.comparisons
    with pytest.raises(GmiError, match="no comparison"):
        identity.thresholds([[0.5], [0.4]], [1, 1], [1])


def test_pair_thresholds_are_the_slow_formula_and_let_more_strangers_pass() -> None:
    rng = np.random.default_rng(0)
    people, left = np.repeat(np.arange(20), 4), np.repeat(np.arange(20), 3)
    similarity = coarse(rng, 60, 80)
    for t in identity.pair_thresholds(similarity, left, people, fmrs=(0.5, 0.1, 0.01)):
        comparisons, false_matches, least = slow.threshold(similarity, left, people, t.fmr)
        assert (t.comparisons, t.false_matches) == (comparisons, false_matches)
        np.testing.assert_array_equal(similarity >= t.value, similarity >= least)
    similarity = rng.normal(size=(60, 80))
    (pair,) = identity.pair_thresholds(similarity, left, people, fmrs=(0.1,))
    strangers = identity.to_people(rng.normal(size=(1000, 80)), people)
    expected = 1 - 0.9**4  # any of four independent images
    assert (strangers >= pair.value).mean() == pytest.approx(expected, abs=0.03)


def test_strangers_match_at_the_rate_the_threshold_names() -> None:
    """Best of 4 enrolment images, as attacks are scored: 5e4 fresh strangers; the rates' own errors are 5 and 15 %."""
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(50), 4)

    def similar(n: int) -> np.ndarray:
        return identity.to_people(rng.normal(size=(n, 1)) * 0.3 + rng.normal(size=(n, 200)), people)

    chosen = identity.thresholds(similar(1000), 50 + np.arange(1000), np.arange(50))
    assert [threshold.trusted for threshold in chosen] == [True, False]  # worth 211 and 22 false matches
    for threshold, slack in zip(chosen, (0.15, 0.45), strict=True):
        assert abs((similar(1000) >= threshold.value).mean() / threshold.fmr - 1) < slack


def test_rule_of_30() -> None:
    assert Threshold(1e-3, 0.5, 300_000, 300, effective=30.0).trusted
    assert not Threshold(1e-3, 0.5, 300_000, 300, effective=29.9).trusted  # what hangs together counts once
    assert not Threshold(1e-2, 0.5, 10_000, 0).trusted  # heavy ties: none seen, the rate is unknown


def test_outcomes_by_hand() -> None:
    similarity = [[0.9, 0.1, 0.2], [0.5, 0.5, 0.1], [0.3, 0.2, 0.1], [NAN] * 3]
    found = identity.outcomes(
        similarity, [0, 1, 2, 0], [0, 1, 2], [Threshold(0.01, 0.5, 0, 0), Threshold(1e-3, 0.8, 0, 0)]
    )
    assert list(found) == ["match@0.01", "match@0.001", "rank1", "rank5", "auc", "similarity"]
    np.testing.assert_array_equal(found["match@0.01"], [1, 1, 0, 0])
    np.testing.assert_array_equal(found["match@0.001"], [1, 0, 0, 0])
    np.testing.assert_array_equal(found["rank1"], [1, 0, 0, 0])  # a tie for the first place is not the first place
    np.testing.assert_array_equal(found["rank5"], [1, 1, 1, 1])  # three people: nobody can rank lower
    np.testing.assert_array_equal(found["auc"], [1, 0.75, 0, 0.5])
    np.testing.assert_array_equal(found["similarity"], [0.9, 0.5, 0.1, NAN])


def test_outcomes_and_permuted_are_the_slow_formulas() -> None:
    rng = np.random.default_rng(0)
    ids = np.array([1, 4, 9, 16, 25, 36, 49])
    similarity, classes = coarse(rng, 60, 7), rng.choice(ids, 60)
    similarity[[3, 30]] = NAN
    chosen = [Threshold(0.01, 0.7, 0, 0), Threshold(1e-3, 0.9, 0, 0)]
    values = {"match@0.01": 0.7, "match@0.001": 0.9}
    found = identity.outcomes(torch.from_numpy(similarity), torch.from_numpy(classes), ids, chosen)
    wrong = identity.permuted(similarity, classes, ids, chosen)
    for i, (row, person) in enumerate(zip(similarity, classes, strict=True)):
        expected = slow.outcome(row, int(np.searchsorted(ids, person)), values)
        others = [slow.outcome(row, j, values) for j in range(7) if ids[j] != person]
        for name in found:
            np.testing.assert_allclose(found[name][i], expected[name], err_msg=name)
        for name in ("match@0.01", "match@0.001", "similarity"):
            np.testing.assert_allclose(wrong[name][i], np.mean([o[name] for o in others]), err_msg=name)
    order = rng.permutation(60)
    shuffled = identity.outcomes(similarity[order], classes[order], ids, chosen)
    for name in found:
        np.testing.assert_array_equal(shuffled[name], found[name][order])


def test_a_candidate_that_cannot_be_embedded_is_no_success_and_not_dropped() -> None:
    ids = np.arange(10)
    failed = np.full((10, 10), NAN)
    chosen = [Threshold(0.01, -np.inf, 0, 0)]
    for score in (identity.outcomes, identity.permuted):
        found = score(failed, ids, ids, chosen)
        assert all(len(values) == 10 for values in found.values())
        assert not found["match@0.01"].any() and np.isnan(found["similarity"]).all()
    found = identity.outcomes(failed, ids, ids, chosen)
    assert not found["rank1"].any() and not found["rank5"].any() and (found["auc"] == 0.5).all()


def test_chance_is_what_random_similarities_score() -> None:
    """5000 candidates of nobody among 20 people with 3 tries each: standard errors are below 1 % of 1."""
    rng = np.random.default_rng(0)
    ids, m = np.arange(20), 3
    classes = np.repeat(np.arange(20), 250)
    found = identity.outcomes(rng.random((5000, 20)), classes, ids, [Threshold(0.1, 0.9, 0, 0)])
    tries = np.repeat(np.arange(5000 // m), m)
    for name in ("match@0.1", "rank1", "rank5", "auc"):
        level = identity.chance(name, 20)
        assert level is not None and abs(found[name].mean() - level) < 0.02, name
        if name != "auc":
            at_least_one = identity.chance(name, 20, m)
            assert at_least_one is not None
            assert (
                abs(identity.any_of(found[name][: len(tries)], tries, np.zeros_like(tries)).mean() - at_least_one)
                < 0.05
            ), name
    assert identity.chance("rank1", 40) == pytest.approx(0.025)
    assert identity.chance("rank5", 3) == 1
    assert identity.chance("match@0.001", 40, 50) == pytest.approx(0.0488, abs=5e-5)
    assert identity.chance("similarity", 40) is None


def test_any_of_counts_people_in_each_draw() -> None:
    people, draws = [5, 5, 2, 2, 9, 9] * 2, [0] * 6 + [1] * 6
    matches = [0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0]
    np.testing.assert_array_equal(identity.any_of(matches, people, draws), [[0, 1, 1], [1, 0, 1]])


def test_identity_refuses_what_it_cannot_score() -> None:
    with pytest.raises(GmiError, match=r"classes \[3\] are not enrolled"):
        identity.outcomes([[0.1, 0.2]], [3], [1, 2], [])
    with pytest.raises(GmiError, match="two enrolled people"):
        identity.outcomes([[0.1]], [1], [1], [])
    with pytest.raises(GmiError, match="sorted and distinct"):
        identity.outcomes([[0.1, 0.2]], [1], [2, 1], [])
    with pytest.raises(GmiError, match="take it from to_people"):
        identity.outcomes([[0.1, 0.2]], [1, 2], [1, 2], [])
    with pytest.raises(GmiError, match="to some people and not to others"):
        identity.permuted([[0.1, NAN]], [1], [1, 2], [])


def test_a_look_that_all_people_share_is_no_likeness_of_each() -> None:
    """Images nearer to all people of a group than to distractors rank above these; as anyone else's they do too."""
    rng = np.random.default_rng(3)
    ids, people = np.arange(340), np.arange(40)
    similarity = rng.normal(size=(40, 340))
    similarity[:, :40] += 1.0
    cut = [Threshold(0.1, 1.0, 0, 0)]
    own = identity.outcomes(similarity, people, ids, cut)
    wrong = identity.permuted(similarity, people, ids, cut, people)["match@0.1"].mean()
    assert own["auc"].mean() > 0.7 and wrong == pytest.approx(own["match@0.1"].mean(), abs=0.16)  # 40: an error of .08
    assert identity.permuted(similarity, people, ids, cut)["match@0.1"].mean() < 0.25


def test_chance_of_several_images_is_that_of_images_of_others():
    """By a slow count; images of a person that are the same in every draw match no more others than one does."""
    rng, ids, among = np.random.default_rng(0), np.arange(9), np.array([0, 1, 2, 3, 4, 7])
    draws, classes = np.repeat(np.arange(3), 8), np.tile(np.repeat([0, 1, 3, 7], 2), 3)  # two images in each of 3 draws
    similarity = rng.normal(size=(24, 9))
    similarity[5] = np.nan
    counted = identity.Others(classes, draws, ids, among, 1.0)
    for rows in (slice(0, 5), np.arange(5, 17), slice(17, 24)):
        counted.add(rows, similarity[rows])
    once, ever = [], []
    for person in (0, 1, 3, 7):
        for other in (column for column in among if column != person):
            hits = [(similarity[(classes == person) & (draws == draw), other] >= 1).any() for draw in range(3)]
            once += hits
            ever.append(any(hits))
    assert counted.rates == pytest.approx((np.mean(once), np.mean(ever)))
    same = identity.Others(classes, draws, ids, among, 1.0)
    same.add(slice(0, 24), np.tile(similarity[:2].repeat(4, 0), (3, 1)))
    assert same.rates[0] == same.rates[1]
