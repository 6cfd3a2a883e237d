"""Trackers get scalars, with the values of the report, and nothing that shows or names a person."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gmi import toy
from gmi.audits import Hardware, conduct
from gmi.errors import GmiError
from gmi.inversion.audit import INVERSION
from gmi.tracking import refuse_missing, tracking

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard", "ignore::DeprecationWarning:google"),
]


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard reads of a folder; nothing but scalars may be there."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: dict[str, list[tuple[int, float]]] = {}
    for place in {path.parent for path in folder.rglob("events.out*")}:
        events = EventAccumulator(str(place))
        events.Reload()
        tags = events.Tags()
        assert not tags["images"] and not tags["histograms"] and not tags["tensors"]
        found |= {name: [(each.step, each.value) for each in events.Scalars(name)] for name in tags["scalars"]}
    return found


def test_tensorboard_has_what_was_logged(tmp_path):
    with tracking(["tensorboard"], "run", tmp_path) as log:
        log({"loss": 2.0, "match@0.01": 0.5}, 1)
        log({"loss": 1.0}, 2)
    assert scalars(tmp_path / "track") == {"loss": [(1, 2.0), (2, 1.0)], "match-0.01": [(1, 0.5)]}


def test_without_trackers_nothing_is_written(tmp_path):
    with tracking([], "run", tmp_path) as log:
        log({"loss": 2.0}, 1)
    assert not [*tmp_path.iterdir()]


def test_an_audit_logs_its_figures_with_their_intervals(tmp_path):
    plan = replace(toy.plan(), track=("tensorboard",))
    conduct(INVERSION, plan, tmp_path / "run", Hardware(torch.device("cpu")), toy.inputs(10, 1.0, 0))
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    found = scalars(tmp_path / "run" / "track")
    (row,) = [each for each in report["results"] if (each["method"], each["metric"]) == ("search", "auc")]
    for end, key in (("", "value"), ("/low", "low"), ("/high", "high")):
        ((step, value),) = found[f"results/search/stranger/auc{end}"]
        assert step == 0 and value == pytest.approx(row["estimate"][key])
    assert not any("P0" in name or "people/" in name for name in found)


def test_a_tracker_that_is_missing_or_fails_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("gmi.tracking.get_available_trackers", lambda: [])
    with pytest.raises(GmiError, match="track: mlflow is not installed: pip install mlflow, or leave it out"):
        refuse_missing(["mlflow"])
    monkeypatch.undo()
    (tmp_path / "track").write_text("a file in the way")
    with pytest.raises(GmiError, match="track: tensorboard failed"), tracking(["tensorboard"], "run", tmp_path):
        pass
