"""Conclusions on membership: what may be believed of a finding, by simulation."""

from collections import Counter

import numpy as np
import pytest

from gmi.metrics.conclusion import told_apart
from gmi.metrics.detection import Detection, detection
from gmi.metrics.statistics import Failed


def audit(rng: np.random.Generator, people: int, shift: float, sure: float = 0.0) -> str:
    """The finding of one audit: five members and five others of each person, by two methods that hang together."""
    truth = np.tile(np.repeat([True, False], 5), people)
    ids = np.repeat(np.arange(people), 10)
    scores = rng.normal(size=people)[ids] + rng.normal(size=len(ids)) + shift * truth
    scores += 9.0 * (truth & (rng.uniform(size=len(ids)) < sure))
    rows = [detection(name, some, truth, ids, (0.1,)) for name, some in (("one", scores), ("two", scores.round(1)))]
    return told_apart(rows, 0.1).finding


def findings(draws: int, *world: float) -> Counter[str]:
    rng = np.random.default_rng(0)
    return Counter(audit(rng, *world) for _ in range(draws))


def test_where_nothing_leaks_it_is_rarely_called_and_mostly_excluded() -> None:
    counts = findings(200, 100, 0.0)
    assert counts["evidence of leakage"] <= 10 and counts["no evidence"] >= 140


def test_a_notable_leak_is_rarely_acquitted() -> None:
    at_notable = 0.36 * 2**0.5  # AUC 0.6 between scores of variance 2
    assert findings(80, 40, at_notable)["no evidence"] <= 4


def test_few_members_who_are_surely_known_are_no_acquittal() -> None:
    counts = findings(40, 100, 0.0, 0.15)
    assert counts["no evidence"] == 0 and counts["evidence of leakage"] >= 36


def test_what_is_not_known_bars_acquittal() -> None:
    rng = np.random.default_rng(1)
    truth, ids = np.tile(np.repeat([True, False], 5), 200), np.repeat(np.arange(200), 10)
    row = detection("one", rng.normal(size=2000), truth, ids, (0.1, 0.0001))
    assert isinstance(row.hits["0.0001"], Failed)
    verdict = told_apart([row], 0.1)
    assert verdict.finding == "inconclusive" and "leave those rates out" in verdict.because[1]
    assert told_apart([Detection("one", row.auc, {"0.1": row.hits["0.1"]})], 0.1).finding == "no evidence"
    failed = told_apart([row, Detection("two", Failed("no numbers"), {})], 0.1)
    assert failed.finding == "inconclusive" and "two: no numbers" in failed.because[0]


@pytest.mark.parametrize(("people", "said"), [(12, "people would exclude it"), (400, "More than")])
def test_doubt_says_what_would_end_it(people: int, said: str) -> None:
    rng = np.random.default_rng(3)
    truth, ids = np.tile(np.repeat([True, False], 5), people), np.repeat(np.arange(people), 10)
    verdict = told_apart([detection("one", rng.normal(size=len(ids)), truth, ids, (0.1,))], 0.1)
    assert said in verdict.because[-1]


def test_members_who_are_known_less_than_others_are_no_acquittal() -> None:
    """All is told, with the sign reversed: members and others stand for each other."""
    rng, ids = np.random.default_rng(0), np.arange(400)
    truth = ids % 2 == 0
    row = detection("one", rng.normal(size=400) - 3 * truth, truth, ids, (0.1,))
    verdict = told_apart([row], 0.1)
    assert verdict.finding == "inconclusive" and "others are known better than members" in verdict.because[1]
