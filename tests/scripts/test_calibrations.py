"""The calibrations in small: intervals that cover, and verdicts that are rarely wrong, where the truth is planted."""

from collections import Counter

import numpy as np
import pytest

from scripts import calibrate_intervals, calibrate_verdict


class Here:
    """A pool of this process alone."""

    def __init__(self, *_):
        self.map = map

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.mark.parametrize("name", calibrate_intervals.KINDS)
def test_every_kind_of_interval_covers(name, monkeypatch):
    """A true 95 % falls below 86 % of 100 draws once in 3000."""
    monkeypatch.setattr(calibrate_intervals, "PEOPLE", (10, 40))
    monkeypatch.setattr(calibrate_intervals, "CROWD", 400)
    shares, failures = calibrate_intervals.coverage((name, 100))
    assert min(shares.values()) > 0.86 and failures < 0.2


@pytest.mark.parametrize("people", [20, 100])
def test_a_few_who_are_found_outright_are_not_acquitted(people):
    rng = np.random.default_rng(0)
    counts = Counter(calibrate_verdict.planted(0.0, people, rng, found=0.1) for _ in range(60))
    assert counts["no evidence"] <= 3


@pytest.mark.parametrize(("advantage", "people"), [(0.0, 60), (0.1, 60)])
def test_no_leak_is_rarely_called_and_a_notable_one_rarely_acquitted(advantage, people):
    rng = np.random.default_rng(0)
    counts = Counter(calibrate_verdict.planted(advantage, people, rng) for _ in range(80))
    wrong = counts["no evidence"] if advantage else counts.total() - counts["no evidence"] - counts["inconclusive"]
    assert wrong <= 10  # 5 % of 80, and three standard errors
    assert advantage or counts["no evidence"] > 30


def test_the_command_prints_its_tables(capsys, monkeypatch):
    monkeypatch.setattr(calibrate_intervals, "KINDS", {"worst tenth": lambda: calibrate_intervals.worst})
    monkeypatch.setattr(calibrate_intervals, "ProcessPoolExecutor", Here)
    calibrate_intervals.main(["--draws", "20"])
    assert "worst tenth" in capsys.readouterr().out
