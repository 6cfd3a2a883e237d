"""An audit, end to end: the target is attacked, the controls are made, judges compare both with photographs that the
target never saw, and a verdict says what that shows. What is done lies in the run folder and is not done again.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from accelerate import PartialState
from pydantic import JsonValue
from torch import Tensor

from gmi import judging
from gmi.assets import resolve
from gmi.config import Audit, training_digest
from gmi.controls import Enrolled, Unmoved
from gmi.data import People
from gmi.errors import GmiError
from gmi.judging import Judges, Sets
from gmi.oracles.local import WhiteBox
from gmi.protocols import Prior, refuse_misfit
from gmi.reconstruct import Autocast, Recipe, Spent
from gmi.report import compose
from gmi.report.render import render
from gmi.run import Run
from gmi.settings import plain
from gmi.target import Target
from gmi.training import record_of


@dataclass(frozen=True)
class Inputs:
    """What an audit works on. Any objects with the right methods will do; `load` makes them from a configuration."""

    people: People
    target: Target
    prior: Prior
    judges: Judges
    guide: Target | None = None  # of the oracle projection; None: the target

    @property
    def digests(self) -> dict[str, JsonValue]:
        guide = None if self.guide is None else self.guide.digest
        return {
            "gmi": version("gmi"),
            "target": self.target.digest,
            "prior": self.prior.digest,
            "guide": guide,
            "data": self.people.digest,
        }


def load(plan: Audit, device: torch.device) -> Inputs:
    """Reads everything the configuration names. Raises GmiError where something is missing, broken or does not fit."""
    people = plan.data.load()
    if plan.training is not None:
        _trained_so(plan, people)
    guide = None if plan.controls.guide is None else plan.controls.guide.load(people.names).to(device)
    target = plan.target.load(people.names).to(device)
    _fits(target, people, (plan.controls.oracle and guide is None) or plan.search.shared(1) > 0)
    if guide is not None:
        _fits(guide, people, True)
    return Inputs(
        people=people,
        target=target,
        prior=plan.prior.load(device),
        judges=Judges(
            tuple(judge.load(device) for judge in plan.judges),
            None if plan.perceptual is None else plan.perceptual.load(device),
            None if plan.classifier is None else plan.classifier.load(device),
        ),
        guide=guide,
    )


def _trained_so(plan: Audit, people: People) -> None:
    """Raises GmiError unless the weights are those that the configuration's training makes of this split."""
    weights, record = plan.target.weights, record_of(plan.target)
    if weights is not None and not resolve(weights).exists():
        raise GmiError(f"There are no weights at {weights} yet: run pipelines/train_target.py with this configuration.")
    if record is None or (record.data_digest, record.config_digest) != (people.digest, training_digest(plan)):
        raise GmiError(
            "The target was trained on another split of the people or with other settings: run "
            "pipelines/train_target.py with this configuration again."
        )


def _fits(target: Target, people: People, features: bool) -> None:
    """One blank image. Raises GmiError where the network cannot take it, or has not one output a person."""
    blank = torch.zeros(1, *people.enrolment.bytes.shape[1:], device=next(target.module.parameters()).device)
    try:
        with torch.no_grad():
            target.activations(blank) if features else target(blank)
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise GmiError(
            f"The target cannot take an image: check target.input and target.penultimate ({error})."
        ) from error


def audit(plan: Audit, inputs: Inputs, folder: Path, device: torch.device, autocast: Autocast = nullcontext) -> Path:
    """Does what is not there yet of the audit in `folder`, and returns its report.html.

    `autocast` wraps the search only: judges work in full precision. Raises GmiError as `Run.open`, and for a judge that
    is not independent.
    """
    people, target, judges = inputs.people, inputs.target, inputs.judges
    judges.refuse_dependent(target, inputs.guide, plan.data.name)
    refuse_misfit(plan.search, WhiteBox(target), inputs.prior)
    state = PartialState()
    with state.main_process_first():
        run = Run.open(folder, {"audit": plain(plan), "inputs": inputs.digests})

    found, probed, spent = reconstruct(plan, inputs, run, device, autocast)
    judged = judging.judge(run, judges, target, people, found)
    if state.is_main_process:
        compose.write(run, plan, inputs.digests, people, judges, found, judged, probed, spent, device)
        render(run.folder)
    state.wait_for_everyone()
    return run.folder / "report.html"


def reconstruct(
    plan: Audit, inputs: Inputs, run: Run, device: torch.device, autocast: Autocast = nullcontext
) -> tuple[Sets, dict[str, Tensor], dict[str, Spent]]:
    """What attack and controls release, what the checks look at, and the cost of each step."""
    people, target = inputs.people, inputs.target
    oracle = WhiteBox(target)
    coloured = people.enrolment.bytes.shape[1] == 3
    recipe = Recipe(plan, run, inputs.prior, torch.tensor(people.attacked), coloured, device, autocast)
    probed = recipe.probed(oracle)
    first, more = plan.budget(len(people.attacked), inputs.prior)
    pool = recipe.pool("pool", oracle, first)
    wide = torch.cat([pool, recipe.pool("best_of_n_pool", oracle, more)]) if more else pool
    search = recipe.prepared("prepare", oracle)
    found = {
        "search": recipe("search", oracle, search, pool),
        "best_of_n": recipe("best_of_n", oracle, Unmoved(), wide),
        "random": recipe.random("random", oracle),
    }
    if people.public is not None:
        found["public"] = recipe.public("public", oracle, people.public.pixels)
    if plan.controls.oracle:
        enrolled = Enrolled(inputs.guide or target, people.enrolment.pixels.to(device), people.enrolment.classes)
        search = recipe.prepared("oracle_prepare", enrolled)
        found["oracle"] = recipe("oracle", enrolled, search, recipe.pool("oracle_pool", enrolled, first))
    return found, probed, recipe.spent
