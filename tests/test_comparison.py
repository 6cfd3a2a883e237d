"""A comparison of defences in the toy world: what is planted in an arm is what the page says of it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator

from gmi import toy
from gmi.access import LabelsOnly, ScoresOnly, WholeModel
from gmi.augment import Views
from gmi.comparison import Arm, Attack, Comparison, Subject, cells
from gmi.data import Faces
from gmi.defences.dp_sgd import DpSgd
from gmi.defences.label_smoothing import LabelSmoothing
from gmi.defences.serving import Noise, Stealthy
from gmi.errors import GmiError
from gmi.judging import Judges
from gmi.oracles.shape import Shape
from gmi.priors.gan import Gan
from gmi.report import comparison as page
from gmi.run import Run
from gmi.search.boundary import Boundary
from gmi.search.evolution import Evolution
from gmi.search.gradient import Gradient
from gmi.selection import Selection
from gmi.target import Input, TargetConfig
from gmi.training import Scratch
from gmi.utility import calibration_error
from gmi.weighing import Inputs, weigh

SCHEMA = json.loads(Path(page.__file__).with_name("comparison.schema.json").read_text("utf-8"))
CPU = torch.device("cpu")
COUNT = 12
ADAPTED = Attack(name="averaged", access=ScoresOnly(), search=Evolution(generations=12, population=10, radius=32**0.5))
PLAN = Comparison(
    name="toy",
    data=Faces(name="toy", folder="toy"),
    targets=(
        Subject(
            name="mlp",
            target=TargetConfig(
                factory="reference.networks:fixed",
                arguments={"people": COUNT},
                input=Input(size=(16, 16), colour="grey", mean=(0.5,)),
            ),
            training=Scratch(steps=150, batch=48, lr=0.01, views=Views(scale=(1.0, 1.0), shift=0.0), weight_decay=1e-4),
        ),
    ),
    arms=(
        Arm(name="untaught", training=Scratch(steps=1, lr=1e-6)),
        Arm(name="loud", guards=(Noise(scale=30.0),), adaptive=(ADAPTED,)),
        Arm(name="smoothed", defence=LabelSmoothing(alpha=-0.02)),
    ),
    attacks=(
        Attack(name="gradient", access=WholeModel(), search=Gradient(steps=40, lr=0.15)),
        Attack(name="evolution", access=ScoresOnly(), search=Evolution(generations=12, population=8, radius=32**0.5)),
    ),
    prior=Gan(folder="toy"),
    selection=Selection(pool=40, candidates=1, views=4, keep=1),
    seeds=(0, 1),
)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return Inputs(toy.people(COUNT, 0), toy.prior(), Judges((toy.Stranger(),)))


@pytest.fixture(scope="module")
def compared(inputs, tmp_path_factory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("comparison") / "run"
    assert weigh(PLAN, inputs, folder, CPU) == folder / "comparison.html"
    return folder, json.loads((folder / "comparison.json").read_text())


def arm_of(report: dict, name: str) -> dict:
    return next(one for one in report["arms"] if one["name"] == name)


def leak(arm: dict, access: str) -> dict:
    return next(one for one in arm["leaks"] if one["access"] == access)


def test_a_comparison_says_what_each_arm_costs_and_leaves(compared):
    folder, report = compared
    Draft202012Validator(SCHEMA).validate(report)
    assert [one["name"] for one in report["arms"]] == ["undefended", "untaught", "loud", "smoothed"]
    bare, untaught, _, smoothed = report["arms"]
    assert bare["accuracy"]["value"] > 0.9 and leak(bare, "white-box")["figures"]["auc"]["low"] > 0.6
    assert untaught["accuracy"]["value"] < 0.4 and not untaught["affordable"]
    assert leak(untaught, "white-box")["reduction"]["auc"]["low"] > 0
    assert smoothed["affordable"] and smoothed["mitigation"] == ["AML.M0003 Model Hardening"]
    assert "costs more than is allowed" in untaught["advice"]
    assert "Consider smoothed" in smoothed["advice"] or "smoothed is not shown to help" in smoothed["advice"]
    text = (folder / "comparison.html").read_text()
    assert all(one["name"] in text for one in report["arms"]) and "<svg" in text


def test_what_changes_answers_changes_nothing_for_a_holder_of_the_weights(compared):
    folder, report = compared
    bare, loud = arm_of(report, "undefended"), arm_of(report, "loud")
    assert leak(loud, "white-box")["figures"] == leak(bare, "white-box")["figures"]
    assert leak(loud, "white-box")["reduction"]["auc"]["value"] == 0
    assert leak(loud, "scores")["reduction"]["auc"]["value"] > 0.05
    assert loud["accuracy"]["value"] < bare["accuracy"]["value"] and loud["guards"] == ["noise 30"]
    assert not (folder / "shards" / "mlp" / "loud").exists()  # it has no weights of its own
    adaptive = [one for one in report["cells"] if one["adaptive"]]
    assert [(one["arm"], one["attack"]) for one in adaptive] == [("loud", "averaged")]


def test_seeds_are_targets_and_attacks_of_their_own_and_a_person_counts_once(compared):
    folder, report = compared
    weights = [folder / "shards" / "targets" / "mlp" / "undefended" / f"{seed}.safetensors" for seed in PLAN.seeds]
    assert weights[0].read_bytes() != weights[1].read_bytes()
    figure = leak(arm_of(report, "undefended"), "scores")["figures"]["auc"]
    assert figure["n"] == 2 * COUNT and figure["people"] == COUNT
    assert arm_of(report, "undefended")["accuracy"]["n"] == 2 * 3 * COUNT


class Killed(BaseException):
    pass


def test_a_killed_comparison_goes_on_cell_by_cell(compared, inputs, tmp_path, monkeypatch):
    """What was done is not done again, and the same report comes out."""
    saved = Run.save

    def dying(self, name, tensors):
        saved(self, name, tensors)
        if name == "mlp/untaught/open/gradient/1/search/0011":
            raise Killed

    def shards() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "shards").rglob("*.safetensors")}

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Run, "save", dying)
        weigh(PLAN, inputs, tmp_path / "run", CPU)
    before = shards()
    weigh(PLAN, inputs, tmp_path / "run", CPU)
    again = json.loads((tmp_path / "run" / "comparison.json").read_text())
    assert again | {"finished": ""} == compared[1] | {"finished": ""}
    assert 0 < len(before) < len(shards()) and before.items() <= shards().items()
    with pytest.raises(GmiError, match="another configuration"):
        weigh(replace(PLAN, margin=0.2), inputs, tmp_path / "run", CPU)


def test_arms_without_weights_of_their_own_share_cells():
    keys = {one.key for one in cells(PLAN)}
    assert len(keys) == 2 * (2 + 2 + 2 + 2)  # seeds by: undefended, untaught, loud's own scores and adaptive, smoothed


def test_a_guard_gets_the_profile_of_the_target_that_it_guards(inputs, tmp_path):
    arm = Arm(name="stealthy", guards=(Stealthy(epsilon=1.5),), shape=Shape(decimals=2))
    plan = replace(PLAN, arms=(arm,), attacks=PLAN.attacks[1:], seeds=(0,))
    weigh(plan, inputs, tmp_path / "run", CPU)
    report = json.loads((tmp_path / "run" / "comparison.json").read_text())
    stealthy = arm_of(report, "stealthy")
    assert stealthy["guards"] == ["stealthy 1.5", "2 decimals"] and stealthy["accuracy"]["value"] > 0.8
    assert "score (2 decimals) behind stealthy 1.5" in {one["access"] for one in report["cells"]}


def test_a_defence_that_hides_gradients_is_called_out(inputs, tmp_path):
    """A target that rounds its logits once it is trained: labels still give it away."""
    scaled = replace(PLAN.targets[0].target, factory="reference.networks:masked")
    subject = replace(PLAN.targets[0], target=scaled)
    plan = replace(
        PLAN,
        targets=(subject,),
        arms=(Arm(name="again", training=PLAN.targets[0].training),),
        attacks=(
            PLAN.attacks[0],
            Attack(name="boundary", access=LabelsOnly(), search=Boundary(iterations=2, points=8, box=None)),
        ),
        seeds=(0,),
    )
    weigh(plan, inputs, tmp_path / "run", CPU)
    report = json.loads((tmp_path / "run" / "comparison.json").read_text())
    assert any("gradient vanishes" in reason for reason in arm_of(report, "again")["masked"])
    assert arm_of(report, "again")["advice"].startswith("Do not rely on again: it hides gradients")


def test_the_negative_world_says_that_nothing_helps(tmp_path):
    """Whose target knows nobody: no defence is shown to take away what is not there."""
    crowd = toy.people(COUNT, 3)
    order = torch.randperm(len(crowd.training.classes), generator=torch.Generator().manual_seed(0))
    shuffled = replace(crowd, training=replace(crowd.training, classes=crowd.training.classes[order]))
    plan = replace(PLAN, arms=PLAN.arms[2:], attacks=PLAN.attacks[:1])
    weigh(plan, Inputs(shuffled, toy.prior(), Judges((toy.Stranger(),))), tmp_path / "run", CPU)
    report = json.loads((tmp_path / "run" / "comparison.json").read_text())
    figure = leak(arm_of(report, "undefended"), "white-box")["figures"]["auc"]
    assert figure["low"] < 0.5 < figure["high"] or figure["high"] < 0.62
    assert "not shown to help" in arm_of(report, "smoothed")["advice"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"arms": (Arm(name="undefended"),)}, "arms: two have one name"),
        ({"seeds": (1, 1)}, "seeds: two have one name"),
        ({"attacks": PLAN.attacks * 2}, "attacks: two have one name"),
        (
            {"attacks": (replace(PLAN.attacks[1], access=ScoresOnly(defences=(Noise(scale=1.0),))),)},
            "access.defences is the arms'",
        ),
    ],
)
def test_plans_that_make_no_sense(change, words):
    with pytest.raises(ValueError, match=words):
        replace(PLAN, **change)


def test_what_does_not_fit_is_said_before_anything_is_trained(inputs, tmp_path):
    wrong = replace(PLAN, attacks=(Attack(name="deep", access=LabelsOnly(), search=Gradient()),))
    with pytest.raises(GmiError, match="Gradient needs a WhiteBoxOracle"):
        weigh(wrong, inputs, tmp_path / "run", CPU)
    assert not (tmp_path / "run" / "shards").exists()
    with pytest.raises(GmiError, match="cannot be reached"):
        weigh(replace(PLAN, arms=(Arm(name="dp", defence=DpSgd(epsilon=1e-4)),)), inputs, tmp_path / "other", CPU)


def test_the_calibration_error_is_the_bins_weighed_distance():
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.01, 1, 400)
    right = (rng.uniform(size=400) < sure**2).astype(float)
    slow = 0.0
    for low in np.arange(15) / 15:
        inside = (sure > low) & (sure <= low + 1 / 15)
        if inside.any():
            slow += inside.mean() * abs(right[inside].mean() - sure[inside].mean())
    assert calibration_error(right, sure) == pytest.approx(slow)
    assert calibration_error([1, 1, 0, 0], [0.5, 0.5, 0.5, 0.5]) == 0


def test_the_front_is_what_nothing_beats():
    def arm(name: str, right: float, leak: float) -> dict:
        return {"name": name, "accuracy": {"value": right}, "leaks": [{"figures": {"auc": {"value": leak}}}]}

    arms = [arm("bare", 0.9, 0.9), arm("good", 0.9, 0.6), arm("bad", 0.8, 0.7), arm("strong", 0.7, 0.5)]
    assert page.front(arms, "auc") == ["good", "strong"]
