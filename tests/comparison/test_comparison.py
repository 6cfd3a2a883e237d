"""A comparison of defences in the toy world: what is planted in an arm is what the page says of it."""

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from jsonschema import Draft202012Validator
from PIL import Image
from reference.browser import faults_everywhere, needs_browser
from reference.reports import timeless
from reference.verified import verified
from safetensors.torch import load_file

from gmi import toy
from gmi.audits import Hardware, conduct
from gmi.checks import Flag
from gmi.cli import audits
from gmi.comparison import page
from gmi.comparison.advice import annotate
from gmi.comparison.audit import COMPARISON
from gmi.comparison.figures import ArmFigures, Figures, Leak, affordability
from gmi.comparison.forecast import forecast
from gmi.comparison.inputs import Inputs, promises, refuse
from gmi.comparison.plan import Arm, Comparison, NamedAttack, Subject, cells
from gmi.data.people import Faces, People
from gmi.defences.at_at import AtAt
from gmi.defences.bido import Bido
from gmi.defences.dp_sgd import DpSgd
from gmi.defences.erasing import Erasing
from gmi.defences.label_smoothing import LabelSmoothing
from gmi.defences.trap import Trap
from gmi.errors import GmiError
from gmi.inversion.attacker import PROBES
from gmi.inversion.judging import Judges
from gmi.inversion.strength import strengths
from gmi.metrics.statistics import Estimate
from gmi.oracles.access import LabelsOnly, ScoresOnly, WholeModel
from gmi.oracles.guards import Noise, Stealthy
from gmi.oracles.shape import Shape
from gmi.priors.gan import Gan
from gmi.report.header import Asset
from gmi.run import Run
from gmi.search.evolution import Evolution
from gmi.search.gradient import Gradient
from gmi.search.selection import Selection
from gmi.search.strangers import Strangers, digests
from gmi.search.surrogate import Surrogate
from gmi.settings import plain
from gmi.targets.authorisation import Authorisation
from gmi.targets.module import Input, ModuleTarget
from gmi.targets.quality import calibration_error
from gmi.training.targets import Head, Scratch
from gmi.views import Views

SCHEMA = json.loads(Path(page.__file__).with_name("page.schema.json").read_text("utf-8"))
CPU = Hardware(torch.device("cpu"))
COUNT = 12
ADAPTED = NamedAttack(
    name="averaged", access=ScoresOnly(), search=Evolution(generations=12, population=10, radius=32**0.5)
)
PLAN = Comparison(
    name="toy",
    data=Faces(name="toy", folder="toy"),
    targets=(
        Subject(
            name="mlp",
            target=ModuleTarget(
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
        NamedAttack(name="gradient", access=WholeModel(), search=Gradient(steps=40, lr=0.15)),
        NamedAttack(
            name="evolution", access=ScoresOnly(), search=Evolution(generations=12, population=8, radius=32**0.5)
        ),
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


def inputs(people: People | None = None, judge: toy.Stranger | None = None) -> Inputs:
    return Inputs(people or toy.people(COUNT, 0), toy.prior(), Judges((judge or toy.Stranger(),)))


def compare(plan: Comparison, folder: Path, people: People | None = None) -> dict:
    assert conduct(COMPARISON, plan, folder, CPU, inputs(people)) == folder / "comparison.html"
    return json.loads((folder / "comparison.json").read_text())


@pytest.fixture(scope="module")
def compared(tmp_path_factory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("comparison") / "run"
    return folder, compare(PLAN, folder)


def arm_of(report: dict, name: str) -> dict:
    return next(arm for arm in report["arms"] if arm["name"] == name)


def leak(arm: dict, access: str) -> dict:
    return next(leak for leak in arm["leaks"] if leak["access"] == access)


def test_a_comparison_says_what_each_arm_costs_and_leaves(compared):
    folder, report = compared
    Draft202012Validator(SCHEMA).validate(report)
    assert [row["name"] for row in report["arms"]] == ["undefended", "untaught", "loud", "smoothed"]
    bare, untaught, _, smoothed = report["arms"]
    assert bare["accuracy"]["value"] > 0.9 and leak(bare, "white-box")["figures"]["auc"]["low"] > 0.6
    error = bare["calibration_error"]
    assert 0 <= error["low"] <= error["value"] <= error["high"] <= 1 and error["people"] == COUNT
    assert bare["cost"] is None and bare["advice"] is None and leak(bare, "white-box")["finding"] is None
    assert untaught["accuracy"]["value"] < 0.4 and untaught["affordability"] == "no"
    assert leak(untaught, "white-box")["finding"] == "less"
    assert untaught["advice"].startswith("Do not deploy untaught as it is: it costs more than is allowed")
    assert leak(smoothed, "scores")["finding"] == "not shown" and smoothed["affordability"] != "no"
    assert smoothed["mitigation"] == ["AML.M0003 Predictive AI Model Hardening, by analogy"]
    assert not smoothed["has_adaptive_attack"]
    text = (folder / "comparison.html").read_text()
    assert all(row["name"] in text for row in report["arms"]) and "<svg" in text and text.count(">made<") == 1


def test_what_changes_answers_changes_nothing_for_a_holder_of_the_weights(compared):
    """Who may ask the bare target what the others ask, too."""
    folder, report = compared
    bare, loud = arm_of(report, "undefended"), arm_of(report, "loud")
    assert leak(loud, "white-box")["figures"] == leak(bare, "white-box")["figures"]
    alike = leak(loud, "white-box")
    assert alike["reduction"]["auc"]["value"] == 0 and alike["finding"] == "not shown"
    assert alike["p"] is None  # by construction: it is no test, and none of those that Holm counts
    assert "by construction: the same attack on the same weights" in (folder / "comparison.html").read_text()
    assert leak(loud, "scores")["reduction"]["auc"]["value"] > 0.05
    assert loud["accuracy"]["value"] < bare["accuracy"]["value"] and loud["guards"] == "noise 30"
    assert not (folder / "shards" / "mlp" / "loud").exists()  # it has no weights of its own


def test_a_holder_of_the_weights_behind_a_guard_has_every_attack_of_the_bare_target(tmp_path):
    """Those that know of another arm's defence, too: else the guard would seem to stop them."""
    other = NamedAttack(name="margin", access=WholeModel(), search=Gradient(steps=60, lr=0.15, objective="max_margin"))
    smoothed = replace(PLAN.arms[2], adaptive=(other,))
    plan = replace(PLAN, arms=(replace(PLAN.arms[1], adaptive=()), smoothed), attacks=PLAN.attacks[:1], seeds=(0,))
    report = compare(plan, tmp_path / "run")
    bare, loud = (leak(arm_of(report, name), "white-box") for name in ("undefended", "loud"))
    assert loud["figures"] == bare["figures"] and loud["reduction"]["auc"]["value"] == 0


def test_attacks_that_know_of_a_defence_meet_the_undefended_target_too(compared):
    _, report = compared
    made = [(row["arm"], row["is_adaptive"]) for row in report["cells"] if row["attack"] == "averaged"]
    assert made == [("undefended", False), ("loud", True)]
    assert arm_of(report, "loud")["has_adaptive_attack"]


def test_seeds_are_targets_and_attacks_of_their_own_and_a_person_counts_once(compared):
    folder, report = compared
    weights = [folder / "shards" / "targets" / "mlp" / "undefended" / f"{seed}.safetensors" for seed in PLAN.seeds]
    assert weights[0].read_bytes() != weights[1].read_bytes()
    figure = leak(arm_of(report, "undefended"), "scores")["figures"]["auc"]
    assert figure["n"] == 2 * COUNT and figure["people"] == COUNT
    assert arm_of(report, "undefended")["accuracy"]["n"] == 2 * 3 * COUNT
    apart = leak(arm_of(report, "untaught"), "white-box")
    assert len(apart["seeds"]) == 2 and np.mean(apart["seeds"]) == pytest.approx(apart["reduction"]["auc"]["value"])


class Killed(BaseException):
    pass


@pytest.mark.slow
def test_a_killed_comparison_goes_on_cell_by_cell(tmp_path, monkeypatch):
    """What was done is not done again, and the same report comes out."""
    plan = replace(PLAN, arms=PLAN.arms[:1], seeds=(1,))
    whole = compare(plan, tmp_path / "whole")
    saved = Run.save

    def dying(self, name, tensors):
        saved(self, name, tensors)
        if name == "mlp/untaught/open/gradient/1/search/0011":
            raise Killed

    def shards() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "shards").rglob("*.safetensors")}

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Run, "save", dying)
        compare(plan, tmp_path / "run")
    before = shards()
    again = compare(plan, tmp_path / "run")
    assert timeless(again) == timeless(whole)
    assert 0 < len(before) < len(shards()) and before.items() <= shards().items()
    with pytest.raises(GmiError, match="another configuration"):
        compare(replace(plan, margin=0.2), tmp_path / "run")


def test_arms_without_weights_of_their_own_share_cells():
    keys = {cell.key for cell in cells(PLAN)}
    assert len(keys) == 2 * (3 + 2 + 2 + 2)  # seeds by: undefended, untaught, what loud answers, smoothed


def test_an_arm_may_be_called_what_it_likes():
    arms = tuple(Arm(name=name, guards=(Noise(scale=1.0),)) for name in ("open", "A", "a", "A-1", "A 1"))
    keys = {cell.key for cell in cells(replace(PLAN, arms=arms, attacks=PLAN.attacks[1:], seeds=(0,)))}
    assert len(keys) == 6


def test_a_guard_gets_the_profile_of_the_target_that_it_guards(tmp_path):
    arm = Arm(name="stealthy", guards=(Stealthy(epsilon=1.5),), shape=Shape(decimals=2))
    report = compare(replace(PLAN, arms=(arm,), attacks=PLAN.attacks[1:], seeds=(0,)), tmp_path / "run")
    stealthy = arm_of(report, "stealthy")
    assert stealthy["guards"] == "stealthy 1.5 (2 decimals)" and stealthy["accuracy"]["value"] > 0.8
    assert "score (2 decimals) behind stealthy 1.5" in {row["access"] for row in report["cells"]}


class Means(SimpleNamespace):
    """A judge's figure for each person, by cell."""

    def of_people(self, key: str, metric: str) -> np.ndarray:
        return np.atleast_2d(self.values[key])


def masks(
    blind: set[str],
    arm: dict[str, float],
    bare: dict[str, float],
    bare_only: float | None = None,
    defended: Arm = PLAN.arms[2],
    opinions: tuple[float, float] = (0.9, 0.9),
    accuracies: tuple[float, float] = (0.9, 0.9),
) -> list[str]:
    """Reasons, where the arms in `blind` have no gradient and attacks find so much on average of either arm.

    bare_only: what a white-box attack finds that knows of another defence, and so meets the undefended target, too.
    defended: the defended arm; what knows of its defence finds nothing.
    opinions, accuracies: share of the images that the target takes for their people, and its accuracy, of either arm.
    """
    margin = NamedAttack(name="margin", access=WholeModel(), search=Gradient(objective="max_margin"))
    other = (Arm(name="erasing", defence=Erasing(), adaptive=(margin,)),) if bare_only is not None else ()
    plan = replace(PLAN, arms=(defended, *other), seeds=(0,))
    noise = np.random.default_rng(0).normal(0, 0.02, (2, 2, 30))
    values = {
        f"mlp/{name}/open/{attack}/0": figures[attack] + noise[row, column]
        for row, (name, figures) in enumerate({"smoothed": arm, "undefended": bare}.items())
        for column, attack in enumerate(("gradient", "evolution"))
    }
    values["mlp/undefended/open/margin/0"] = np.full(30, bare_only or 0.0)
    values |= {f"mlp/{name}/open/averaged/0": np.zeros(30) for name in ("smoothed", "undefended")}
    flags = {
        ("mlp", name, 0): Flag("gradients", "warning" if name in blind else "passed", "no gradient")
        for name in ("smoothed", "undefended")
    }
    arms = ("smoothed", "undefended")
    attacks = {key: SimpleNamespace(own_opinion=opinions[arms.index(key.split("/")[1])]) for key in values}
    correct = {
        ("mlp", name, 0): SimpleNamespace(correct=np.full(1, each)) for name, each in zip(arms, accuracies, strict=True)
    }
    evidence = SimpleNamespace(gradients=flags, attacks=attacks, utility=correct)
    return Figures(plan, evidence, Means(values=values), np.zeros(1)).masking(plan.targets[0], plan.arms[0])


def test_a_defence_is_held_against_the_targets_that_have_it():
    """One that needs a whole network to learn beside a target of which only the head does."""
    head = replace(PLAN.targets[0], name="head", training=Head(part="3"))
    plan = replace(
        PLAN, targets=(*PLAN.targets, head), arms=(Arm(name="erasing", defence=Erasing(), targets=("mlp",)),)
    )
    world = inputs(toy.people(COUNT, 3))
    refuse(plan, world)
    arms = {("mlp", "undefended"), ("mlp", "erasing"), ("head", "undefended")}
    assert set(promises(plan, world.people.training.classes)) == arms
    with pytest.raises(GmiError, match="needs the whole network"):
        refuse(replace(plan, arms=(replace(plan.arms[0], targets=("head",)),)), world)
    few = replace(PLAN.targets[0], target=replace(PLAN.targets[0].target, arguments={"people": 3}))
    with pytest.raises(GmiError, match="outputs"):
        refuse(replace(PLAN, targets=(few,)), world)
    wrong = replace(
        PLAN, targets=(replace(head, training=Head(part="0")),), arms=(Arm(name="soft", defence=LabelSmoothing()),)
    )
    with pytest.raises(GmiError, match="0 is a Flatten, not a linear layer"):  # what only a step of it notices
        forecast(wrong, world, Hardware(torch.device("cpu")))


def test_a_defence_that_hides_gradients_is_called_out_and_no_other():
    usual = {"gradient": 0.9, "evolution": 0.8}
    assert masks(set(), usual, usual) == []
    assert masks({"smoothed"}, usual, usual) == ["no gradient"]
    assert masks({"smoothed", "undefended"}, usual, usual) == []  # the defence did not do it
    (reason,) = masks(set(), {"gradient": 0.5, "evolution": 0.8}, usual)
    assert reason.startswith("With scores alone more is found than with the weights")
    weak = {"gradient": 0.5, "evolution": 0.8}
    assert masks(set(), weak, weak) == []  # a search that is weak without the defence, too
    assert masks(set(), {"gradient": 0.5, "evolution": 0.5}, usual) == []
    assert masks(set(), weak, weak, bare_only=0.8) == []  # an attack that only the undefended target met


def test_a_defence_under_which_searches_fail_by_their_own_measure_is_called_out():
    usual = {"gradient": 0.9, "evolution": 0.8}
    (reason,) = masks(set(), usual, usual, opinions=(0.2, 0.9))
    assert reason.startswith(
        "With the weights, searches convince the target of 20% of their images, and of 90% without"
    )
    assert masks(set(), usual, usual, opinions=(0.5, 0.9)) == []
    assert masks(set(), usual, usual, opinions=(0.2, 0.3)) == []  # it fails without the defence, too
    assert masks(set(), usual, usual, opinions=(0.05, 0.15)) == []  # of thirty people that may be luck
    assert masks(set(), usual, usual, opinions=(0.1, 0.4)) != []
    assert masks(set(), usual, usual, opinions=(0.3, 0.9), accuracies=(0.5, 0.95)) == []  # it knows its people less


@pytest.mark.parametrize("defence", [Trap(), AtAt()], ids=lambda defence: defence.type)
def test_a_defence_that_misleads_searches_is_called_out_where_none_knows_of_it(defence):
    usual, arm = {"gradient": 0.9, "evolution": 0.8}, replace(PLAN.arms[2], defence=defence)
    assert masks(set(), usual, usual, defended=arm) == [
        "It was trained so that a search finds something else than its people, and no attack here knows of it."
    ]
    assert masks(set(), usual, usual, defended=replace(arm, adaptive=(ADAPTED,))) == []


def test_advice_follows_from_what_was_found():
    def arm(
        less: float, p: float, seeds: tuple[float, ...], cost: tuple[float, float], *masked: str, opinion=0.9
    ) -> ArmFigures:
        price, figure = Estimate(sum(cost) / 2, *cost, 9, 9), Estimate(0.5, 0.4, 0.6, 9, 9)
        reduction = {"auc": Estimate(less, less - 0.05, less + 0.05, 9, 9), "rank1": None}
        return ArmFigures(
            target="mlp",
            name="it",
            defence=None,
            guards=None,
            accuracy=figure,
            cost=price,
            calibration_error=figure,
            affordability=affordability(price, 0.05),
            promise=None,
            leaks=(Leak("scores", "evolution", False, {"auc": figure}, reduction, seeds, p, opinion),),
            masking=masked,
            has_adaptive_attack=True,
            mitigation=(),
        )

    cheap, unsure, dear = (-0.01, 0.03), (-0.02, 0.2), (0.1, 0.3)
    (alone,) = annotate([arm(0.2, 0.001, (0.2,), cheap)])
    assert alone.advice.endswith("[-1.0, 3.0] (one training of each: its luck is not known).")
    cases = {
        "Consider it: less is found by scores (AUC -0.20 [-0.25, -0.15]), for 1.0 points": arm(
            0.2, 0.001, (0.1, 0.3), cheap
        ),
        "which is not shown to be within what is allowed": arm(0.2, 0.001, (0.1, 0.3), unsure),
        "Do not deploy it as it is: it costs more than is allowed": arm(0.2, 0.001, (0.1, 0.3), dear),
        "Do not deploy it: more is found than without it by scores (AUC +0.20 [+0.15, +0.25])": arm(
            -0.2, 0.001, (-0.1, -0.3), cheap
        ),
        "Do not count on it: it is not shown": arm(0.2, 0.001, (0.5, -0.1), cheap),  # a seed disagrees
        "Do not rely on it: it misleads these searches": arm(0.2, 0.001, (0.1, 0.3), cheap, "dead"),
        "-0.15], by a search that the target takes for its people in 10% of cases), for": arm(
            0.2, 0.001, (0.1, 0.3), cheap, opinion=0.1
        ),
    }
    for words, figures in cases.items():
        (advised,) = annotate([figures])
        assert words in advised.advice and figures.advice is None
    several = annotate([arm(0.2, 0.02, (0.1, 0.3), cheap)] * 3)  # Holm: three at 0.02 are none
    assert {(advised.leaks[0].finding, advised.leaks[0].p) for advised in several} == {("not shown", 0.06)}
    assert several[0].advice.endswith("(2 trainings of each).")
    same = arm(0.0, 1.0, (0.0, 0.0), cheap)
    same = replace(same, leaks=(replace(same.leaks[0], p=None),))  # by construction: it does not count
    first, *_ = annotate([arm(0.2, 0.02, (0.1, 0.3), cheap), same, same])
    assert (first.leaks[0].finding, first.leaks[0].p) == ("less", 0.02)


def test_the_negative_world_says_that_nothing_helps(tmp_path):
    """Whose target knows nobody: no defence is shown to take away what is not there."""
    crowd = toy.people(COUNT, 3)
    order = torch.randperm(len(crowd.training.classes), generator=torch.Generator().manual_seed(0))
    shuffled = replace(crowd, training=replace(crowd.training, classes=crowd.training.classes[order]))
    report = compare(replace(PLAN, arms=PLAN.arms[2:], attacks=PLAN.attacks[:1]), tmp_path / "run", shuffled)
    figure, nobody = leak(arm_of(report, "undefended"), "white-box")["figures"]["auc"], report["random_prior"]
    assert figure["low"] < 0.5 and "auc" not in nobody and "match@0.01" in nobody
    assert arm_of(report, "smoothed")["advice"].startswith("Do not count on smoothed: it is not shown to help")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"arms": (Arm(name="undefended"),)}, "arms: two have one name"),
        ({"arms": (Arm(name="a", targets=("vit",)),)}, "there are no targets but mlp"),
        ({"seeds": (-1,)}, "greater than or equal to 0"),
        ({"attacks": (replace(PLAN.attacks[1], access=ScoresOnly(budget=5)),)}, "a comparison has no budget"),
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


def test_what_dp_sgd_protects_is_not_answered_with():
    with pytest.raises(ValueError, match="made of training images, which dp-sgd protects"):
        Arm(name="a", defence=DpSgd(epsilon=1.0), guards=(Stealthy(),))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"attacks": (NamedAttack(name="deep", access=LabelsOnly(), search=Gradient()),)},
            r"gradient needs access: \{type: white-box\}",
        ),
        ({"arms": (Arm(name="dp", defence=DpSgd(epsilon=1e-4)),)}, "cannot be reached"),
        ({"arms": (Arm(name="a", defence=Bido(blocks=("absent",))),)}, "no part named 'absent'"),
        ({"arms": (Arm(name="a", defence=Erasing(), training=Head(part="3")),)}, "needs the whole network to learn"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_trained(tmp_path, change, words):
    with pytest.raises(GmiError, match=words):
        compare(replace(PLAN, **change), tmp_path / "run")
    assert not (tmp_path / "run" / "shards").exists()


def test_strangers_are_no_audited_people_and_other_photographs_are_another_run(tmp_path):
    own = toy.people(COUNT, 0)
    for number, image in enumerate(own.training.bytes[:3]):
        Image.fromarray(image[0].numpy()).save(tmp_path / f"{number}.png")
    student = ModuleTarget(factory="gmi.toy:target", input=PLAN.targets[0].target.input)
    asking = Surrogate(students=(student,), training=Head(), photographs=Strangers(folder=str(tmp_path)))
    plan = replace(PLAN, attacks=(NamedAttack(name="student", access=LabelsOnly(), search=asking),))
    before = digests([asking])
    shown = [sha256((tmp_path / f"{number}.png").read_bytes()).hexdigest() for number in range(3)]
    theirs = replace(own, training=replace(own.training, digests=(*shown, *own.training.digests[3:])))
    with pytest.raises(GmiError, match="3 of its images show the audited people themselves"):
        refuse(plan, inputs(theirs))
    Image.new("L", (16, 16)).save(tmp_path / "0.png")
    assert digests([asking]).keys() == before.keys() and digests([asking]) != before
    assert replace(inputs(own), named=before).digests != inputs(own).digests


def test_a_judge_that_is_the_target_is_refused(tmp_path):
    class Judge(toy.Stranger):
        def weights(self):
            return [tensor for name, tensor in torch.load(tmp_path / "weights.pt", weights_only=True).items()]

    compare(replace(PLAN, arms=PLAN.arms[:1], attacks=PLAN.attacks[:1], seeds=(0,)), tmp_path / "run")
    shard = load_file(tmp_path / "run" / "shards" / "targets" / "mlp" / "undefended" / "0.safetensors")
    torch.save({name: value for name, value in shard.items() if name.startswith("state.")}, tmp_path / "weights.pt")
    with pytest.raises(GmiError, match="is not independent"):
        conduct(COMPARISON, replace(PLAN, name="again"), tmp_path / "other", CPU, inputs(judge=Judge()))


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


def test_a_forecast_names_each_attack_once_and_what_it_asks():
    said = forecast(PLAN, inputs(), CPU)
    assert said.notes == ("6 targets to train, 18 attacks to make: each line is for 2 seeds together",)
    assert len(said.queries) == 9 + 1 and all(seconds > 0 for seconds in said.seconds.values())
    once = {"gradient": 2 * 40 + COUNT * 40, "averaged": 2 * 40 + COUNT * 12 * 10}
    assert said.queries["mlp, undefended: gradient, white-box access"] == 2 * once["gradient"]
    assert said.queries["mlp, loud: averaged, score behind noise 30 access"] == 2 * once["averaged"]
    assert "mlp, loud: gradient, white-box access" not in said.queries  # it has the undefended target's weights
    trainings = [step for step in said.seconds if step.startswith("train")]
    assert trainings == ["train mlp, undefended", "train mlp, untaught", "train mlp, smoothed"]
    assert "the time that defences add to a training" in str(said)


def test_a_forecast_says_what_the_run_asks(compared):
    """Of every cell of the report, but for the one that an arm shares with the undefended target: it is made once."""
    said, (_, report) = forecast(PLAN, inputs(), CPU).queries, compared
    asked = {
        f"mlp, {cell['arm']}: {cell['attack']}, {cell['access']} access": len(PLAN.seeds) * cell["queries"]
        for cell in report["cells"]
    }
    assert len(asked) == len(report["cells"]) == 10
    once = "gradient, white-box access"  # "loud" has the undefended target's weights
    assert asked.pop(f"mlp, loud: {once}") == asked[f"mlp, undefended: {once}"]
    assert said.pop("checks") == 2 * PROBES * (len(PLAN.seeds) * sum("white-box" not in cell for cell in asked))
    assert said == asked


def test_a_dry_run_prints_configuration_queries_and_time(tmp_path, monkeypatch, capsys):
    config = tmp_path / "toy.yaml"
    config.write_text(yaml.safe_dump(plain(PLAN)))
    kind = replace(COMPARISON, load=lambda plan, hardware: inputs())
    audits.main(kind, "compare", [str(config), "--dry-run", "--seeds", "0", "1", "2"])
    text = capsys.readouterr().out
    assert "margin: 0.05" in text and "27 attacks to make" in text and "judge stranger" in text
    assert not (tmp_path / "runs").exists()


def test_the_page_names_permission_digests_and_the_terms_of_assets(tmp_path, monkeypatch):
    credit = Asset("orl", "AT&T licence", "research only", "AT&T Laboratories", "0f" * 32)
    monkeypatch.setattr("gmi.audits.credits", lambda plan: [credit])
    allowed = Authorisation(system="Door 3", allowed_by="A. Owner", until="2099-01-31")
    plan = replace(PLAN, arms=PLAN.arms[:1], attacks=PLAN.attacks[:1], seeds=(0,), authorisation=allowed)
    report = compare(plan, tmp_path / "run")
    text = (tmp_path / "run" / "comparison.html").read_text()
    for words in (
        "Door 3",
        "A. Owner",
        "AT&amp;T Laboratories",
        "research only",
        report["provenance"]["config_digest"],
    ):
        assert words in text
    with pytest.raises(GmiError, match="authorisation ended"):
        compare(replace(plan, authorisation=replace(allowed, until="2020-01-31")), tmp_path / "run")
    longer = replace(allowed, until="2099-12-31")
    renewed = compare(replace(plan, authorisation=longer), tmp_path / "run")  # it is no part of a run's identity
    assert renewed["authorised"] == report["authorised"] and renewed["arms"] == report["arms"]


def test_the_front_is_what_nothing_beats():
    def arm(name: str, right: float, leak: float) -> dict:
        return {"name": name, "accuracy": {"value": right}, "leaks": [{"figures": {"auc": {"value": leak}}}]}

    arms = [arm("bare", 0.9, 0.9), arm("good", 0.9, 0.6), arm("bad", 0.8, 0.7), arm("strong", 0.7, 0.5)]
    assert page.front(arms, "auc") == ["good", "strong"]


def test_the_judges_eyesight_is_among_the_checks(compared):
    sight, rule, *_ = compared[1]["checks"]
    assert (sight["name"], sight["severity"]) == ("eyesight, stranger", "passed")
    assert rule["name"] == "rule of 30, stranger"


def test_an_arm_that_met_no_attack_of_the_strongest_kind_is_told(compared):
    """What a weak attack does not find through a defence, a stronger one may."""
    checks = {check["name"]: check["severity"] for check in compared[1]["checks"]}
    arms = ("undefended", "untaught", "loud", "smoothed")
    assert checks[f"student of the target: {'; '.join(f'{arm}, score' for arm in arms)}"] == "warning"
    # the toy's search persuades few targets; of a defended one that may be what the defence does
    assert checks["search convinces the target: undefended, white-box"] == "warning"
    assert checks["search convinces the target: untaught, white-box"] == "note"


def test_answers_that_a_defence_spoils_are_no_fault_of_the_trial(tmp_path, monkeypatch):
    """A target that is sure of nobody is what the arm is about; of the undefended one it would be a warning."""
    met = []
    monkeypatch.setattr("gmi.comparison.trials.strengths", lambda flags: met.append(flags) or strengths(flags))
    warm = Arm(name="warm", shape=Shape(temperature=100.0))
    compare(replace(PLAN, arms=(warm,), attacks=PLAN.attacks[1:], seeds=(0,)), tmp_path / "run")
    named = {level: {flag.name: flag.severity for flag in flags["evolution"]} for level, flags in met[0].items()}
    assert named["warm, score"]["scores are softmaxed once"] == "note"
    assert named["undefended, score"]["scores are softmaxed once"] == "passed"


@pytest.mark.slow
@needs_browser
def test_the_page_has_no_violation_and_fits_the_screen(compared):
    assert faults_everywhere(compared[0] / "comparison.html") == []


@pytest.mark.slow
def test_figures_come_again_from_the_pieces(compared):
    folder, _ = compared
    verified(COMPARISON, PLAN, inputs(), folder, lambda report: report["arms"].pop(), "arms")
