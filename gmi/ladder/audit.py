"""A ladder of access, end to end: the same target, prior, selection and judge for attacks by every level of access.

A rung has attacks of growing cost, so that it is a curve over queries and not a point. They are compared with samples
of the prior at random, and with the best of N samples by the target's scores, which is what queries buy without a
search.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from hashlib import sha256

from gmi.audits import Hardware, Kind, unseen
from gmi.checks import Flag
from gmi.data.images import Images
from gmi.errors import Overspent
from gmi.inversion import inputs as inversion
from gmi.inversion import judging
from gmi.inversion.attacker import PROBES, Attacker
from gmi.inversion.constancy import confirm
from gmi.inversion.inputs import Inputs
from gmi.inversion.judging import Judged, Judges, Releases
from gmi.inversion.learnt import learnt
from gmi.inversion.plan import RANDOM
from gmi.inversion.preflight import refuse_ignorant
from gmi.inversion.strength import answered, compares, grey_prior, misleads, misled, persuaded, strength, strengths
from gmi.ladder.findings import Evidence, findings, own_opinion
from gmi.ladder.forecast import forecast, refuse_misfits
from gmi.ladder.page import render
from gmi.ladder.plan import Cost, Ladder, costs
from gmi.oracles.access import Access, AnyOracle, ScoresOnly, claims
from gmi.oracles.interface import Embeddings, Interface
from gmi.run import Run
from gmi.search import AnySearch
from gmi.search.signature import students
from gmi.search.strangers import digests
from gmi.settings import plain
from gmi.training.weights import refuse_untrained


def load(plan: Ladder, hardware: Hardware) -> Inputs:
    """Everything that the configuration names; a ladder has no oracle projection. Raises GmiError as an audit's."""
    controls = replace(plan.audit.controls, oracle=False)
    inputs = inversion.load(replace(plan.audit, controls=controls), hardware)
    return replace(inputs, named={**inputs.named, **digests([search for _, _, search in plan.attacks()])})


def refuse(plan: Ladder, inputs: Inputs) -> None:
    """Raises GmiError where an attack does not fit or costs too much, or the judge is not independent.

    Raises Untrained where the target is still to be trained.
    """
    refuse_misfits(plan, inputs)
    inversion.refuse_enrolled((search for _, _, search in plan.attacks()), inputs.people)
    people = len(inputs.people.attacked)
    for cost in costs(plan, inputs.prior, len(inputs.people.names)).values():
        if plan.budget is not None and cost.queries(people) > plan.budget:
            raise Overspent(
                f"{cost.rung}, {cost.search}: {cost.queries(people):,} queries are more than the budget of "
                f"{plan.budget:,}: make the search or the pool smaller."
            )
    learners = {repr(student): student for _, _, search in plan.attacks() for student in students(search)}
    _judge(inputs).refuse_dependent(
        inputs.target, inputs.guide, plan.audit.data.name, inputs.people, list(learners.values())
    )
    if inputs.untrained:
        refuse_untrained(plan.audit.target, plan.audit.training, inputs.people)


def examine(plan: Ladder, inputs: Inputs, run: Run, hardware: Hardware) -> Evidence:
    """The images of every attack and control, and what the judge and the target itself make of them."""
    judges, people = _judge(inputs), inputs.people
    prices = costs(plan, inputs.prior, len(people.names))
    attackers = [
        Attacker(attack, inputs.prior, people, run if number == 0 else run.part(f"seed-{attack.seed}"), hardware)
        for number, attack in enumerate(plan.audit.attacks)
    ]
    for rung in plan.rungs if unseen(plan) else ():
        confirm(attackers[0], _open(plan, inputs, prices, run, rung.access), f"checks/{rung.name}")
    if plan.audit.preflight:
        first = cache(partial(_open, plan, inputs, prices, run, plan.rungs[0].access))
        opinion = judging.own_opinion(inputs.target, first, hardware.device)
        refuse_ignorant(inputs.target, people, judging.enrolment_answers(run, opinion, people), run)
    oracles = {rung.name: _open(plan, inputs, prices, run, rung.access) for rung in plan.rungs}
    scores = _open(plan, inputs, prices, run, ScoresOnly())
    drawn = [_drawn(plan, attacker, oracles, scores) for attacker in attackers]
    releases = {step: Images.join([each[step] for each in drawn]) for step in drawn[0]}
    opinion = judging.own_opinion(inputs.target, lambda: oracles[plan.rungs[0].name], hardware.device)
    judged = judging.judge(run, judges, opinion, people, releases)
    return Evidence(releases, judged, _strengths(plan, inputs, releases, judged, attackers, oracles))


def _drawn(plan: Ladder, attacker: Attacker, oracles: Mapping[str, AnyOracle], scores: AnyOracle) -> Releases:
    """The images of every attack and control with one seed, by step."""
    releases = {}
    for step, rung, search in plan.attacks():
        releases[step] = _searching(attacker, search).attack(step, oracles[rung.name])
    for step, size in plan.controls():
        releases[step] = attacker.best_of(step, scores, attacker.pool(f"{step}_pool", scores, range(size)))
    releases[RANDOM] = attacker.random(RANDOM, scores)
    return releases


def _strengths(
    plan: Ladder,
    inputs: Inputs,
    releases: Releases,
    judged: Judged,
    attackers: Sequence[Attacker],
    oracles: Mapping[str, AnyOracle],
) -> tuple[Flag, ...]:
    """Whether each level of access met a search of the kind that finds most with it."""
    answers, flags = judged.answers["target"], {}
    for step, rung, search in plan.attacks():
        taught = [_searching(attacker, search).taught(step) for attacker in attackers]
        known, oracle = learnt(search, taught, inputs.people, answers["enrolment"].named), oracles[rung.name]
        kind = strength(search, oracle, compares(oracle, inputs), known)
        opinion = persuaded(own_opinion(answers[step], releases[step]))
        asked = answered(oracle, attackers[0].probe(oracle, f"checks/{rung.name}", PROBES))
        flags.setdefault(str(rung.access), {})[step] = (kind, opinion, *asked)
    misleading = [misled()] if misleads(plan.audit.target) else []
    return (*strengths(flags), *misleading, *grey_prior(plan.audit.target, inputs.people, releases[RANDOM]))


def _searching(attacker: Attacker, search: AnySearch) -> Attacker:
    return replace(attacker, plan=replace(attacker.plan, search=search))


def _judge(inputs: Inputs) -> Judges:
    """The judge on which the verdict of an audit rests: the first."""
    return Judges(inputs.judges.faces[:1])


def _open(plan: Ladder, inputs: Inputs, prices: Mapping[str, Cost], run: Run, access: Access) -> AnyOracle:
    """The oracle of one level of access. Its ledger is that of all points by this access: what a point costs is
    arithmetic, and no image is asked twice.

    Where the ladder has a budget, the ledger holds no more images than these points cost together with all seeds.
    """
    most = None
    if plan.budget is not None:
        people = len(inputs.people.attacked)
        asked = sum(cost.queries(people) for cost in prices.values() if cost.access == str(access))
        seeds, released = len(plan.audit.seeds), (len(prices) + 1) * people * plan.audit.selection.keep
        probes = 2 * PROBES * len(plan.rungs) * claims(access, len(inputs.people.names))
        most = seeds * (asked + released) + len(inputs.people.enrolment) + probes
    whole = sha256(json.dumps(plain(replace(access, budget=None)), sort_keys=True).encode()).hexdigest()[:8]
    name = re.sub(r"[^a-z0-9]+", "-", str(access)).strip("-")
    oracle = access.open(inputs.target, run.folder / "ledgers" / f"{name}-{whole}")
    if isinstance(oracle, Embeddings):  # whose answers are templates
        oracle.ledger.vault = run.vault
    if isinstance(oracle, Interface) and most is not None:
        oracle.ledger.limit(most)
    return oracle


LADDER = Kind(
    name="ladder",
    plan=Ladder,
    load=load,
    refuse=refuse,
    forecast=forecast,
    searches=True,
    examine=examine,
    findings=findings,
    render=render,
    shows=lambda plan: plan.audit.report.images,
)
