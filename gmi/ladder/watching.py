"""Query auditing on trial: every attack of a ladder, and people at a camera, send their queries to a watched target.

Windows overlap, and those of one attack are alike: the shares are counts, not estimates.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from gmi import cli
from gmi.audits import Hardware, load
from gmi.errors import GmiError
from gmi.inversion.attacker import Attacker
from gmi.inversion.inputs import Inputs
from gmi.ladder.audit import LADDER
from gmi.ladder.forecast import refuse_misfits
from gmi.ladder.plan import Ladder
from gmi.oracles.access import Access, WholeModel
from gmi.rng import Rng, seed_of
from gmi.run import Run
from gmi.search.attack import Attack
from gmi.serving.watch import STATISTICS, TRAFFIC, Stream, Watch, Watcher, features, overheard
from gmi.settings import validate
from gmi.targets.module import Target
from gmi.training.weights import refuse_untrained

ABOUT = """Would query auditing notice? Every attack of a ladder, and people at a camera, ask a watched target.

gmi watch ladder_orl --audit.data.attacked 2"""

HEADER = f"{'asked by':48}{'queries':>9}{'windows':>9}{'flagged':>16}{'first after':>12}  why"
ROUNDS = 10  # of all enrolment photographs, as real traffic


@dataclass(frozen=True)
class Traffic:
    """The queries of one key, in the order in which they came."""

    name: str
    unit: Tensor  # features (N, D) of unit length
    labels: Tensor  # predicted classes (N,)


@dataclass(frozen=True)
class Sighting:
    """The alarms that some traffic raises."""

    name: str
    queries: int
    window: int  # queries that are examined together
    flags: list[tuple[str, ...]]  # of every window, reasons for an alarm

    @property
    def alarms(self) -> int:
        """The number of flagged windows."""
        return sum(map(bool, self.flags))

    @property
    def first(self) -> int | None:
        """The number of queries after which the first alarm is raised; None: it never is."""
        windows = [number for number, reasons in enumerate(self.flags) if reasons]
        return self.window + windows[0] * (self.window // 2) if windows else None

    def __str__(self) -> str:
        start = f"{self.name:48}{self.queries:9,}"
        if not self.flags:
            return f"{start}  fewer than a window of {self.window}"
        share = f"{self.alarms} ({self.alarms / len(self.flags):.1%})"
        first = "never" if self.first is None else f"{self.first:,}"
        counts = {name: sum(name in reasons for reasons in self.flags) for name in STATISTICS}
        why = ", ".join(f"{name} {count / len(self.flags):.0%}" for name, count in counts.items())
        return f"{start}{len(self.flags):9,}{share:>16}{first:>12}  {why}"


def main(arguments: Sequence[str], prog: str | None = None) -> None:
    """Prints a line for the camera, and one for every attack that asks an interface."""
    parser = cli.parser(ABOUT, prog)
    parser.add_argument("--window", type=int, default=64, help="queries that are examined together (default: 64)")
    parser.add_argument("--alarm", type=float, default=0.01, help="share of real windows that may be flagged (0.01)")
    options, plan = cli.configured(parser, arguments, Ladder)
    settings = validate({"window": options.window, "alarm": options.alarm}, "command line", Watch)
    engine = cli.accelerator()
    if engine.num_processes > 1:
        raise GmiError("A watch sees one process: start this without torchrun or accelerate launch.")
    hardware = Hardware(engine.device)
    with cli.naming_trainer(options, plan):
        sightings = watched(plan, load(LADDER, plan, hardware), settings, hardware)
        first = next(sightings)
    print(HEADER, first, sep="\n", flush=True)
    for sighting in sightings:
        print(sighting, flush=True)


def watched(plan: Ladder, inputs: Inputs, settings: Watch, hardware: Hardware) -> Iterator[Sighting]:
    """The alarms of people at a camera, then those of every attack of the ladder that asks an interface.

    Raises GmiError where there is no network to watch, a search does not fit, or photographs are too few.
    """
    target = _network(inputs)
    refuse_misfits(plan, inputs)
    if inputs.untrained:
        refuse_untrained(plan.audit.target, plan.audit.training, inputs.people)
    watcher = settings.learn(target, inputs.people.training.pixels)
    yield sighting(camera_traffic(inputs), watcher)
    for rung in plan.rungs:
        if not isinstance(rung.access, WholeModel):
            for number, search in enumerate(rung.searches, 1):
                attack = replace(plan.audit.attack, search=search)
                queries = attack_traffic(inputs, attack, rung.access, hardware)
                yield sighting(replace(queries, name=f"{rung.name} ({number})"), watcher)


def sighting(traffic: Traffic, watcher: Watcher) -> Sighting:
    """The alarms that the watcher raises on some traffic."""
    flags = Stream(watcher).see(traffic.unit, traffic.labels)
    return Sighting(traffic.name, len(traffic.unit), watcher.plan.window, flags)


def camera_traffic(inputs: Inputs) -> Traffic:
    """Real traffic of photographs from which the watcher has not learnt."""
    photographs, parts = inputs.people.enrolment.pixels, []
    for round in range(ROUNDS):
        order = torch.randperm(len(photographs), generator=torch.Generator().manual_seed(round))
        rng = Rng([seed_of("camera", round, index) for index in range(len(order))])
        parts.append(features(_network(inputs), TRAFFIC(photographs[order], rng).clamp(0, 1)))
    return _joined("people at a camera", parts)


def attack_traffic(inputs: Inputs, attack: Attack, access: Access, hardware: Hardware) -> Traffic:
    """The queries of one attack by one key, from the choice of starts to the choice of what is released."""
    target = _network(inputs)
    with TemporaryDirectory() as folder, overheard(target) as queries:
        run = Run.open(Path(folder, "run"), {})
        oracle = access.open(target, None)
        Attacker(attack, inputs.prior, inputs.people, run, hardware).attack("search", oracle)
    return _joined("an attack", queries)


def _network(inputs: Inputs) -> Target:
    if not isinstance(inputs.target, Target):
        raise GmiError("A target is watched where it is served: this needs its weights.")
    return inputs.target


def _joined(name: str, parts: Sequence[tuple[Tensor, Tensor]]) -> Traffic:
    if not parts:
        raise GmiError(
            f"{name} asks nothing that the watch overhears: leave this rung out (embeddings are not answers)."
        )
    unit, labels = zip(*parts, strict=True)
    return Traffic(name, torch.cat(unit), torch.cat(labels))
