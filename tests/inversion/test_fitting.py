"""What fits into memory at once."""

import platform

import pytest
import torch

from gmi.errors import GmiError
from gmi.inversion import fitting
from gmi.inversion.fitting import Fitting

CPU = torch.device("cpu")
MEGABYTE = 1_000_000
linux = pytest.mark.skipif(platform.system() != "Linux", reason="only Linux tells the peak of a process")


class Asked:
    """An oracle that counts."""

    queries = 0


def sizes(fit: Fitting, count: int, each: int, oracle: Asked) -> list[int]:
    """How many items were computed at once, each of which takes so many megabytes."""
    found = []

    def work(items):
        oracle.queries += len(items)
        torch.ones(len(items) * each * MEGABYTE // 4).sum()
        return len(items)

    for some, made, asked in fit.pieces(range(count), oracle, work):  # type: ignore[arg-type]
        assert len(some) == made == asked
        found.append(made)
    return found


def taken() -> float:
    return fitting.Peak(CPU).reset() / 1e9


@linux
def test_as_many_items_follow_the_first_as_the_limit_has_room_for():
    oracle = Asked()
    fit = Fitting(CPU, taken() + 0.42)
    first = sizes(fit, 60, 40, oracle)  # 40 MB each: ten at once
    assert first[:3] == [1, 2, 4] and sum(first) == oracle.queries == 60
    assert 6 <= max(first) <= 12  # what else the process takes comes and goes
    assert sizes(fit, 30, 40, oracle)[0] >= 6  # the next group is of the same kind


@linux
def test_one_by_one_is_the_least_and_is_told(caplog):
    assert sizes(Fitting(CPU, taken() + 0.05), 3, 200, Asked()) == [1, 1, 1]
    assert "one person or sample takes 0.2 more: that is over the limit of" in caplog.text


def test_without_a_limit_everything_is_computed_at_once():
    assert sizes(Fitting(CPU), 7, 1, Asked()) == [7]


def test_what_did_not_fit_once_is_not_tried_again():
    tried, oracle = [], Asked()

    def work(items):
        tried.append(len(items))
        oracle.queries += len(items)
        if len(items) > 3:
            raise torch.OutOfMemoryError
        return list(items)

    fit = Fitting(CPU)
    for _ in range(2):
        pieces = list(fit.pieces(range(12), oracle, work))  # type: ignore[arg-type]
        assert [item for some, _, _ in pieces for item in some] == [*range(12)]
    assert tried == [12, 6, 3, 3, 3, 3, 3, 3, 3, 3] and oracle.queries == 24


@linux
def test_what_did_not_fit_is_not_tried_again_under_a_limit_either():
    """The limit is for more than the device has room for."""
    tried = []

    def work(items):
        tried.append(len(items))
        if len(items) > 3:
            raise torch.OutOfMemoryError
        return list(items)

    found = [item for some, _, _ in Fitting(CPU, 1e6).pieces(range(12), Asked(), work) for item in some]  # type: ignore[arg-type]
    assert found == [*range(12)] and tried == [1, 2, 4, 2, 2, 2, 2, 1]


def test_a_system_that_does_not_tell_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(fitting, "_PROC", tmp_path / "nowhere")
    with pytest.raises(GmiError, match="memory: this system does not tell what a process takes: leave it out"):
        sizes(Fitting(CPU, 1.0), 3, 1, Asked())
