"""An audit, end to end: the target is attacked, the controls are made, judges compare both with photographs that the
target never saw, and a verdict says what that shows. What is done lies in the run folder and is not done again.
"""

from contextlib import nullcontext
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import PartialState
from pydantic import JsonValue
from torch import Tensor

from gmi.inversion import findings as compose
from gmi.inversion import judging
from gmi.inversion.attacker import Autocast, Recipe, Spent
from gmi.inversion.controls import Enrolled, Unmoved
from gmi.inversion.forecast import refuse_overspending
from gmi.inversion.inputs import Inputs
from gmi.inversion.judging import Sets
from gmi.inversion.page import render
from gmi.inversion.plan import Audit
from gmi.inversion.related import beside
from gmi.oracles.access import AnyOracle
from gmi.oracles.interface import Interface
from gmi.oracles.ledger import OWN_OPINION
from gmi.protocols import refuse_misfit, students
from gmi.run import Run
from gmi.search.selection import opinion
from gmi.settings import plain
from gmi.targets.module import Target
from gmi.targets.served import Served
from gmi.targets.templates import TemplateConfig


def audit(plan: Audit, inputs: Inputs, folder: Path, device: torch.device, autocast: Autocast = nullcontext) -> Path:
    """Does what is not there yet of the audit in `folder`, and returns its report.html.

    `autocast` wraps the search only: judges work in full precision. Raises GmiError as `Run.open`, and for a judge that
    is not independent.
    """
    people, target, judges = inputs.people, inputs.target, inputs.judges
    refuse(plan, inputs)
    state = PartialState()
    with state.main_process_first():
        run = Run.open(folder, {"audit": essence(plan), "inputs": inputs.digests})

    oracle = plan.access.open(target, run.folder)
    found, probed, spent = reconstruct(plan, inputs, oracle, run, device, autocast)
    system = plan.target.recogniser.load(device) if isinstance(plan.target, TemplateConfig) else None
    everyone = judges if system is None else replace(judges, faces=(*judges.faces, system))
    own = own_opinion(target, oracle, device)
    judged = judging.judge(run, everyone, own, people, found)
    more = beside(plan, people, run, judged, found, own, system, judges.faces, device)
    if state.is_main_process:
        compose.write(run, plan, inputs, oracle, found, judged, probed, spent, more, device)
        render(run.folder)
    state.wait_for_everyone()
    return run.folder / "report.html"


def essence(plan: Audit) -> dict[str, JsonValue]:
    """The configuration without what may change between two starts of one run."""
    tree = cast("dict[str, Any]", plain(plan))
    tree["access"].pop("budget")
    tree["target"].pop("connection", None)
    tree.pop("authorisation")
    return tree


def refuse(plan: Audit, inputs: Inputs) -> None:
    """Raises GmiError where the audit may not be made, before anything is asked."""
    if plan.authorisation is not None:
        plan.authorisation.refuse_expired(date.today())
    inputs.judges.refuse_dependent(inputs.target, inputs.guide, plan.data.name, students(plan.search))
    refuse_misfit(plan.search, plan.access.open(inputs.target, None), inputs.prior)
    refuse_overspending(plan, inputs)
    if plan.membership is not None:
        plan.membership.refuse(plan.target, plan.training)


def own_opinion(target: Target | Served, oracle: AnyOracle, device: torch.device) -> judging.Opinion:
    """The target's. One that is only served is asked through the ledger, beside what the adversary asks."""
    if isinstance(target, Target):
        return lambda images: target(images.to(device))
    if isinstance(oracle, Interface):
        oracle.ledger.at(OWN_OPINION)
    return lambda images: opinion(oracle, images)


def reconstruct(
    plan: Audit,
    inputs: Inputs,
    oracle: AnyOracle,
    run: Run,
    device: torch.device,
    autocast: Autocast = nullcontext,
) -> tuple[Sets, dict[str, Tensor], dict[str, Spent]]:
    """What attack and controls release, what the checks look at, and the cost of each step."""
    people = inputs.people
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
        enrolled = Enrolled(inputs.projector, people.enrolment.pixels.to(device), people.enrolment.classes)
        search = recipe.prepared("oracle_prepare", enrolled)
        found["oracle"] = recipe("oracle", enrolled, search, recipe.pool("oracle_pool", enrolled, first))
    return found, probed, recipe.spent
