"""The whole audit in the toy world: planted leaks are found, where there is none none is, and a kill costs nothing."""

import json
import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import debug_launcher
from accelerate.state import AcceleratorState
from conftest import repeats
from jsonschema import Draft202012Validator
from reference.mixture import PATHS, Mixture
from safetensors.torch import load_file

from gmi import checks, toy
from gmi.audits import Hardware, conduct
from gmi.cli import accelerator, hardware
from gmi.data.images import Images
from gmi.errors import GmiError
from gmi.inversion import page as render
from gmi.inversion.attacker import PROBES, Attacker
from gmi.inversion.audit import INVERSION
from gmi.inversion.controls import Controls
from gmi.inversion.inputs import Inputs
from gmi.inversion.judging import Judges
from gmi.inversion.plan import Audit
from gmi.oracles.access import LabelsOnly, ScoresOnly, WholeModel
from gmi.oracles.local import Model
from gmi.oracles.shape import Shape
from gmi.priors.diffusion import DiffusionPrior
from gmi.priors.gan import Dcgan
from gmi.protocols import Candidates, Prior, ScoreOracle, WhiteBoxOracle
from gmi.rng import Rng
from gmi.run import Run
from gmi.search.evolution import Evolution
from gmi.search.gradient import Gradient
from gmi.search.guided import Guided
from gmi.search.particles import Particles
from gmi.search.selection import Selection
from gmi.search.surrogate import Surrogate
from gmi.targets.module import Input, ModuleTarget, Target
from gmi.training.targets import Scratch

SCHEMA = json.loads(Path(render.__file__).with_name("page.schema.json").read_text("utf-8"))
CPU = torch.device("cpu")
PEOPLE = 30
GROUPS = replace(toy.plan(), batch=7)


UNSEEN = replace(INVERSION, render=lambda folder: folder / "report.html")
"""An audit at whose page nobody looks: to draw it takes a third of the time."""


def run(folder: Path, plan: Audit | None = None, inputs: Inputs | None = None, kind: Any = UNSEEN) -> dict:
    page = conduct(kind, plan or toy.plan(), folder, Hardware(CPU), inputs or toy.inputs(PEOPLE, 1.0, 0))
    assert page == folder / "report.html" and (kind is UNSEEN or page.stat().st_size > 10_000)
    report = json.loads((folder / "report.json").read_text())
    Draft202012Validator(SCHEMA).validate(report)
    return report


def timeless(report: dict) -> dict:
    """The report without times, which alone may differ between two runs of one audit."""
    provenance = {
        key: value for key, value in report["provenance"].items() if key not in ("started", "finished", "processes")
    }
    cost = {key: value for key, value in report["cost"].items() if key != "seconds"}
    return report | {"provenance": provenance, "cost": cost}


def estimate(report: dict, method: str, metric: str, judge: str = "stranger") -> dict:
    (found,) = (
        row["estimate"]
        for row in report["results"]
        if (row["method"], row["metric"], row["judge"]) == (method, metric, judge)
    )
    return found


def shards(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> tuple[Path, dict]:
    """The folder and the report of an audit in several groups of people."""
    folder = tmp_path_factory.mktemp("planted") / "run"
    return folder, run(folder, GROUPS, kind=INVERSION)


def test_a_planted_leak_is_found(planted):
    _, report = planted
    verdict = report["verdict"]
    assert verdict["finding"] == "evidence of identity leakage" and verdict["seeds"] == 1
    assert "one seed" in verdict["because"][0] and f"among {PEOPLE}" in verdict["effect"]
    (search, best) = verdict["advantages"]
    assert (search["attack"], best["attack"]) == ("search", "best_of_n")
    attack, among = estimate(report, "search", "auc"), estimate(report, "search", "auc_lookalikes")
    assert attack["low"] > 0.6 and among["value"] < attack["value"]
    assert search["leak"]["value"] == pytest.approx(attack["value"] - 0.5)  # samples of the prior: 0.5 by arithmetic
    assert "auc" not in {row["metric"] for row in report["results"] if row["method"] in ("random", "permuted")}
    assert estimate(report, "genuine", "rank1")["value"] > 0.9
    paired, match = (estimate(report, "search", f"{kind}@0.01")["value"] for kind in ("pairmatch", "match"))
    assert paired >= match  # papers' thresholds are laxer
    severities = {check["name"]: check["severity"] for check in report["checks"]}
    assert severities["logits are logits"] == severities["gradients"] == severities["repeatable target"] == "passed"


def test_shuffled_labels_are_no_evidence_and_no_acquittal(tmp_path):
    """The negative world: the target knows every label by heart, and nothing of the people can be had from it."""
    report = run(tmp_path / "run", replace(toy.plan(), preflight=False), toy.inputs(PEOPLE, 0.0, 0))
    assert report["verdict"]["finding"] == "inconclusive"
    reasons = " ".join(report["verdict"]["because"])
    assert (
        "is notable" in reasons and "of the enrolment images right" in reasons
    )  # the bound, and a target that does not know its people
    assert estimate(report, "oracle", "auc")["low"] > 0.6  # the prior could have shown them


def test_a_person_is_to_be_found_in_her_group_too(tmp_path):
    """The planted leak once more, where the data names the groups of those who look alike."""
    inputs = toy.inputs(PEOPLE, 1.0, 0, traits=2)
    inputs = replace(inputs, people=replace(inputs.people, groups=tuple(str(one % 2) for one in range(PEOPLE))))
    report = run(tmp_path / "run", toy.plan(), inputs)
    among = estimate(report, "search", "auc_group")
    assert report["verdict"]["finding"] == "evidence of identity leakage"
    assert among["low"] > 0.5
    (search, *_), controls = report["verdict"]["advantages"], ("random", "lookalikes")
    kinds = ("auc_group", "auc_lookalikes")
    over = {
        (kind, name): estimate(report, "search", kind)["value"] - estimate(report, name, kind)["value"]
        for kind in kinds
        for name in controls
    }
    assert search["identity"]["value"] == pytest.approx(min(over.values()))  # the strongest of four
    messages = {check["name"]: check["message"] for check in report["checks"]}
    assert messages["groups"] == "Each of the 2 groups of people has at least 15."
    assert checks.group_sizes(["f", "f", "m"]).severity == "warning"


class Killed(BaseException):
    pass


@pytest.mark.parametrize("after", repeats(3, slow=(0, 20)))
def test_a_kill_anywhere_changes_nothing(planted, tmp_path, monkeypatch, after):
    left = [after]

    def dying(source, path):  # files of a run appear by this call alone
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        os.rename(source, path)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("gmi.files.os.replace", dying)
        run(tmp_path / "killed", GROUPS)
    assert timeless(run(tmp_path / "killed", GROUPS)) == timeless(planted[1])
    assert shards(tmp_path / "killed") == shards(planted[0])


INTERFACES = {
    "scores": replace(toy.plan(), access=ScoresOnly(), search=Evolution(generations=20, population=10, radius=32**0.5)),
    "rounded top 3": replace(
        toy.plan(),
        access=ScoresOnly(shape=Shape(top=3, decimals=3)),
        search=Evolution(generations=20, population=10, radius=32**0.5),
    ),
}


@pytest.mark.parametrize("name", repeats("rounded top 3", slow=("scores",)))
def test_scores_alone_give_a_planted_leak_away(tmp_path, name):
    report = run(tmp_path / "run", INTERFACES[name])
    assert estimate(report, "search", "auc")["low"] > 0.6
    ledger, asked = report["cost"]["ledger"], report["cost"]["queries"]["total"]
    assert ledger["images"] + PROBES == ledger["sent"] <= asked  # those of the checks are sent twice
    assert ledger["person_most"] <= 20 * 10 + 2 * 4  # the search, and the views of both releases
    severities = {one["name"]: one["severity"] for one in report["checks"]}
    assert not {"gradients", "logits are logits"} & {*severities} and severities["repeatable target"] == "passed"


STUDENT = ModuleTarget(factory="reference.networks:fixed", arguments={"people": PEOPLE}, input=Input(size=(16, 16)))


def taught(**settings) -> Audit:
    """By labels, a student for each audit."""
    student = replace(STUDENT, input=Input(size=(16, 16), colour="grey", mean=(0.5,)), **settings)
    search = Surrogate(
        questions=400, students=(student,), training=Scratch(steps=100, lr=0.01), search=Gradient(steps=20)
    )
    return replace(toy.plan(), access=LabelsOnly(), search=search, controls=Controls(oracle=False))


def test_a_student_of_labels_gives_a_planted_leak_away(tmp_path):
    report = run(tmp_path / "run", taught(), kind=INVERSION)
    assert estimate(report, "search", "auc")["low"] > 0.55
    queries, ledger = report["cost"]["queries"], report["cost"]["ledger"]
    assert queries["prepare"] == 400 and ledger["shared"] == 16 + 80 + 400 + queries["best_of_n_pool"]
    assert queries["best_of_n_pool"] == 400  # the control has as much
    copied = report["related"]["copying"]
    student, weights = STUDENT.build(), load_file(tmp_path / "run" / "shards" / "prepare" / "0000.safetensors")
    state = student.state_dict()
    student.load_state_dict({name: weights.get(f"networks.0.{name}", value) for name, value in state.items()})
    enrolment = toy.inputs(PEOPLE, 1.0, 0).people.enrolment
    with torch.no_grad():
        named = student(enrolment.pixels - 0.5).argmax(1)
    assert copied["accuracy"]["value"] == pytest.approx((named == enrolment.classes).double().mean().item())
    assert copied["target_accuracy"]["value"] == 1 and copied["agreement"] == copied["accuracy"]
    assert copied["questions"] == 400
    assert report["related"]["membership"] is None and report["related"]["templates"] is None
    assert "How well the student copies the target" in (tmp_path / "run" / "report.html").read_text()
    again = run(tmp_path / "run", taught())
    assert timeless(again) == timeless(report)


def test_a_student_that_judges_or_does_not_fit_is_refused_before_anything_is_asked(tmp_path):
    class Judge(toy.Stranger):
        def weights(self):
            return STUDENT.build().parameters()

    inputs = replace(toy.inputs(PEOPLE, 1.0, 0), judges=Judges((Judge(),)))
    with pytest.raises(GmiError, match="teaches a student, as if it were the target"):
        run(tmp_path / "run", taught(), inputs)
    assert not (tmp_path / "run").exists()
    with pytest.raises(GmiError, match=r"outputs of shape \(1, 5\) and the target has 30 classes"):
        run(tmp_path / "run", taught(arguments={"people": 5}))
    with pytest.raises(ValueError, match="feature_weight 0"):
        replace(taught().search, search=Gradient(feature_weight=0.1))


def test_a_label_only_audit_of_best_of_n(tmp_path):
    """Any search of scores is refused; without one, selection by labels still runs."""
    plan = replace(toy.plan(), access=LabelsOnly())
    with pytest.raises(GmiError, match=r"search: gradient needs access: \{type: white-box\}, and this gives"):
        run(tmp_path / "run", plan)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("after", repeats(5, slow=(30,)))
def test_a_killed_audit_of_an_interface_asks_nothing_twice(tmp_path, monkeypatch, after):
    plan = replace(INTERFACES["scores"], search=Evolution(generations=4, population=5), batch=4)
    whole, left = run(tmp_path / "whole", plan), [after]

    def dying(self, images, ask=Model.__call__):
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return ask(self, images)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Model, "__call__", dying)
        run(tmp_path / "killed", plan)
    again = run(tmp_path / "killed", plan)
    whole, again = timeless(whole), timeless(again)
    ledgers = [report["cost"].pop("ledger") for report in (again, whole)]
    assert ledgers[0]["images"] == ledgers[1]["images"]
    assert 0 < ledgers[0]["sent"] - ledgers[1]["sent"] <= Model.requests.batch  # the request that died is sent again
    assert again == whole


def test_a_budget_that_does_not_suffice_is_refused_before_anything_is_asked(tmp_path):
    plan = replace(INTERFACES["scores"], search=Evolution(generations=2, population=4))
    needed = run(tmp_path / "run", plan)["cost"]["queries"]["total"]
    few, enough = (replace(plan, access=ScoresOnly(budget=budget)) for budget in (needed - 1, needed))
    with pytest.raises(GmiError, match=rf"would ask {needed:,} queries and access.budget is {needed - 1:,}"):
        run(tmp_path / "few", few)
    assert not (tmp_path / "few").exists()
    first = run(tmp_path / "enough", enough)
    more = run(tmp_path / "enough", replace(plan, access=ScoresOnly(budget=needed + 1)))  # the same run goes on
    assert [one["cost"]["ledger"].pop("budget") for one in (first, more)] == [needed, needed + 1]
    assert timeless(more) == timeless(first)


def test_answers_at_random_are_noticed_though_repeats_are_free(tmp_path):
    inputs = toy.inputs(PEOPLE, 1.0, 0)
    module = inputs.target.module

    class Shaken(torch.nn.Module):
        """Other answers each time."""

        calls = 0

        def forward(self, images):
            self.calls += 1
            return module(images) * (1 + self.calls % 2)

    target = Target(Shaken(), inputs.target.input, inputs.target.classes)
    search, controls = Evolution(generations=2, population=4), Controls(oracle=False)
    plan = replace(INTERFACES["scores"], search=search, controls=controls)
    report = run(tmp_path / "run", plan, replace(inputs, target=target))
    assert {one["name"]: one["severity"] for one in report["checks"]}["repeatable target"] == "warning"


def test_a_second_run_asks_nobody(planted, monkeypatch):
    inputs = toy.inputs(PEOPLE, 1.0, 0)
    monkeypatch.setattr(Target, "__call__", lambda *_: pytest.fail("the target was asked again"))
    monkeypatch.setattr(toy.Stranger, "embed", lambda *_: pytest.fail("the judge was asked again"))
    assert timeless(run(planted[0], GROUPS, inputs)) == timeless(planted[1])


@pytest.mark.slow  # halves of a batch say the same
def test_batches_do_not_matter(planted, tmp_path):
    few, many = planted[1], run(tmp_path / "run", replace(GROUPS, batch=16))
    for method in ("search", "best_of_n", "oracle"):
        assert estimate(few, method, "auc") == pytest.approx(estimate(many, method, "auc"), abs=1e-6)


def test_bf16_finds_what_single_precision_finds(planted, tmp_path):
    half = Hardware(CPU, bf16=True)
    conduct(INVERSION, GROUPS, tmp_path / "run", half, toy.inputs(PEOPLE, 1.0, 0))
    found = json.loads((tmp_path / "run" / "report.json").read_text())
    assert found["verdict"]["finding"] == planted[1]["verdict"]["finding"] == "evidence of identity leakage"
    assert found["results"] != planted[1]["results"]
    assert (found["provenance"]["device"], planted[1]["provenance"]["device"]) == ("cpu, bf16", "cpu")
    for metric in ("auc", "rank1"):
        half, whole = (estimate(report, "search", metric) for report in (found, planted[1]))
        assert half["value"] == pytest.approx(whole["value"], abs=0.05)


def test_a_run_does_not_go_on_in_another_precision(planted, tmp_path):
    inputs = toy.inputs(PEOPLE, 1.0, 0)
    shutil.copytree(planted[0], tmp_path / "run")
    with pytest.raises(GmiError, match="searches in single precision, where accelerate now says bf16"):
        conduct(INVERSION, GROUPS, tmp_path / "run", Hardware(CPU, bf16=True), inputs)


@pytest.mark.parametrize(("precision", "half"), [("bf16", True), ("no", False)])
def test_hardware_is_as_accelerate_is_configured(precision, half):
    made = hardware(SimpleNamespace(device=CPU, mixed_precision=precision))  # type: ignore[arg-type]
    with made.autocast():
        assert torch.is_autocast_enabled("cpu") is half
        assert not (half and torch.is_autocast_cache_enabled())


@dataclass(frozen=True)
class Wide(Gradient):
    """A search for which the memory does not suffice when there are more than so many candidates at once."""

    most: int = 2

    def __call__(self, oracle: WhiteBoxOracle, prior: Prior, latents, classes, rng, trace=None) -> Candidates:
        oracle.logits(prior.decode(latents[:1]))  # asked in vain where memory does not suffice
        oracle.queries -= len(latents) <= self.most
        if len(latents) > self.most:
            raise torch.OutOfMemoryError("the device is full")
        return super().__call__(oracle, prior, latents, classes, rng, trace)


def test_a_batch_for_which_the_memory_does_not_suffice_is_halved(planted, tmp_path):
    found = run(tmp_path / "wide", replace(GROUPS, search=Wide(steps=40, lr=0.15)))
    assert found["results"] == planted[1]["results"] and found["cost"]["queries"] == planted[1]["cost"]["queries"]
    with pytest.raises(GmiError, match=r"memory does not suffice for the candidates of one person.*a batch below"):
        run(tmp_path / "none", replace(GROUPS, search=Wide(steps=40, lr=0.15, most=0)))


class Full(Dcgan):
    """A prior for which the memory does not suffice when there are more than so many images at once."""

    most = 3

    def decode(self, latents, classes=None):
        if len(latents) > self.most:
            raise torch.OutOfMemoryError("the device is full")
        return super().decode(latents, classes)


def test_a_batch_of_the_pool_for_which_the_memory_does_not_suffice_is_halved(tmp_path):
    inputs = toy.inputs(PEOPLE, 1.0, 0)
    plan, full = toy.plan(), Full(inputs.prior.shape)
    full.load_state_dict(inputs.prior.state_dict())

    def pool(prior: Prior, name: str) -> torch.Tensor:
        attacker = Attacker(plan.attack, prior, inputs.people, Run.open(tmp_path / name, {}), Hardware(CPU))
        return attacker.pool("pool", LabelsOnly(repeats="asked").open(inputs.target, None), range(20))

    assert pool(full, "halved").equal(pool(inputs.prior, "whole"))
    full.most = 0
    with pytest.raises(GmiError, match=r"for one sample.*a smaller prior"):
        pool(full, "none")


@dataclass(frozen=True)
class Asking(Wide):
    """A search of scores, which asks about all candidates before the memory does not suffice."""

    def queries(self, prior: Prior) -> int:
        return 1

    def __call__(self, oracle: ScoreOracle, prior: Prior, latents, classes, rng, trace=None) -> Candidates:
        images = prior.decode(latents).clamp(0, 1)
        oracle.scores(images, classes)
        if len(latents) > self.most:
            raise torch.OutOfMemoryError("the device is full")
        return Candidates(images, classes, latents)


def test_halves_of_a_batch_ask_for_nothing_that_was_answered(tmp_path):
    plan = replace(GROUPS, search=Asking(), access=ScoresOnly(repeats="asked"), controls=Controls(oracle=False))
    run(tmp_path / "run", plan)
    with closing(sqlite3.connect(tmp_path / "run" / "ledger.sqlite")) as file:
        asked = file.execute("SELECT count(*), max(sent) FROM images WHERE step LIKE 'search/%' AND person >= 0")
        views = plan.selection.final_views
        assert asked.fetchone() == (PEOPLE * (1 + views), 1)


def in_processes(folder: Path) -> None:
    AcceleratorState._reset_state(True)  # a forked process starts with its parent's idea of how many there are
    accelerator()
    conduct(INVERSION, GROUPS, folder, Hardware(CPU), toy.inputs(PEOPLE, 1.0, 0))


def test_three_processes_find_what_one_finds(planted, tmp_path):
    debug_launcher(in_processes, args=(tmp_path / "run",), num_processes=3)
    three = json.loads((tmp_path / "run" / "report.json").read_text())
    assert three["provenance"]["processes"] == 3
    assert timeless(three) == timeless(planted[1])


def test_another_target_in_the_same_folder_is_refused(planted):
    with pytest.raises(GmiError, match=r"differs in the files of target"):
        run(planted[0], GROUPS, toy.inputs(PEOPLE, 0.5, 0))


def test_more_candidates_of_a_person_than_a_batch_are_searched_batch_by_batch(tmp_path):
    plan = replace(toy.plan(), search=Wide(steps=5), selection=Selection(pool=20, candidates=3, keep=2), batch=2)
    inputs = toy.inputs(PEOPLE, 1.0, 0)
    found = []
    for name, each in {"few": plan, "many": replace(plan, search=Wide(steps=5, most=99), batch=60)}.items():
        searcher = Attacker(each.attack, inputs.prior, inputs.people, Run.open(tmp_path / name, {}), Hardware(CPU))
        found.append(searcher.attack("search", WholeModel().open(inputs.target, None)))
    assert len(found[0]) == 2 * PEOPLE and found[0].classes.equal(found[1].classes)
    assert (found[0].bytes.int() - found[1].bytes.int()).abs().float().mean() < 0.1


def test_several_images_a_person_and_a_prepared_search(tmp_path):
    plan = replace(
        toy.plan(), search=Gradient(steps=5, feature_weight=0.01), selection=Selection(pool=20, candidates=3, keep=2)
    )
    report = run(tmp_path / "run", plan)
    assert estimate(report, "search", "auc")["n"] == 2 * PEOPLE
    assert estimate(report, "search", "anymatch@0.01")["n"] == PEOPLE
    assert report["cost"]["queries"]["prepare"] == plan.search.shared == 128


def with_public(inputs: Inputs, images: Images) -> Inputs:
    people = replace(inputs.people, public=images)
    return replace(inputs, people=people)


def test_public_images_of_the_people_are_a_control_and_their_copies_stop_the_verdict(tmp_path):
    inputs = toy.inputs(PEOPLE, 1.0, 0)
    strangers = toy.people(30, 99).training
    report = run(
        tmp_path / "strangers", inputs=with_public(inputs, replace(strangers, classes=strangers.classes * 0 - 1))
    )
    assert estimate(report, "public", "auc")["n"] == PEOPLE
    assert {one["name"]: one["severity"] for one in report["checks"]}["public copies"] == "passed"
    own = inputs.people.training
    report = run(tmp_path / "copies", inputs=with_public(inputs, replace(own, classes=own.classes * 0 - 1)))
    severities = {one["name"]: one["severity"] for one in report["checks"]}
    assert severities["public copies"] == "stop" and severities["overlap with the public set"] == "warning"
    assert report["verdict"]["finding"] == "inconclusive"


def test_people_in_the_public_set_are_no_evidence(tmp_path):
    """Other photographs of everybody lie there, and a target that knows them picks theirs; the search finds nothing."""
    inputs = toy.inputs(PEOPLE, 1.0, 0)
    shown = inputs.people.enrolment.pixels
    near = (shown + 0.02 * torch.randn(shown.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    public = Images.of((near * 255).round().byte(), torch.full((len(near),), -1))
    blind = replace(toy.plan(), search=replace(toy.plan().search, steps=0), selection=Selection(pool=2, candidates=1))
    report = run(tmp_path / "run", blind, with_public(inputs, public))
    severities = {check["name"]: check["severity"] for check in report["checks"]}
    assert severities["overlap with the public set"] == "warning" and estimate(report, "public", "auc")["value"] > 0.8
    assert {each["attack"] for each in report["verdict"]["advantages"]} == {"search", "best_of_n"}
    assert "leakage" not in report["verdict"]["finding"]


def test_without_the_oracle_nothing_is_cleared(tmp_path):
    plan = replace(toy.plan(), controls=Controls(oracle=False), preflight=False)
    report = run(tmp_path / "run", plan, toy.inputs(PEOPLE, 0.0, 0))
    assert report["verdict"]["finding"] == "inconclusive" and report["gap"] == []


def test_images_can_be_left_out(tmp_path):
    plan = toy.plan()
    run(tmp_path / "run", replace(plan, report=replace(plan.report, images=False)), kind=INVERSION)
    assert not (tmp_path / "run" / "enrolment").exists()
    assert "<img" not in (tmp_path / "run" / "report.html").read_text()


def test_a_judge_that_is_the_target_is_refused_before_anything_is_spent(tmp_path):
    inputs = toy.inputs(PEOPLE, 1.0, 0)
    traitor = toy.Stranger()
    traitor.weights = lambda: inputs.target.module.parameters()
    with pytest.raises(GmiError, match="not independent"):
        run(tmp_path / "run", inputs=replace(inputs, judges=Judges((traitor,))))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "search",
    repeats(Guided(steps=8, heun=False, strength=1.0), slow=(Particles(steps=12, every=2, warmth=0.3),)),
)
def test_a_planted_leak_is_found_along_the_path_of_a_flow(tmp_path, search):
    samples = toy.prior().decode(Rng(range(400)).normal(toy.LATENT)) * 2 - 1
    flow = DiffusionPrior(Mixture(samples, 0.5, PATHS["flow"]), PATHS["flow"], steps=4)
    chosen = replace(toy.plan().selection, candidates=1 if isinstance(search, Guided) else 12)
    plan = replace(toy.plan(), search=search, selection=chosen, controls=Controls(oracle=False))
    report = run(tmp_path / "run", plan, replace(toy.inputs(PEOPLE, 1.0, 0), prior=flow))
    attack = estimate(report, "search", "auc")
    assert attack["low"] > 0.5 and attack["value"] > 0.6
    asked = report["cost"]["queries"]["search"] / PEOPLE
    assert asked == chosen.candidates * (search.queries(flow) + chosen.final_views)


def test_a_search_that_the_prior_does_not_allow_is_refused_before_anything_is_spent(tmp_path):
    with pytest.raises(GmiError, match=r"Guided needs a Denoiser as its prior \(diffusion or flow.*Dcgan is none"):
        run(tmp_path / "run", replace(toy.plan(), search=Guided()))
    assert not (tmp_path / "run").exists()


def test_a_prior_whose_samples_are_not_finite_is_named(tmp_path):
    inputs = toy.inputs(PEOPLE, 1.0, 0)
    next(inputs.prior.parameters()).fill_(torch.nan)
    with pytest.raises(GmiError, match="The prior makes samples that are not finite"):
        run(tmp_path / "run", inputs=inputs)


def test_a_search_that_diverges_is_named(tmp_path, monkeypatch):
    whole = Gradient.__call__

    def diverged(self, oracle: WhiteBoxOracle, prior: Prior, latents, classes, rng: Rng, trace=None) -> Candidates:
        found = whole(self, oracle, prior, latents, classes, rng, trace)
        return replace(found, images=found.images * torch.nan)

    monkeypatch.setattr(Gradient, "__call__", diverged)
    with pytest.raises(GmiError, match=r"The search ends in images that are not finite.*steps are too large"):
        run(tmp_path / "run")


def test_strangers_set_thresholds_and_distractors_are_ranked_among(planted, tmp_path):
    """Ranks, AUC and their chance are of everybody enrolled; thresholds and the permuted control of the people."""
    inputs = toy.inputs(PEOPLE, 1.0, 0)
    crowd = toy.people(50, 9)
    distractors, strangers = (
        Images(some.bytes, some.classes + PEOPLE, some.digests) for some in (crowd.enrolment, crowd.training)
    )
    people = replace(inputs.people, strangers=strangers, distractors=distractors)
    report = run(tmp_path / "run", GROUPS, replace(inputs, people=people))
    comparisons = [one["judges"][0]["thresholds"][0]["comparisons"] for one in (planted[1], report)]
    others = len(strangers) + len(distractors)
    assert comparisons == [PEOPLE * 9 * (PEOPLE - 1), PEOPLE * 9 * (PEOPLE - 1) + others * PEOPLE]
    assert (report["data"]["people"], report["data"]["distractors"]) == (PEOPLE, 50)
    assert report["data"]["strangers"] == len(strangers)
    (chance,) = {row["chance"] for row in report["results"] if (row["method"], row["metric"]) == ("search", "rank5")}
    assert chance == 5 / (PEOPLE + 50)
    for metric in ("rank1", "rank5"):
        alone, among = (estimate(one, "search", metric) for one in (planted[1], report))
        assert among["value"] <= alone["value"] and among["people"] == alone["people"]


def test_a_score_only_search_is_said_to_be_one_and_needs_no_gradients(tmp_path):
    inputs = toy.inputs(PEOPLE, 1.0, 0)
    module = inputs.target.module

    class Masked(torch.nn.Module):
        """The same answers, whose gradient is 0."""

        def __init__(self):
            super().__init__()
            self.inner = module

        def forward(self, images):
            return self.inner(images).detach() + 0 * images.flatten(1).sum(1, keepdim=True)

    masked = Target(Masked(), inputs.target.input, inputs.target.classes)
    samples = toy.prior().decode(Rng(range(50)).normal(toy.LATENT)) * 2 - 1
    flow = DiffusionPrior(Mixture(samples, 0.5, PATHS["flow"]), PATHS["flow"], steps=2)
    plan = replace(toy.plan(), controls=Controls(oracle=False))
    report = run(tmp_path / "white", plan, replace(inputs, target=masked))
    assert report["verdict"]["access"] == "white-box"
    assert {check["name"]: check["severity"] for check in report["checks"]}["gradients"] == "warning"
    search = Particles(steps=4, every=2)
    with pytest.raises(ValueError, match="8 or more are needed"):
        replace(plan, search=search, access=ScoresOnly())
    selection = replace(plan.selection, pool=max(plan.selection.pool, 8), candidates=8)
    plan = replace(plan, search=search, access=ScoresOnly(), selection=selection)
    report = run(tmp_path / "scores", plan, replace(inputs, target=masked, prior=flow))
    assert report["verdict"]["access"] == "score"
    assert not {"gradients", "logits are logits"} & {check["name"] for check in report["checks"]}
