"""A ladder in the toy world: what its rungs cost is what they asked, and more access is not less leakage."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from jsonschema import Draft202012Validator
from reference.browser import faults_everywhere, needs_browser
from reference.reports import timeless
from reference.verified import verified
from safetensors.torch import load_file

from gmi import toy
from gmi.audits import Hardware, conduct
from gmi.cli import audits
from gmi.errors import GmiError
from gmi.inversion.attacker import PROBES
from gmi.inversion.judging import Judges
from gmi.judges.face import FaceNet
from gmi.ladder import page
from gmi.ladder.audit import LADDER
from gmi.ladder.forecast import forecast
from gmi.ladder.plan import Ladder, Rung, baseline, costs
from gmi.oracles.access import LabelsOnly, ScoresOnly, VerificationOnly, WholeModel
from gmi.oracles.ledger import Ledger
from gmi.oracles.local import Model
from gmi.report.brief import brief
from gmi.report.header import Asset
from gmi.rng import Rng
from gmi.search.boundary import Boundary
from gmi.search.evolution import Evolution
from gmi.search.gradient import Gradient
from gmi.search.selection import Selection
from gmi.search.solve import Solve
from gmi.settings import plain
from gmi.targets.authorisation import Authorisation
from gmi.targets.module import Target
from gmi.targets.templates import Matcher
from gmi.training.targets import Head

SCHEMA = json.loads(Path(page.__file__).with_name("page.schema.json").read_text("utf-8"))
CPU = Hardware(torch.device("cpu"))
PLAN = Ladder(
    name="toy",
    audit=toy.plan(),
    rungs=(
        Rung(name="whole", access=WholeModel(), searches=(Gradient(steps=5), Gradient(steps=40, lr=0.15))),
        Rung(name="scores", access=ScoresOnly(), searches=(Evolution(generations=10, population=8, radius=32**0.5),)),
        Rung(name="labels", access=LabelsOnly(), searches=(Boundary(iterations=5, points=8, radius=0.18, box=None),)),
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
    assert conduct(LADDER, PLAN, folder, CPU, inputs) == folder / "ladder.html"
    return folder, json.loads((folder / "ladder.json").read_text())


def test_a_ladder_says_what_each_rung_gave(climbed):
    _, report = climbed
    Draft202012Validator(SCHEMA).validate(report)
    assert report["attacks"] == {"representatives": ["api", "weights"]}
    assert report["subject"] == "faces" and "verdict" not in report
    points = {point["name"]: point for point in report["points"]}
    assert list(points) == ["rung0_0", "rung0_1", "rung1_0", "rung2_0", "best_of_20", "best_of_60"]
    auc = {name: point["figures"]["auc"]["value"] for name, point in points.items()}
    assert auc["rung0_1"] > auc["rung0_0"] and auc["rung0_1"] > auc["rung1_0"] > 0.5
    assert "auc" not in report["random_prior"] and "match@0.01" in report["random_prior"]  # 0.5 by arithmetic
    assert report["reference"] == "rung0_1" and report["seeds"] == [0]
    assert points["rung0_1"]["share"] is points["rung0_1"]["ratio"] is None
    assert points["best_of_60"]["share"] is points["best_of_60"]["baseline"] is None
    assert 0 < points["rung1_0"]["ratio"]["value"] < 1.2
    assert points["rung1_0"]["person_queries"] == 10 * 8 and points["rung1_0"]["common_queries"] == 2 * 40
    assert points["rung1_0"]["queries"] == 80 + 15 * 80


def test_a_share_begins_at_what_the_same_queries_buy_without_a_search(climbed):
    """As many queries, or the largest control: at the first rung 215 queries, and 180 are the most that one asks."""
    points = {point["name"]: point for point in climbed[1]["points"]}
    assert [points[name]["baseline"] for name in ("rung0_0", "rung1_0")] == ["best_of_60"] * 2
    most, least, found = (points[name]["figures"]["rank1"]["value"] for name in ("rung0_1", "best_of_60", "rung2_0"))
    assert points["rung2_0"]["ratio"]["value"] == pytest.approx(found / most)
    assert points["rung2_0"]["share"]["value"] == pytest.approx((found - least) / (most - least))
    cheap = replace(PLAN, best_of=(20, 60, 250, 1000))
    prior = toy.prior()
    assert [baseline(cheap, prior, step, 15, 15) for step in ("rung0_0", "rung0_1", "rung1_0")] == [
        "best_of_250",
        "best_of_1000",
        "best_of_1000",
    ]


def test_an_attack_that_only_chooses_among_samples_has_no_share(inputs, tmp_path):
    """A search that does not move, from the pool that the control has."""
    rung = replace(PLAN.rungs[0], searches=(Gradient(steps=1, lr=1e-9), *PLAN.rungs[0].searches[1:]))
    conduct(LADDER, replace(PLAN, rungs=(rung,), best_of=(40,)), tmp_path / "run", CPU, inputs)
    still = json.loads((tmp_path / "run" / "ladder.json").read_text())["points"][0]
    assert still["ratio"]["value"] > 0 == pytest.approx(still["share"]["value"])


@pytest.mark.slow
def test_every_point_is_made_with_each_seed(inputs, tmp_path):
    plan = replace(PLAN, rungs=PLAN.rungs[:2], best_of=(20,), audit=replace(PLAN.audit, seeds=(0, 5)), budget=10**4)
    once = replace(plan, audit=PLAN.audit)
    path = conduct(LADDER, plan, tmp_path / "run", CPU, inputs)
    report = json.loads((tmp_path / "run" / "ladder.json").read_text())
    Draft202012Validator(SCHEMA).validate(report)
    assert report["seeds"] == [0, 5] and "made with\n2 seeds" in path.read_text()
    (point,) = [point for point in report["points"] if point["name"] == "rung1_0"]
    assert point["figures"]["auc"]["n"] == 2 * 15 and point["figures"]["auc"]["people"] == 15
    assert point["queries"] == 80 + 15 * 80  # of one adversary
    assert (tmp_path / "run" / "shards" / "seed-5" / "rung1_0").is_dir()
    foreseen, alone = (forecast(each, inputs, CPU).queries for each in (plan, once))
    assert foreseen == {step: count if step == "checks" else 2 * count for step, count in alone.items()}
    conduct(LADDER, once, tmp_path / "once", CPU, inputs)
    first = json.loads((tmp_path / "once" / "ladder.json").read_text())["points"]
    shards = [tmp_path / name / "shards" / "rung1_0" / "0003.safetensors" for name in ("run", "once")]
    images = [load_file(shard)["images"] for shard in shards]
    assert torch.equal(*images) and first[2]["queries"] == point["queries"]


def test_the_ledger_of_a_rung_holds_what_the_rung_is_said_to_cost(climbed):
    folder, report = climbed
    control = 2 * (60 - 40)  # the rest of the larger pool; where all candidates are kept, choosing asks nothing
    for name, access, more, again in (("rung1_0", "score", control, 0), ("rung2_0", "label-only", 0, 15 * 5)):
        (ledger,) = (folder / "ledgers").glob(f"{access}-*/ledger.sqlite")
        with closing(sqlite3.connect(ledger)) as file:
            ((sent,),) = file.execute("SELECT sent FROM total")
        (said,) = (point["queries"] for point in report["points"] if point["name"] == name)
        asked = said + more + 2 * PROBES
        assert asked - again <= sent <= asked  # an image that comes again costs nothing


def test_a_second_start_asks_nobody(climbed, inputs, monkeypatch):
    folder, report = climbed
    monkeypatch.setattr(Target, "__call__", lambda *_: pytest.fail("the target was asked again"))
    monkeypatch.setattr(Model, "__call__", lambda *_: pytest.fail("the target was asked again"))
    conduct(LADDER, replace(PLAN, budget=10**6), folder, CPU, inputs)  # a budget may be set later
    again = json.loads((folder / "ladder.json").read_text())
    assert again["budget"] == 10**6 and timeless(again) | {"budget": None} == timeless(report)


def test_the_page_shows_every_point_and_loads_nothing(climbed):
    text = (climbed[0] / "ladder.html").read_text()
    assert "whole" in text and "label-only access" in text and "http" not in text.replace("http-equiv", "")
    figures, coverage = text.split("What was tested")
    assert figures.count("<tr") == 1 + 6 + 2 and coverage.count(">made<") == 1


def test_a_budget_or_a_search_that_does_not_fit_is_refused_before_anything_is_asked(inputs, tmp_path):
    needed = max(cost.queries(15) for cost in costs(PLAN, inputs.prior, 15).values())
    with pytest.raises(GmiError, match=f"more than the budget of {needed - 1:,}"):
        conduct(LADDER, replace(PLAN, budget=needed - 1), tmp_path / "run", CPU, inputs)
    wrong = replace(PLAN, rungs=(Rung(name="x", access=LabelsOnly(), searches=(Gradient(),)),))
    with pytest.raises(GmiError, match=r"gradient needs access: \{type: white-box\}"):
        conduct(LADDER, wrong, tmp_path / "run", CPU, inputs)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="a name of its own"):
        replace(PLAN, rungs=PLAN.rungs[:1] * 2)
    with pytest.raises(ValueError, match="own budget"):
        replace(PLAN, rungs=(Rung(name="x", access=ScoresOnly(budget=5), searches=(Evolution(),)),))


def test_a_forecast_says_what_the_report_says(climbed, inputs):
    _, report = climbed
    foreseen = forecast(PLAN, inputs, CPU)
    queries = {step.split()[0]: count for step, count in foreseen.queries.items()}
    assert queries.pop("checks") == 2 * 2 * PROBES  # of two interfaces
    assert queries == {point["name"]: point["queries"] for point in report["points"]}
    assert all(seconds > 0 for seconds in foreseen.seconds.values()) and "judge stranger" in foreseen.seconds
    assert foreseen.notes[2] == "rung1_0: 80 queries for everybody, 80 for each of 15 people"


def test_a_dry_run_prints_configuration_queries_and_time_and_asks_nothing(inputs, tmp_path, monkeypatch, capsys):
    config = tmp_path / "toy.yaml"
    config.write_text(yaml.safe_dump(plain(replace(PLAN, budget=100))))
    monkeypatch.setattr(Target, "__call__", lambda *_: pytest.fail("the target was asked"))
    monkeypatch.chdir(tmp_path)
    kind = replace(LADDER, load=lambda plan, hardware: inputs)
    with pytest.raises(GmiError, match="more than the budget of 100"):
        audits.main(kind, "ladder", [str(config), "--dry-run"])
    text = capsys.readouterr().out
    words = ("best_of:", "rung0_1 whole, gradient", "No point may ask more than 100 queries.")
    assert all(word in text for word in words)
    assert not (tmp_path / "runs").exists()


def test_a_target_that_is_still_to_be_trained_is_refused(inputs, tmp_path):
    target = replace(PLAN.audit.target, weights=str(tmp_path / "model.safetensors"))
    plan = replace(PLAN, audit=replace(PLAN.audit, target=target, training=Head()))
    with pytest.raises(GmiError, match=r"no weights at .* yet: gmi train-target makes them"):
        conduct(LADDER, plan, tmp_path / "run", CPU, replace(inputs, untrained=True))
    assert conduct(LADDER, plan, tmp_path / "given", CPU, inputs).exists()  # weights that are not used are not missed


def test_the_page_names_permission_digests_and_the_terms_of_assets(climbed, inputs, monkeypatch):
    credit = Asset("orl", "AT&T licence", "research only", "AT&T Laboratories", "0f" * 32)
    monkeypatch.setattr("gmi.audits.credits", lambda plan: [credit])
    allowed = Authorisation(system="Door 3", allowed_by="A. Owner", until="2099-01-31")
    plan = replace(PLAN, audit=replace(PLAN.audit, authorisation=allowed))
    text = conduct(LADDER, plan, climbed[0], CPU, inputs).read_text()
    digest = climbed[1]["provenance"]["config_digest"]
    assert all(words in text for words in ("Door 3", "A. Owner", "AT&amp;T Laboratories", "research only", digest))
    expired = replace(PLAN, audit=replace(PLAN.audit, authorisation=replace(allowed, until="2020-01-31")))
    with pytest.raises(GmiError, match="authorisation ended"):
        conduct(LADDER, expired, climbed[0], CPU, inputs)


def test_a_ladder_with_a_budget_goes_on_after_a_stop_right_after_a_charge(inputs, tmp_path, monkeypatch):
    """What was charged and not answered is asked again, without a further charge against the ladder's budget."""
    plan = replace(PLAN, rungs=(PLAN.rungs[0], PLAN.rungs[1]), best_of=(20,), budget=2000)
    kept, keep = [], Ledger.keep

    def stopped(self: Ledger, keys: list[bytes], answers: list[bytes]) -> None:
        kept.append(len(keys))
        if len(kept) == 3:  # the first of the pool, after the checks, which ask twice
            raise KeyboardInterrupt
        keep(self, keys, answers)

    monkeypatch.setattr(Ledger, "keep", stopped)
    with pytest.raises(KeyboardInterrupt):
        conduct(LADDER, plan, tmp_path / "run", CPU, inputs)
    conduct(LADDER, plan, tmp_path / "run", CPU, inputs)
    (ledger,) = (tmp_path / "run" / "ledgers").iterdir()
    with closing(sqlite3.connect(ledger / "ledger.sqlite" if ledger.is_dir() else ledger)) as file:
        ((sent,),) = file.execute("SELECT sent FROM total")
        ((images,),) = file.execute("SELECT count(*) FROM images")
    assert sent == images + kept[2] + PROBES


class Blind(toy.Stranger):
    """A judge to whom every image is another one."""

    def embed(self, images):
        return Rng(range(len(images))).normal(64)


def test_a_ladder_with_claims_asks_what_it_says(tmp_path):
    """Every image that is asked about for everybody is one claim for each person, those of checks too."""
    inputs, rung = toy.inputs(4, 1.0, 0), "rung0_0"
    network = inputs.target.module[:-1]
    with torch.no_grad():
        enrolled = network(inputs.target.input(inputs.people.training.pixels)).view(4, -1, 128).mean(1)
    target = Target(Matcher(network, enrolled, 20.0, 0.5), inputs.target.input, inputs.target.classes)
    search = Solve(recogniser=FaceNet(), questions=8, search=Gradient(steps=1, objective="logit"))
    doors = Rung(name="doors", access=VerificationOnly(), searches=(search,))
    audit = replace(PLAN.audit, selection=Selection(pool=4, candidates=1, views=1))
    plan = replace(PLAN, audit=audit, rungs=(doors,), best_of=(4,), budget=40)
    inputs = replace(inputs, target=target)
    conduct(LADDER, plan, tmp_path / "run", CPU, inputs)
    foreseen = {step.split()[0]: count for step, count in forecast(plan, inputs, CPU).queries.items()}
    assert foreseen[rung] == 4 * 8 and foreseen["checks"] == 4 * 2 * PROBES > plan.budget
    (ledger,) = (tmp_path / "run" / "ledgers").glob("verification-*/ledger.sqlite")
    with closing(sqlite3.connect(ledger)) as file:
        assert file.execute("SELECT sent FROM total").fetchone() == (foreseen[rung] + foreseen["checks"],)


def test_a_judge_that_is_blind_to_the_people_is_told(climbed, inputs, tmp_path):
    path = conduct(LADDER, PLAN, tmp_path / "run", CPU, replace(inputs, judges=Judges((Blind(),))))
    folders = (tmp_path / "run", climbed[0])
    accuracy, *_ = json.loads((climbed[0] / "ladder.json").read_text())["checks"]
    assert (accuracy["name"], accuracy["severity"]) == ("target's accuracy", "passed")
    sights = [json.loads((folder / "ladder.json").read_text())["checks"][1] for folder in folders]
    assert [sight["name"] for sight in sights] == ["eyesight, stranger"] * 2
    assert [sight["severity"] for sight in sights] == ["warning", "passed"]
    assert "stranger hardly tells these people apart" in path.read_text()
    assert "Eyesight" not in (climbed[0] / "ladder.html").read_text()


def test_a_level_of_access_without_its_strongest_kind_of_search_is_told(climbed):
    folder, report = climbed
    checks = {check["name"]: check["severity"] for check in report["checks"]}
    convinced = any(point["own_opinion"] >= 0.5 for point in report["points"] if point["rung"] == "whole")
    whole = "search with the weights" if convinced else "search convinces the target"
    assert checks[f"{whole}: white-box"] == ("passed" if convinced else "warning")
    assert checks["student of the target: score; label-only"] == "warning"
    assert "Student of the target: score; label-only: An adversary who" in (folder / "ladder.html").read_text()


@pytest.mark.slow
@needs_browser
def test_the_page_has_no_violation_and_fits_the_screen(climbed):
    assert faults_everywhere(climbed[0] / "ladder.html") == []


def test_figures_come_again_from_the_pieces(climbed, inputs):
    verified(LADDER, PLAN, inputs, climbed[0], lambda report: report["points"][0].update(own_opinion=0.01), "points")


def test_the_summary_has_a_row_for_every_point_also_for_two_searches_of_one_kind(climbed):
    _, report = climbed
    twin = {**report["points"][0], "name": "rung0_9", "queries": 12345}
    (points, _) = brief({**report, "points": [*report["points"], twin]}).tables
    assert [figures["queries"]["value"] for _, figures in points.lines] == [
        *(point["queries"] for point in report["points"]),
        12345,
    ]
