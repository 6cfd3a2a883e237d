"""Query auditing on trial: every attack of a ladder, and people at a camera, send their queries to a watched target."""

import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from accelerate import PartialState
from torch import Tensor

from gmi.audits import Hardware, Kind
from gmi.errors import GmiError
from gmi.inversion.attacker import Attacker
from gmi.inversion.inputs import Inputs
from gmi.ladder.audit import load
from gmi.ladder.forecast import refuse_misfits
from gmi.oracles.access import Access
from gmi.oracles.interface import Embeddings, Verification
from gmi.rng import Rng, seed_of
from gmi.run import Run, Tensors
from gmi.search.attack import Attack
from gmi.serving.watch import STATISTICS, TRAFFIC, Watcher, features, overheard
from gmi.serving.watch import Stream as Overlapping
from gmi.targets.module import Target
from gmi.training.weights import refuse_untrained
from gmi.watching.findings import CAMERA, ROUNDS, Stream, findings
from gmi.watching.forecast import forecast
from gmi.watching.page import render
from gmi.watching.plan import Watching

Queries = Sequence[tuple[Tensor, Tensor]]
"""Unit features (n, D) and predicted classes (n,) of queries, in the order in which they came."""


_ATTACK = "shards/attack"
"""Where the pieces of an attack lie while it is made."""


def refuse(plan: Watching, inputs: Inputs) -> None:
    """Raises GmiError where there is no network to watch, an attack does not fit, or nothing would be overheard.

    Raises Untrained where the target is still to be trained.
    """
    if PartialState().num_processes > 1:
        raise GmiError("A watch sees one process: start this without torchrun or accelerate launch.")
    network = _network(inputs)
    refuse_misfits(plan, inputs)
    rungs = {rung.name: rung for _, rung, _ in plan.asking()}
    if not rungs:
        raise GmiError("rungs: all have the whole model, and ask nothing that could be watched: add one that asks.")
    for name, rung in rungs.items():
        if isinstance(rung.access.open(network, None), Embeddings | Verification):
            raise GmiError(f"{name}: the watch looks at scores and labels ({rung.access} access): leave this rung out.")
    plan.watch.refuse_few(len(inputs.people.training))
    if inputs.untrained:
        refuse_untrained(plan.audit.target, plan.audit.training, inputs.people)


def examine(plan: Watching, inputs: Inputs, run: Run, hardware: Hardware) -> dict[str, list[Stream]]:
    """What the watch makes of the control and of every attack, by step: one stream for each seed."""
    watcher = plan.watch.learn(_network(inputs), inputs.people.training.pixels)
    askers = {CAMERA: partial(camera, inputs)}
    for step, rung, search in plan.asking():
        for attack in plan.audit.attacks:
            made = replace(attack, search=search)
            askers[f"{step}-{attack.seed}"] = partial(attacked, inputs, made, rung.access, run, hardware)
    _forget(run.folder / _ATTACK)  # of a process that was killed
    pieces = run.each(askers, lambda names: (seen(askers[name](), watcher) for name in names), "watch")
    streams: dict[str, list[Stream]] = {}
    for name, piece in zip(askers, pieces, strict=True):
        streams.setdefault(name.partition("-")[0], []).append(Stream(int(piece["queries"]), piece["flags"]))
    return streams


def seen(queries: Queries, watcher: Watcher) -> Tensors:
    """The number of queries, and the flags (W, 3) of every window of them. Raises GmiError where there are none."""
    if not queries:
        raise GmiError("An attack asks nothing that the watch overhears: leave its rung out.")
    unit, labels = (torch.cat(parts) for parts in zip(*queries, strict=True))
    flags = [[name in reasons for name in STATISTICS] for reasons in Overlapping(watcher).see(unit, labels)]
    return {"queries": torch.tensor(len(unit)), "flags": torch.tensor(flags, dtype=torch.bool).reshape(-1, 3)}


def camera(inputs: Inputs) -> Queries:
    """Real traffic of photographs from which the watcher has not learnt."""
    photographs, target = inputs.people.enrolment.pixels, _network(inputs)
    parts = []
    for round in range(ROUNDS):
        order = torch.randperm(len(photographs), generator=torch.Generator().manual_seed(round))
        rng = Rng([seed_of("camera", round, index) for index in range(len(order))])
        parts.append(features(target, TRAFFIC(photographs[order], rng).clamp(0, 1)))
    return parts


def attacked(inputs: Inputs, attack: Attack, access: Access, run: Run, hardware: Hardware) -> Queries:
    """The queries of one attack by one key, from the choice of starts to the choice of what is released."""
    target, place = _network(inputs), run.folder / _ATTACK
    alone = replace(hardware, autocast=nullcontext)  # a server does not compute as its clients do
    _forget(place)
    with overheard(target) as queries:
        within = Run.open(place, {}, run.vault)
        Attacker(attack, inputs.prior, inputs.people, within, alone).attack("search", access.open(target, None))
    _forget(place)  # what it finds is not kept
    return queries


def _forget(place: Path) -> None:
    if place.exists():
        shutil.rmtree(place)


def _network(inputs: Inputs) -> Target:
    if not isinstance(inputs.target, Target):
        raise GmiError("A target is watched where it is served: this needs its weights.")
    return inputs.target


WATCHING = Kind(
    name="watch",
    plan=Watching,
    load=load,
    refuse=refuse,
    forecast=forecast,
    examine=examine,
    findings=findings,
    render=render,
    shows=lambda plan: plan.audit.report.images,
    suffix="-watch",
)
