"""What a forecast says an audit costs is what it costs, and saying so costs the target nothing."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from gmi import toy
from gmi.audits import Hardware
from gmi.data.images import Images
from gmi.inversion.attacker import Attacker
from gmi.inversion.audit import reconstruct
from gmi.inversion.controls import Controls
from gmi.inversion.forecast import Forecast, forecast, forward_seconds
from gmi.inversion.inputs import Inputs
from gmi.inversion.membership import Membership
from gmi.inversion.meter import Spent
from gmi.inversion.plan import Audit
from gmi.oracles.local import WhiteBox
from gmi.rng import Rng
from gmi.run import Run
from gmi.search.gradient import Gradient
from gmi.search.selection import Selection
from gmi.targets.module import Input, Target
from gmi.targets.served import Served
from gmi.targets.templates import Matcher, Matching

CPU = torch.device("cpu")
SHORT = Gradient(steps=3)
FEW = Selection(pool=20, candidates=2, views=2, keep=1)
EVERY = Controls()


@dataclass(frozen=True)
class Case:
    """Settings that change what is asked of the target."""

    search: Gradient = SHORT
    selection: Selection = FEW
    controls: Controls = EVERY
    batch: int = 4
    attacked: int = 6
    public: int = 0  # images; 0: no public set


CASES = {
    "shipped": Case(),
    "feature_weight": Case(Gradient(steps=3, feature_weight=0.1)),
    "two transforms": Case(Gradient(steps=3, transforms=2)),
    "no steps": Case(Gradient(steps=0, feature_weight=0.1)),
    "keep 2 of 3": Case(selection=Selection(pool=20, candidates=3, views=5, keep=2)),
    "more candidates than a batch": Case(selection=Selection(pool=20, candidates=6, views=2, keep=6)),
    "a pool of two pieces": Case(selection=Selection(pool=253, candidates=2, views=2)),
    "no oracle": Case(controls=Controls(oracle=False)),
    "public": Case(public=7),
    "fewer public images than candidates": Case(selection=Selection(pool=20, candidates=3, views=2), public=2),
    "some attacked": Case(attacked=2),
    "all at once": Case(
        Gradient(steps=2, transforms=2, feature_weight=0.1),
        Selection(pool=20, candidates=3, views=2, keep=2),
        Controls(oracle=False),
        attacked=5,
        public=9,
    ),
}


@pytest.fixture(scope="module")
def world() -> Inputs:
    return toy.inputs(6, 1.0, 0)


@pytest.fixture
def quick(monkeypatch) -> None:
    """No timing of a ResNet-18: queries do not depend on it."""
    monkeypatch.setattr("gmi.inversion.forecast._rate", lambda device: 1e10)


def built(case: Case, world: Inputs) -> tuple[Audit, Inputs]:
    people = replace(world.people, attacked=tuple(range(case.attacked)))
    if case.public:
        bytes = world.prior.decode(toy.truth(case.public, 9)).mul(255).byte()
        digests = tuple(f"public{one}" for one in range(case.public))
        people = replace(people, public=Images(bytes, torch.full((case.public,), -1), digests))
    settings = {"search": case.search, "selection": case.selection, "controls": case.controls, "batch": case.batch}
    return replace(toy.plan(), **settings), replace(world, people=people)


def ledger(plan: Audit, inputs: Inputs, folder: Path) -> dict[str, Spent]:
    oracle = plan.access.open(inputs.target, folder)
    attacker = Attacker(plan.attack, inputs.prior, inputs.people, Run.open(folder, {}), Hardware(CPU))
    attacker.probe(oracle)
    reconstruct(plan, inputs, oracle, attacker)
    return attacker.spent


def asked(inputs: Inputs, work: Callable[[], object]) -> int:
    """Images that the target's module sees meanwhile. Copies without weights, on the device "meta", do not count."""
    seen = 0

    def count(_, arguments: tuple[torch.Tensor, ...]) -> None:
        nonlocal seen
        seen += 0 if arguments[0].is_meta else len(arguments[0])

    hook = inputs.target.module.register_forward_pre_hook(count)
    try:
        work()
    finally:
        hook.remove()
    return seen


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", CASES)
def test_queries_by_step_are_those_of_a_run(name, world, tmp_path):
    plan, inputs = built(CASES[name], world)
    said = forecast(plan, inputs, Hardware(CPU)).queries
    spent = ledger(plan, inputs, tmp_path / "run")
    assert said == {step: cost.queries for step, cost in spent.items() if cost.queries}


@pytest.mark.usefixtures("quick")
def test_a_known_feature_mean_is_not_measured_again(world, tmp_path):
    plan, inputs = built(CASES["feature_weight"], world)
    assert forecast(plan, inputs, Hardware(CPU)).queries["prepare"] == plan.search.shared == 128
    plan = replace(
        plan, search=plan.search.taught(plan.search.prepare(WhiteBox(world.target), world.prior, Rng(range(3))))
    )
    assert "prepare" not in forecast(plan, inputs, Hardware(CPU)).queries
    assert "prepare" not in ledger(plan, inputs, tmp_path / "run")


@pytest.mark.usefixtures("quick")
def test_shadow_models_are_said_to_be_left_out(world):
    plan, inputs = built(CASES["shipped"], world)
    assert "shadow" not in str(forecast(plan, inputs, Hardware(CPU)))
    assert "the time to train 4 shadow models" in str(
        forecast(replace(plan, membership=Membership(shadows=4)), inputs, Hardware(CPU))
    )


@pytest.mark.usefixtures("quick")
def test_too_few_people_are_told_before_anything_is_spent(world):
    plan, inputs = built(CASES["shipped"], world)
    assert "people are too few to conclude anything: attack at least 10." in str(forecast(plan, inputs, Hardware(CPU)))
    many = replace(inputs, people=replace(inputs.people, attacked=tuple(range(10))))
    assert "too few" not in str(forecast(plan, many, Hardware(CPU)))


@pytest.mark.usefixtures("quick")
def test_the_ledger_is_what_the_target_sees(world, tmp_path):
    """But for the oracle projection, which asks the guide: here the target too, once more for each photograph."""
    plan, inputs = built(CASES["all at once"], world)
    said = sum(forecast(plan, inputs, Hardware(CPU)).queries.values())
    assert asked(inputs, lambda: ledger(plan, inputs, tmp_path / "run")) == said
    plan = replace(plan, controls=EVERY)
    said = sum(forecast(plan, inputs, Hardware(CPU)).queries.values()) + len(inputs.people.enrolment)
    assert asked(inputs, lambda: ledger(plan, inputs, tmp_path / "oracle")) == said


def test_a_forecast_asks_the_target_nothing_and_takes_seconds(world):
    plan, inputs = built(CASES["public"], world)
    made: list[Forecast] = []
    start = perf_counter()
    assert asked(inputs, lambda: made.append(forecast(plan, inputs, Hardware(CPU)))) == 0
    assert perf_counter() - start < 10  # one or two of them, where nothing else runs
    table = str(made[0])
    for step, queries in made[0].queries.items():
        assert made[0].seconds[step] > 0
        assert f"{step:16}{queries:10,}" in table
    total = sum(count for step, count in made[0].queries.items() if not step.startswith("oracle"))
    assert f"{'total':16}{total:10,}" in table


def test_processes_without_work_are_told(world, monkeypatch):
    plan, inputs = built(CASES["public"], world)
    people, candidates = len(inputs.people.attacked), plan.selection.candidates
    state = SimpleNamespace(num_processes=people, is_main_process=True)
    monkeypatch.setattr("gmi.inversion.forecast.PartialState", lambda: state)
    idle = forecast(replace(plan, batch=people * candidates), inputs, Hardware(CPU))
    assert f"The search is work for 1 of {people} processes: --batch {candidates} is for more" in " ".join(idle.notes)
    monkeypatch.setattr(state, "num_processes", people + 1)
    least = forecast(replace(plan, batch=candidates), inputs, Hardware(CPU))
    assert f"work for {people} of {people + 1} processes: no more of them have any" in " ".join(least.notes)
    assert idle.seconds["oracle"] > 1.5 * least.seconds["oracle"]  # by people's number; timings differ from run to run
    monkeypatch.setattr(state, "num_processes", people)
    busy = forecast(replace(plan, batch=candidates), inputs, Hardware(CPU))
    assert "is work for" not in " ".join(busy.notes)


def test_a_recogniser_that_never_computes_in_half_precision_has_a_forecast(world):
    network = nn.Sequential(nn.Flatten(), nn.Linear(256, 4))
    matcher = Matcher(network, torch.randn(6, 4), 20.0, 0.1)
    target = Target(matcher, Input(size=(16, 16), colour="grey", mean=(0.5,)), tuple("abcdef"), penultimate="network.1")
    assert forward_seconds(target, world.people, CPU) > 0
    served = Served(Matching(toy.Stranger(), torch.randn(6, 64), 0.1), "similarities", target.classes, "0")
    assert forward_seconds(served, world.people, CPU) > 0  # it is timed, as it runs here
    remote = replace(served, service=lambda images: torch.zeros(len(images), 6))
    assert forward_seconds(remote, world.people, CPU) == 0
