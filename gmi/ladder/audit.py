"""What each level of access gives away of one target: every rung with one prior, one judge, one budget.

A rung is a level of access and searches of growing cost, so that it is a curve over queries and not a point. Beside the
rungs stand the random prior and the best of N samples by scores, without a search, for as many queries.
"""

import json
import re
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from gmi.audits import Autocast, Hardware
from gmi.inversion import judging, scoring
from gmi.inversion.attacker import Attacker
from gmi.inversion.inputs import Inputs
from gmi.inversion.judging import Judges, Releases, own_opinion
from gmi.ladder.findings import best, compose
from gmi.ladder.page import render
from gmi.ladder.plan import Ladder, Point, points
from gmi.oracles.access import Access, AnyOracle, ScoresOnly, WholeModel
from gmi.run import Run
from gmi.search.attack import Attack
from gmi.search.signature import students
from gmi.settings import identity, plain


def climb(plan: Ladder, inputs: Inputs, folder: Path, device: torch.device, autocast: Autocast = nullcontext) -> Path:
    """Does what is not there yet of the ladder in `folder`, and returns its ladder.html. Raises as `points`."""
    if plan.audit.authorisation is not None:
        plan.audit.authorisation.refuse_expired(date.today())
    known = points(plan, inputs)
    judges = Judges(inputs.judges.faces[:1])  # the one that a verdict would rest on
    taught = [one for rung in plan.rungs for search in rung.searches for one in students(search)]
    apart = list({repr(one): one for one in taught}.values())
    judges.refuse_dependent(inputs.target, inputs.guide, plan.audit.data.name, apart)
    state = PartialState()
    with state.main_process_first():
        run = Run.open(folder, {"ladder": identity(plan), "inputs": inputs.digests})
    found, oracle = rungs(plan, inputs, known, run, device, autocast)
    judged = judging.judge(run, judges, own_opinion(inputs.target, oracle, device), inputs.people, found)
    if state.is_main_process:
        (judge,) = judges.faces
        templates = judged.templates[judge.name]
        # What is scored as an audit's attack would be, beside the controls, is the point that the others stand beside.
        templates, sets = templates | {"search": templates[best(plan)]}, found | {"search": found[best(plan)]}
        seen = scoring.recognise(judge, templates, inputs.people, sets, plan.audit.fmrs)
        report = compose(plan, inputs, known, seen, judged.logits["target"], found, device)
        run.write("ladder.json", (json.dumps(report, indent=1, allow_nan=False) + "\n").encode())
        render(run.folder)
    state.wait_for_everyone()
    return folder / "ladder.html"


def rungs(
    plan: Ladder,
    inputs: Inputs,
    known: Mapping[str, Point],
    run: Run,
    device: torch.device,
    autocast: Autocast,
) -> tuple[Releases, AnyOracle]:
    """What each point releases, by its name; and the oracle of the first rung."""
    found: Releases = {}

    def attacker(search: Any = plan.audit.search) -> Attacker:
        attack = Attack(search, plan.audit.selection, plan.audit.batch, plan.audit.seed)
        return Attacker(attack, inputs.prior, inputs.people, run, Hardware(device, autocast))

    oracles = [_open(plan, inputs, known, run, rung.access) for rung in plan.rungs]
    for place, (rung, oracle) in enumerate(zip(plan.rungs, oracles, strict=True)):
        for number, search in enumerate(rung.searches):
            name = f"rung{place}_{number}"
            found[name] = attacker(search).attack(name, oracle)
    by_scores = ScoresOnly()
    oracle = _open(plan, inputs, known, run, by_scores)
    for size in plan.best_of:
        name, control = f"best_of_{size}", attacker()
        found[name] = control.best_of(name, oracle, control.pool(f"{name}_pool", oracle, range(size)))
    found["random"] = attacker().random("random", oracle)
    return found, oracles[0]


def _open(plan: Ladder, inputs: Inputs, known: Mapping[str, Point], run: Run, access: Access) -> AnyOracle:
    """One ledger for each level of access: what a point costs is arithmetic, and no image is asked twice for it.

    Where the ladder has a budget, the ledger's is that of all its points: retries cannot exceed it.
    """
    if not isinstance(access, WholeModel) and plan.budget is not None:
        mine = [point for point in known.values() if point.access == str(access)]
        asked = sum(point.shared + len(inputs.people.attacked) * point.person for point in mine)
        access = replace(access, budget=asked + len(inputs.people.enrolment) + len(known) * len(inputs.people.attacked))
    whole = sha256(json.dumps(plain(replace(access, budget=None)), sort_keys=True).encode()).hexdigest()[:8]
    name = re.sub(r"[^a-z0-9]+", "-", str(access)).strip("-")
    return access.open(inputs.target, run.folder / "ledgers" / f"{name}-{whole}")
