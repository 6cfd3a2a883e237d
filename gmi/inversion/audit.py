"""An audit, end to end: the target is attacked, the controls are made, judges compare both with photographs that the
target never saw, and a verdict says what that shows. What is done lies in the run folder and is not done again.
"""

from contextlib import nullcontext
from dataclasses import replace
from datetime import date
from pathlib import Path

import torch
from accelerate import PartialState
from torch import Tensor

from gmi.inversion import findings as compose
from gmi.inversion import judging
from gmi.inversion.attacker import Attacker, Autocast, Spent
from gmi.inversion.controls import Enrolled, Unmoved
from gmi.inversion.forecast import refuse_overspending
from gmi.inversion.inputs import Inputs
from gmi.inversion.judging import Releases, own_opinion
from gmi.inversion.page import render
from gmi.inversion.plan import Audit
from gmi.inversion.related import beside
from gmi.oracles.access import AnyOracle
from gmi.run import Run
from gmi.search.signature import refuse_misfit, students
from gmi.settings import identity
from gmi.targets.templates import TemplateTarget


def audit(plan: Audit, inputs: Inputs, folder: Path, device: torch.device, autocast: Autocast = nullcontext) -> Path:
    """Does what is not there yet of the audit in `folder`, and returns its report.html.

    `autocast` wraps the search only: judges work in full precision. Raises GmiError as `Run.open`, and for a judge that
    is not independent.
    """
    people, target, judges = inputs.people, inputs.target, inputs.judges
    refuse(plan, inputs)
    state = PartialState()
    with state.main_process_first():
        run = Run.open(folder, {"audit": identity(plan), "inputs": inputs.digests})

    oracle = plan.access.open(target, run.folder)
    found, probed, spent = reconstruct(plan, inputs, oracle, run, device, autocast)
    system = plan.target.recogniser.load(device) if isinstance(plan.target, TemplateTarget) else None
    everyone = judges if system is None else replace(judges, faces=(*judges.faces, system))
    own = own_opinion(target, oracle, device)
    judged = judging.judge(run, everyone, own, people, found)
    more = beside(plan, people, run, judged, found, own, system, judges.faces, device)
    if state.is_main_process:
        compose.write(run, plan, inputs, oracle, found, judged, probed, spent, more, device)
        render(run.folder)
    state.wait_for_everyone()
    return run.folder / "report.html"


def refuse(plan: Audit, inputs: Inputs) -> None:
    """Raises GmiError where the audit may not be made, before anything is asked."""
    if plan.authorisation is not None:
        plan.authorisation.refuse_expired(date.today())
    inputs.judges.refuse_dependent(inputs.target, inputs.guide, plan.data.name, students(plan.search))
    refuse_misfit(plan.search, plan.access.open(inputs.target, None), inputs.prior)
    refuse_overspending(plan, inputs)
    if plan.membership is not None:
        plan.membership.refuse(plan.target, plan.training)


def reconstruct(
    plan: Audit,
    inputs: Inputs,
    oracle: AnyOracle,
    run: Run,
    device: torch.device,
    autocast: Autocast = nullcontext,
) -> tuple[Releases, dict[str, Tensor], dict[str, Spent]]:
    """What attack and controls release, what the checks look at, and the cost of each step."""
    people = inputs.people
    coloured = people.enrolment.bytes.shape[1] == 3
    recipe = Attacker(plan, run, inputs.prior, torch.tensor(people.attacked), coloured, device, autocast)
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
