"""The cost of an audit before anything is spent: queries by arithmetic, time by counted FLOPs and short timings.

The target is not asked: its operations are counted on a copy without weights, and their rate is that of a ResNet-18 on
this machine. Prior and judges, which are the auditor's own, are timed on a few images.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from accelerate import PartialState
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet18

from gmi.audits import Hardware
from gmi.data.people import People
from gmi.errors import Overspent
from gmi.forecast import Forecast, seconds_of
from gmi.inversion.inputs import Inputs, existing_target
from gmi.inversion.plan import Audit
from gmi.inversion.strength import compares, misleads, misled, strength, withheld
from gmi.metrics.conclusion import FEWEST
from gmi.metrics.power import people_needed
from gmi.oracles.access import claims
from gmi.oracles.ledger import OWN_OPINION
from gmi.protocols import FaceJudge, Prior
from gmi.report.subjects import reworded
from gmi.rng import Rng
from gmi.search.selection import Selection
from gmi.search.signature import OfflineSearch, access, shared_queries, students
from gmi.targets.module import ModuleTarget, Target
from gmi.targets.served import Served
from gmi.targets.templates import Matching, is_recogniser
from gmi.training.targets import try_step

Work = tuple[int, int, float]
"""Images whose gradient is asked for; images that are only scored; evaluations of the prior, by the time of one."""
GUESSING = 12**-0.5
"""Standard deviation of the AUC of people of whom an attack knows nothing: it is uniform from 0 to 1."""
_FEW = 16  # images that a timing takes
_EVERYBODY = ("checks", "pool", "prepare", "best_of_n_pool", "public_pool")
"""Steps whose images are asked about for everybody who is enrolled."""
_BY_PEOPLE = ("search", "oracle")
"""Steps that processes share out by batches of people."""
_BACKWARD = 1.3  # of a forward's time, with frozen weights: measured on the FaceNet target


@dataclass(frozen=True)
class Pace:
    """Seconds for one image on this machine as it is now."""

    forward: float  # the target's; 0 where nothing is known of it
    evaluation: float  # the prior's, once through its network

    def seconds(self, work: Work, shares: int | None = None) -> float:
        """The time for some work, all processes together; shares: those in which it is split, if they are few."""
        gradients, scored, evaluations = work
        passes = gradients * (1 + _BACKWARD) + scored
        processes = PartialState().num_processes
        if shares is not None:
            processes = shares / -(-shares // processes)  # a process without a share helps nobody
        return (self.forward * passes + self.evaluation * evaluations) / processes

    def each(self, work: Mapping[str, Work], shares: int) -> dict[str, float]:
        """The time for every step of an attack, whose searches are split into shares of the people."""
        return {name: self.seconds(amount, shares if name in _BY_PEOPLE else None) for name, amount in work.items()}


def pace(target: Target | Served, prior: Prior, people: People, device: torch.device) -> Pace:
    """Counts the target's operations, or times a recogniser of this process, and times the prior."""
    latents = prior.sample(Rng(range(_FEW)))
    with torch.no_grad():
        evaluation = seconds_of(lambda: prior.decode(latents)) / _FEW / prior.evaluations
    return Pace(forward_seconds(target, people, device), evaluation)


def judging_seconds(judges: Mapping[str, FaceJudge], people: People, releases: int) -> dict[str, float]:
    """The time that each judge takes for all photographs and for that many released images."""
    sets = (people.training, people.enrolment, people.distractors, people.strangers, people.public)
    count = sum(len(images) for images in sets if images is not None) + releases
    few = people.enrolment.pixels[: 2 * _FEW]
    return {
        name: seconds_of(lambda judge=judge: judge.embed(few)) / len(few) * count / PartialState().num_processes
        for name, judge in judges.items()
    }


def attack_work(search: Any, selection: Selection, people: int, prior: Prior) -> dict[str, Work]:
    """The work of one attack on so many people, by step: "pool", "prepare" and "search"."""
    prepared, decode, passes = shared_queries(search), prior.evaluations, search.passes(prior)
    made = getattr(search, "samples", prepared)  # samples of the prior before the search
    starts = people * selection.candidates
    queries, steep = starts * search.queries(prior), access(search) == "white-box"
    return {
        "pool": (0, selection.pool_of(search), selection.pool * decode),
        "prepare": (0, prepared, made * decode),
        "search": (
            queries if steep else 0,
            (0 if steep else queries) + starts * selection.views_of(search),
            starts * (passes.without_gradient + passes.with_gradient * (1 + _BACKWARD)),
        ),
    }


def served_note(forward: float) -> tuple[str, ...]:
    """What a forecast leaves out where nothing is known of the target's speed."""
    return ("that the served target takes, as a rule the larger part",) if forward == 0 else ()


def forecast(plan: Audit, inputs: Inputs, hardware: Hardware) -> Forecast:
    """Queries and time of an audit that is not refused, on this machine as it is now, all processes together."""
    people, each = inputs.people, _work(plan, inputs)
    if inputs.untrained and plan.training is not None:
        try_step(existing_target(plan), plan.training, people.training.bytes, people.training.classes, hardware.device)
    tempo = pace(inputs.target, inputs.prior, people, hardware.device)
    shares, processes = plan.attack.shares(len(people.attacked)), PartialState().num_processes
    seconds = tempo.each(each, shares)
    methods = 3 + plan.controls.oracle + (people.public is not None)
    named = {f"judge {judge.name}": judge for judge in inputs.judges.faces}
    if inputs.system is not None:
        named["the system itself"] = inputs.system
    seconds |= judging_seconds(named, people, methods * len(people.attacked) * plan.selection.keep * len(plan.seeds))
    without = served_note(tempo.forward)
    if students(plan.search):
        offline = isinstance(plan.search, OfflineSearch)
        without += ("to search with a copy" if offline else "to teach a student and to search it",)
    if plan.membership is not None and plan.membership.shadows:
        without += (f"to train {plan.membership.shadows} shadow models",)
    queries = _queries(each, claims(plan.access, len(people.names)))
    free = tuple(step for step in queries if step.startswith("oracle"))
    seconds = {step: amount for step, amount in seconds.items() if amount}
    notes = target_notes(plan)
    oracle = plan.access.open(inputs.target, None)
    weak = strength(plan.search, oracle, compares(oracle, inputs))
    bars = [weak.message] if weak.severity != "passed" else []
    bars += [flag.message for flag in withheld(oracle, inputs.target)]
    bars += [misled().message] if misleads(plan.target) else []
    if compares(oracle, inputs):
        bars.append(
            "Images that a system of templates takes for its people give these away, and a search whose images it does "
            "not take has failed."
        )
    if not plan.controls.oracle:
        bars.append("Without the oracle projection (controls.oracle) nothing is known of what the prior can express.")
    notes += tuple(f"Whatever is not found, nobody is acquitted. {message}" for message in bars)
    if shares < processes:
        each = max(1, len(people.attacked) // processes)
        fewer = f"--batch {each * plan.selection.candidates} is for more of them"
        mend = fewer if each < plan.attack.people_at_once else "no more of them have any"
        notes += (f"The search is work for {shares} of {processes} processes: {mend}.",)
    attacks = 2 + (people.public is not None)
    needed = people_needed(GUESSING, plan.notable, attacks * len(inputs.judges.faces))
    if needed > len(people.attacked):
        notes += (
            f"To exclude an advantage of {plan.notable:+.2f} where there is no leak takes about {needed} people (four "
            f"audits in five, by {attacks} attacks and every judge, if people differ as by chance: the report says it "
            f"by how they differ); {len(people.attacked)} are attacked.",
        )
    if len(people.attacked) < FEWEST:
        notes += (f"{len(people.attacked)} people are too few to conclude anything: attack at least {FEWEST}.",)
    said = tuple(reworded(note, people.subject) for note in notes)
    return Forecast(queries, seconds, without, said, free, str(people))


def target_notes(plan: Audit) -> tuple[str, ...]:
    """What is to be known of the target."""
    if isinstance(plan.target, ModuleTarget) and plan.target.weights is None:
        return ("target.weights is not set: the weights are those that the factory makes",)
    return ()


def refuse_overspending(plan: Audit, inputs: Inputs) -> None:
    """Raises Overspent where the audit is to ask more than its budget, before it asks anything."""
    asked = _queries(_work(plan, inputs), claims(plan.access, len(inputs.people.names)))
    queries = sum(count for name, count in asked.items() if not name.startswith("oracle"))
    if plan.access.budget is not None and queries > plan.access.budget:
        raise Overspent(
            f"The audit would ask {queries:,} queries and access.budget is {plan.access.budget:,}: make the search, "
            "the selection or the number of attacked people smaller (--dry-run shows what each step asks)."
        )


def _queries(work: Mapping[str, Work], each: int) -> dict[str, int]:
    """Queries by step. each: of an image that is asked about for everybody."""
    images = {name: gradients + scored for name, (gradients, scored, _) in work.items() if gradients + scored}
    return {name: count * (each if name in _EVERYBODY else 1) for name, count in images.items()}


def _work(plan: Audit, inputs: Inputs) -> dict[str, Work]:
    """The work of every step."""
    people, chosen = len(inputs.people.attacked), plan.selection
    public = 0 if inputs.people.public is None else len(inputs.people.public)
    starts = people * chosen.candidates
    given = plan.access
    whole, anew = given.type == "white-box", given.type == "white-box" or given.repeats == "asked"
    decode, wide = inputs.prior.evaluations, len(plan.pools(people, len(inputs.people.names), inputs.prior)[1])
    attack = attack_work(plan.search, chosen, people, inputs.prior)
    each: dict[str, Work] = {
        "checks": (8 * whole, 8 * (2 - whole), 16 * decode),
        "pool": (0, 2 * chosen.pool, chosen.pool * decode),
        "prepare": attack["prepare"],
        "best_of_n_pool": (0, 2 * wide, wide * decode),
        "search": attack["search"],
        "best_of_n": (0, starts * chosen.final_views, starts * decode),
        "public_pool": (0, 2 * public, 0),
        "public": (0, people * min(chosen.candidates, public) * chosen.final_views, 0),
    }
    if plan.controls.oracle:
        search = plan.search.search if isinstance(plan.search, OfflineSearch) else plan.search
        control = attack_work(search, chosen, people, inputs.prior)
        each |= {"oracle_prepare": control["prepare"], "oracle_pool": control["pool"], "oracle": control["search"]}
    seeds = len(plan.seeds)
    each = {name: _times(work, 1 if name == "checks" else seeds) for name, work in each.items()}
    if isinstance(inputs.target, Served):
        released = seeds * (3 + plan.controls.oracle + (public > 0)) * people * chosen.keep
        opinions = len(inputs.people.enrolment) + released
        if plan.membership is not None:
            opinions += len(inputs.people.training) + anew * len(inputs.people.enrolment)
        each[OWN_OPINION] = (0, opinions, 0)
    return each


def _times(work: Work, count: int) -> Work:
    gradients, scored, evaluations = work
    return gradients * count, scored * count, evaluations * count


def forward_seconds(target: Target | Served, people: People, device: torch.device) -> float:
    """Seconds for one image of the people; of a served target nothing is known but how often it may be asked.

    A recogniser in this process is timed: what it takes is mostly to find the faces.
    """
    if isinstance(target, Target) and is_recogniser(target):
        some = people.enrolment.pixels[:_FEW].to(device)
        with torch.no_grad():
            return seconds_of(lambda: target.to(device)(some)) / len(some)
    if isinstance(target, Served) and isinstance(service := target.service, Matching):
        few = people.enrolment.bytes[:_FEW]
        return seconds_of(lambda: service(few)) / len(few)
    if isinstance(target, Served):
        return 0.0 if target.rate is None else 1 / target.rate
    images = target.input(torch.zeros(1, *people.enrolment.bytes.shape[1:]))
    return _flops(target.module, images.shape) / _rate(device)


def _flops(module: nn.Module, shape: torch.Size) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        copy.deepcopy(module).to("meta")(torch.zeros(shape, device="meta"))
    return counter.get_total_flops()


@cache
def _rate(device: torch.device) -> float:
    """FLOPs a second of a ResNet-18 in batches of 16."""
    network, images = resnet18(weights=None).eval().to(device), torch.zeros(_FEW, 3, 160, 160, device=device)
    flops = _flops(network, images.shape)
    with torch.no_grad():
        return flops / seconds_of(lambda: network(images))
