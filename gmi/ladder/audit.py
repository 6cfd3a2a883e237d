"""What each level of access gives away of one target: every rung with one prior, one judge, one budget.

A rung is a level of access and searches of growing cost, so that it is a curve over queries and not a point. Beside the
rungs stand the random prior and the best of N samples by scores, without a search, for as many queries.
"""

import json
import re
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, replace
from datetime import UTC, date, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from accelerate import PartialState
from pydantic import ConfigDict, Field, JsonValue
from pydantic.dataclasses import dataclass
from torch import Tensor

from gmi.errors import GmiError
from gmi.inversion import judging, scoring
from gmi.inversion.attacker import Autocast, Recipe
from gmi.inversion.audit import essence, own_opinion
from gmi.inversion.controls import Unmoved
from gmi.inversion.inputs import Inputs
from gmi.inversion.judging import Judges, Sets
from gmi.inversion.plan import AnySearch, Audit
from gmi.inversion.scoring import Recognised
from gmi.ladder.page import render
from gmi.metrics.identity import chance
from gmi.metrics.statistics import estimate, recovered
from gmi.oracles.access import Access, AnyOracle, ScoresOnly, WholeModel
from gmi.protocols import refuse_misfit, students
from gmi.run import Run
from gmi.settings import plain
from gmi.targets.templates import TemplateConfig

Count = Annotated[int, Field(ge=1)]
CONTROL = "best of N"


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Rung:
    """One level of access, and searches by it, the cheapest first."""

    name: str
    access: Access
    searches: tuple[AnySearch, ...]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Ladder:
    """Rungs on one target.

    audit: the target, the people, the prior, the selection and the judges; its access and its search are not used.
    budget: queries that no point may exceed; None: any number.
    best_of: sizes of the pools of the control.
    The dearest search of the first rung is what the others are compared with.
    """

    name: str
    audit: Audit
    rungs: tuple[Rung, ...]
    budget: Count | None = None
    best_of: Annotated[tuple[Count, ...], Field(min_length=1)] = (250, 1000)

    def __post_init__(self) -> None:
        if not self.rungs or not all(rung.searches for rung in self.rungs):
            raise ValueError("rungs: every ladder needs one or more, and every rung a search")
        names = [CONTROL, *(rung.name for rung in self.rungs)]
        if len(set(names)) < len(names):
            raise ValueError(f"rungs: each needs a name of its own, and none may be {CONTROL!r}")
        if any(rung.access.budget is not None for rung in self.rungs):
            raise ValueError("rungs: the ladder's own budget holds for every rung: leave access.budget out")


@dataclass(frozen=True)
class Point:
    """One search of a rung. Queries are those of an adversary who makes this search alone."""

    rung: str
    access: str
    search: str
    shared: int  # queries for everybody: the pool and what is learnt from
    person: int  # queries for one person, the final selection included


def points(plan: Ladder, inputs: Inputs) -> dict[str, Point]:
    """By name, rung after rung; then the control. Raises GmiError for a search that does not fit, or costs too much."""
    found = {}
    chosen = plan.audit.selection
    for place, rung in enumerate(plan.rungs):
        for number, search in enumerate(rung.searches):
            refuse_misfit(search, rung.access.open(inputs.target, None), inputs.prior)
            made: Any = search
            shared, person = chosen.asked(search, inputs.prior)
            found[f"rung{place}_{number}"] = Point(rung.name, str(rung.access), made.type, shared, person)
    ScoresOnly().open(inputs.target, None)  # raises where the control cannot be had
    for size in plan.best_of:
        found[f"best_of_{size}"] = Point(CONTROL, "score", "none", 2 * size, chosen.candidates * chosen.views)
    people = len(inputs.people.attacked)
    for point in found.values():
        if plan.budget is not None and (asked := point.shared + people * point.person) > plan.budget:
            raise GmiError(
                f"{point.rung}, {point.search}: {asked:,} queries are more than the budget of {plan.budget:,}: make "
                "the search or the pool smaller."
            )
    return found


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
        tree: dict[str, JsonValue] = plain(plan) | {"audit": essence(plan.audit), "budget": None}
        run = Run.open(folder, {"ladder": tree, "inputs": inputs.digests})
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
) -> tuple[Sets, AnyOracle]:
    """What each point releases, by its name; and the oracle of the first rung."""
    people = inputs.people
    coloured = people.enrolment.bytes.shape[1] == 3
    found: Sets = {}

    def recipe(access: Access, search: Any = plan.audit.search) -> Recipe:
        audit = replace(plan.audit, access=access, search=search)
        return Recipe(audit, run, inputs.prior, torch.tensor(people.attacked), coloured, device, autocast)

    oracles = [_open(plan, inputs, known, run, rung.access) for rung in plan.rungs]
    for place, (rung, oracle) in enumerate(zip(plan.rungs, oracles, strict=True)):
        for number, search in enumerate(rung.searches):
            name, one = f"rung{place}_{number}", recipe(rung.access, search)
            pool = one.pool(f"{name}_pool", oracle, range(plan.audit.selection.pool))
            found[name] = one(name, oracle, one.prepared(f"{name}_prepare", oracle), pool)
    by_scores = ScoresOnly()
    oracle = _open(plan, inputs, known, run, by_scores)
    for size in plan.best_of:
        name, one = f"best_of_{size}", recipe(by_scores)
        found[name] = one(name, oracle, Unmoved(), one.pool(f"{name}_pool", oracle, range(size)))
    found["random"] = recipe(by_scores).random("random", oracle)
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


def best(plan: Ladder) -> str:
    """The point that the others are compared with."""
    return f"rung0_{len(plan.rungs[0].searches) - 1}"


def compose(
    plan: Ladder,
    inputs: Inputs,
    known: Mapping[str, Point],
    seen: Recognised,
    logits: Mapping[str, Tensor],
    found: Sets,
    device: torch.device,
) -> dict[str, Any]:
    """ladder.json, whose schema is gmi/report/ladder.schema.json."""
    metrics = seen.rates
    attacked = len(inputs.people.attacked)

    def figures(method: str) -> dict[str, Any]:
        classes = seen.classes[method]
        return {
            metric: scoring.plain(scoring.attempt(lambda m=metric: estimate(seen.outcomes[method][m], classes)))
            for metric in metrics
        }

    def share(method: str) -> dict[str, Any] | None:
        if method == best(plan):
            return None
        ours, top = seen.of_people(method, "rank1"), seen.of_people(best(plan), "rank1")
        return scoring.plain(scoring.attempt(lambda: recovered(ours, np.zeros_like(ours), top)))

    def named(method: str) -> float:
        return float((logits[method].argmax(1).cpu() == found[method].classes).double().mean())

    rows = [
        asdict(point)
        | {
            "name": name,
            "queries": point.shared + attacked * point.person,
            "figures": figures(name),
            "share": share(name),
            "own_opinion": named(name),
        }
        for name, point in known.items()
    ]
    return {
        "schema_version": 1,
        "name": plan.name,
        "kind": "templates" if isinstance(plan.audit.target, TemplateConfig) else "representatives",
        "authorisation": None if plan.audit.authorisation is None else plain(plan.audit.authorisation),
        "gmi": version("gmi"),
        "judge": seen.judge,
        "people": len(inputs.people.names),
        "attacked": attacked,
        "gallery": seen.people,
        "best": best(plan),
        "budget": plan.budget,
        "chance": {metric: chance(metric, seen.people) for metric in metrics},
        "thresholds": [asdict(cut) | {"trusted": cut.trusted} for cut in seen.thresholds],
        "random": figures("random"),
        "points": rows,
        "device": device.type,
        "digests": inputs.digests,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
