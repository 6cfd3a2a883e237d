"""A ladder in the toy world: what its rungs cost is what they asked, and more access is not less leakage."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from jsonschema import Draft202012Validator

from gmi import toy
from gmi.errors import GmiError
from gmi.ladder import page
from gmi.ladder.audit import climb
from gmi.ladder.plan import Ladder, Rung, points
from gmi.oracles.access import LabelsOnly, ScoresOnly, WholeModel
from gmi.oracles.local import Model
from gmi.search.boundary import Boundary
from gmi.search.evolution import Evolution
from gmi.search.gradient import Gradient
from gmi.targets.module import Target

SCHEMA = json.loads(Path(page.__file__).with_name("page.schema.json").read_text("utf-8"))
CPU = torch.device("cpu")
PLAN = Ladder(
    name="toy",
    audit=toy.plan(),
    rungs=(
        Rung(name="whole", access=WholeModel(), searches=(Gradient(steps=5), Gradient(steps=40, lr=0.15))),
        Rung(name="scores", access=ScoresOnly(), searches=(Evolution(generations=10, population=8, radius=32**0.5),)),
        Rung(name="labels", access=LabelsOnly(), searches=(Boundary(iterations=5, points=8, radius=0.5, box=None),)),
    ),
    best_of=(20, 60),
)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def inputs():
    return toy.inputs(15, 1.0, 0)


@pytest.fixture(scope="module")
def climbed(inputs, tmp_path_factory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("ladder") / "run"
    assert climb(PLAN, inputs, folder, CPU) == folder / "ladder.html"
    return folder, json.loads((folder / "ladder.json").read_text())


def test_a_ladder_says_what_each_rung_gave(climbed):
    _, report = climbed
    Draft202012Validator(SCHEMA).validate(report)
    found = {point["name"]: point for point in report["points"]}
    assert list(found) == ["rung0_0", "rung0_1", "rung1_0", "rung2_0", "best_of_20", "best_of_60"]
    auc = {name: point["figures"]["auc"]["value"] for name, point in found.items()}
    assert auc["rung0_1"] > auc["rung0_0"] and auc["rung0_1"] > auc["rung1_0"] > report["random"]["auc"]["value"]
    assert report["best"] == "rung0_1" and found["rung0_1"]["share"] is None
    assert 0 < found["rung1_0"]["share"]["value"] < 1.2
    assert found["rung1_0"]["person"] == 10 * 8 + 4 and found["rung1_0"]["shared"] == 2 * 40
    assert found["rung1_0"]["queries"] == 80 + 15 * 84


def test_the_ledger_of_a_rung_holds_what_the_rung_is_said_to_cost(climbed):
    folder, report = climbed
    control = 2 * (60 - 40) + 2 * 15 * 4  # the rest of the larger pool, and the selections of both: by scores, too
    for name, access, more, again in (("rung1_0", "score", control, 0), ("rung2_0", "label-only", 0, 15 * 5)):
        (ledger,) = (folder / "ledgers").glob(f"{access}-*/ledger.sqlite")
        with closing(sqlite3.connect(ledger)) as file:
            ((sent,),) = file.execute("SELECT sent FROM total")
        (said,) = (point["queries"] for point in report["points"] if point["name"] == name)
        assert said + more - again <= sent <= said + more  # an image that comes again costs nothing


def test_a_second_climb_asks_nobody(climbed, inputs, monkeypatch):
    folder, report = climbed
    monkeypatch.setattr(Target, "__call__", lambda *_: pytest.fail("the target was asked again"))
    monkeypatch.setattr(Model, "__call__", lambda *_: pytest.fail("the target was asked again"))
    climb(replace(PLAN, budget=10**6), inputs, folder, CPU)  # a budget may be set later
    again = json.loads((folder / "ladder.json").read_text())
    assert again | {"finished": "", "budget": None} == report | {"finished": "", "budget": None}


def test_the_page_shows_every_point_and_loads_nothing(climbed):
    text = (climbed[0] / "ladder.html").read_text()
    assert "whole" in text and "label-only access" in text and "http" not in text.replace("http-equiv", "")
    assert text.count("<tr") == (1 + 6 + 2) + (1 + 6) + 5 and text.count(">made<") == 1


def test_a_budget_or_a_search_that_does_not_fit_is_refused_before_anything_is_asked(inputs, tmp_path):
    needed = max(one.shared + 15 * one.person for one in points(PLAN, inputs).values())
    with pytest.raises(GmiError, match=f"more than the budget of {needed - 1:,}"):
        climb(replace(PLAN, budget=needed - 1), inputs, tmp_path / "run", CPU)
    wrong = replace(PLAN, rungs=(Rung(name="x", access=LabelsOnly(), searches=(Gradient(),)),))
    with pytest.raises(GmiError, match=r"gradient needs access: \{type: white-box\}"):
        climb(wrong, inputs, tmp_path / "run", CPU)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="a name of its own"):
        replace(PLAN, rungs=PLAN.rungs[:1] * 2)
    with pytest.raises(ValueError, match="own budget"):
        replace(PLAN, rungs=(Rung(name="x", access=ScoresOnly(budget=5), searches=(Evolution(),)),))
