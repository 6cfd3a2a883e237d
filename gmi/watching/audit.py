"""Query auditing on trial: every attack of a ladder, and people at a camera, send their queries to a watched target."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
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
from gmi.oracles.access import Access, AnyOracle
from gmi.oracles.interface import Embeddings, Verification
from gmi.run import Run, Tensors
from gmi.search.attack import Attack
from gmi.search.signature import OfflineSearch
from gmi.serving.watch import STATISTICS, Watcher, features, overheard
from gmi.serving.watch import Stream as Overlapping
from gmi.targets.module import Target
from gmi.targets.served import Comparer, Requests
from gmi.targets.templates import Remembered, verifier_of
from gmi.training.weights import refuse_untrained
from gmi.watching.findings import CAMERA, STRANGERS, Stream, findings
from gmi.watching.forecast import forecast
from gmi.watching.page import render
from gmi.watching.plan import Watching
from gmi.watching.traffic import Queries, camera, disguised, strangers

_ATTACK = "shards/attack"
"""Where the pieces of an attack lie while it is made."""


def refuse(plan: Watching, inputs: Inputs) -> None:
    """Raises GmiError where there is no network to watch, an attack does not fit, or answers are templates.

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
        if isinstance(rung.access.open(network, None), Embeddings):
            raise GmiError(
                f"{name}: no server of ours answers with templates ({rung.access} access), or watches one that does: "
                "leave this rung out."
            )
    plan.watch.refuse_few(len(inputs.people.training))
    if inputs.untrained:
        refuse_untrained(plan.audit.target, plan.audit.training, inputs.people)


def examine(plan: Watching, inputs: Inputs, run: Run, hardware: Hardware) -> dict[str, list[Stream]]:
    """What the watch makes of the controls and of every attack, by step: one stream for each seed."""
    network = _network(inputs)
    watcher = plan.watch.learn(network, inputs.people.training.pixels)
    photographs = cache(partial(camera, network, inputs.people.enrolment.pixels))  # once, where a piece is missing
    makers = {CAMERA: lambda: seen(photographs(), watcher)}
    if (others := strangers(inputs.people)) is not None:
        makers[STRANGERS] = lambda: seen(camera(network, others), watcher)
    for step, rung, search in plan.asking():
        for attack in plan.audit.attacks:
            made = replace(attack, search=search)
            asked = partial(attacked, inputs, made, rung.access, run, hardware)
            makers[f"{step}-{attack.seed}"] = partial(_seen, asked, photographs, plan.watch.disguises, watcher)
    _forget(run.folder / _ATTACK)  # of a process that was killed
    pieces = run.each(makers, lambda names: (makers[name]() for name in names), "watch")
    streams: dict[str, list[Stream]] = {}
    for name, piece in zip(makers, pieces, strict=True):
        shares = () if name in (CAMERA, STRANGERS) else plan.watch.disguises
        hidden = {share: piece[f"disguised {share:g}"] for share in shares}
        streams.setdefault(name.partition("-")[0], []).append(Stream(int(piece["queries"]), piece["flags"], hidden))
    return streams


def _seen(
    asked: Callable[[], Queries], photographs: Callable[[], Queries], shares: Sequence[float], watcher: Watcher
) -> Tensors:
    """The tensors of `seen`, and the flags (W, 3) where an adversary hides among photographs: `disguised SHARE`."""
    queries = asked()
    hidden = {share: seen(disguised(queries, photographs(), share), watcher)["flags"] for share in shares}
    return {**seen(queries, watcher), **{f"disguised {share:g}": flags for share, flags in hidden.items()}}


def seen(queries: Iterable[tuple[Tensor, Tensor]], watcher: Watcher) -> Tensors:
    """The number of queries, and the flags (W, 3) of every window of them. Raises GmiError where there are none."""
    stream, count, flags = Overlapping(watcher), 0, []
    for unit, labels in queries:
        count += len(labels)
        flags += [[name in reasons for name in STATISTICS] for reasons in stream.see(unit, labels)]
    if count == 0:
        raise GmiError("An attack asks nothing that the watch overhears: leave its rung out.")
    return {"queries": torch.tensor(count), "flags": torch.tensor(flags, dtype=torch.bool).reshape(-1, len(STATISTICS))}


def attacked(inputs: Inputs, attack: Attack, access: Access, run: Run, hardware: Hardware) -> Queries:
    """The queries of one attack by one key, from the choice of starts to the choice of what is released."""
    target, place = _network(inputs), run.folder / _ATTACK
    alone = replace(hardware, bf16=False)  # a server does not compute as its clients do
    _forget(place)
    with listening(target, access) as (oracle, queries):
        within = Run.open(place, {}, run.vault)
        attacker = Attacker(attack, inputs.prior, inputs.people, within, alone)
        if isinstance(attack.search, OfflineSearch):  # what comes after it asks a copy
            attacker.prepare("prepare", oracle)
        else:
            attacker.attack("search", oracle)
    _forget(place)  # what it finds is not kept
    return queries


class Overheard:
    """A `Comparer` of whose claims the images are heard; queries: takes their unit features and predicted classes."""

    def __init__(self, target: Target, verifier: Comparer, queries: list[tuple[Tensor, Tensor]]) -> None:
        self._verifier, self._queries = verifier, queries
        self._seen = Remembered(lambda images: torch.column_stack(features(target, images.float() / 255)))

    @property
    def requests(self) -> Requests:
        """Those of the verifier."""
        return self._verifier.requests

    @property
    def threshold(self) -> float:
        """That of the verifier."""
        return self._verifier.threshold

    def compare(self, images: Tensor, claims: Tensor) -> Tensor:
        """The verifier's similarities."""
        self._hear(images)
        return self._verifier.compare(images, claims)

    def decide(self, images: Tensor, claims: Tensor) -> Tensor:
        """The verifier's decisions."""
        self._hear(images)
        return self._verifier.decide(images, claims)

    def _hear(self, images: Tensor) -> None:
        seen = self._seen(images)
        self._queries.append((seen[:, :-1], seen[:, -1].long()))


@contextmanager
def listening(target: Target, access: Access) -> Iterator[tuple[AnyOracle, Queries]]:
    """A context with an oracle, and what is overheard of it: an image for each claim, where claims are decided."""
    oracle = access.open(target, None)
    if isinstance(oracle, Verification):
        claims: list[tuple[Tensor, Tensor]] = []
        verifier = verifier_of(target)
        assert isinstance(verifier, Comparer)  # as a target with weights is
        yield type(oracle)(Overheard(target, verifier, claims), oracle.ledger, oracle.people), claims
    else:
        with overheard(target) as queries:
            yield oracle, queries


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
)
