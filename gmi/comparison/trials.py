"""The trials of a comparison: each arm is trained, and attacked by everything, for each seed.

Finished work lies in the run folder, cell by cell, and is not done again.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from accelerate import PartialState
from torch import Tensor

from gmi.audits import Hardware
from gmi.checks import Flag, dead_gradients
from gmi.comparison.inputs import Inputs, build, promises, target_of, try_arms
from gmi.comparison.plan import OPEN, Cell, Comparison, cells
from gmi.data.images import Images
from gmi.defences.base import Promise
from gmi.inversion import judging
from gmi.inversion.attacker import Attacker
from gmi.inversion.learnt import learnt
from gmi.inversion.plan import RANDOM
from gmi.inversion.strength import answered, persuaded, strength, strengths
from gmi.oracles.access import WholeModel
from gmi.oracles.guards import AnyGuard, Stealthy, guard
from gmi.oracles.interface import Interface
from gmi.run import Run
from gmi.search import AnySearch
from gmi.search.attack import Attack
from gmi.search.signature import students
from gmi.search.surrogate import Surrogate
from gmi.targets.module import Target
from gmi.targets.quality import accuracy, answers, profile
from gmi.training.targets import fit

Place = tuple[str, str, int]
"""Target, arm and seed."""


@dataclass(frozen=True)
class Utility:
    """Answers of one arm for one seed on enrolment images: what a user of the model has."""

    named: Tensor  # (M,) the person who is named
    correct: Tensor  # (M,) 0 or 1
    confidence: Tensor  # (M,) the probability that is shown for the predicted class


@dataclass(frozen=True)
class AttackResult:
    """One attack on one target."""

    images: Images  # released
    own_opinion: float  # share of them that the target itself takes for their person
    queries: int


@dataclass(frozen=True)
class Evidence:
    """Everything that the findings rest on."""

    releases: judging.Releases  # by `Cell.key`, and those of the random prior
    judged: judging.Judged
    attacks: dict[str, AttackResult]  # by `Cell.key`
    utility: dict[Place, Utility]
    gradients: dict[Place, Flag]
    strengths: tuple[Flag, ...]  # of the searches, by arm and level of access
    promises: dict[tuple[str, str], Promise | None]  # by target and arm


@dataclass(frozen=True)
class Trials:
    """Everything that is to be trained, attacked and judged."""

    plan: Comparison
    inputs: Inputs
    store: Run
    hardware: Hardware

    def run(self) -> Evidence:
        """Does what is not there yet. Raises GmiError where the judge is not independent of a trained target."""
        self._train()
        attacks: dict[str, AttackResult] = {}
        utility: dict[Place, Utility] = {}
        gradients: dict[Place, Flag] = {}
        met: dict[str, dict[str, list[Flag]]] = {}
        for cell in cells(self.plan):
            place, target = (cell.subject.name, cell.arm.name, cell.seed), self.target(cell)
            if place not in utility:
                self._refuse_dependent(target)
                utility[place] = self._utility(cell, target)
                gradients[place] = self._gradients(cell, target)
            if cell.key not in attacks:
                attacks[cell.key] = self._attack(cell, target)
            several = [cell.subject.name] if len(self.plan.targets) > 1 else []
            level = ", ".join([*several, cell.arm.name, str(cell.attack.access)])
            flags = [self._strength(cell, target, utility[place]), _convinced(cell, attacks[cell.key])]
            flags += self._answered(cell, target)
            met.setdefault(level, {}).setdefault(cell.attack.name, []).extend(flags)
        releases = {key: attacked.images for key, attacked in attacks.items()} | {RANDOM: self._random()}
        judged = judging.judge(self.store, self.inputs.judges, None, self.inputs.people, releases)
        agreed = promises(self.plan, self.inputs.people.training.classes)
        return Evidence(releases, judged, attacks, utility, gradients, strengths(met), agreed)

    def target(self, cell: Cell) -> Target:
        """The trained target that a cell attacks."""
        module, state = build(cell.subject, cell.arm), self.store.read(cell.weights)
        module.load_state_dict(
            {name.removeprefix(_STATE): value for name, value in state.items() if name.startswith(_STATE)}
        )
        return target_of(cell.subject, module, self.inputs.people).to(self.hardware.device)

    def _refuse_dependent(self, target: Target) -> None:
        searches = [attack.search for attack in self.plan.every_attack]
        learners = {repr(student): student for search in searches for student in students(search)}
        self.inputs.judges.refuse_dependent(
            target, None, self.plan.data.name, self.inputs.people, list(learners.values())
        )

    def _train(self) -> None:
        """Trains what is not there; one step of each arm first, so that none fails when the others took hours."""
        jobs = {cell.weights: cell for cell in cells(self.plan)}
        missing = [cell for name, cell in jobs.items() if not self.store.has(name)]
        if PartialState().is_main_process:
            try_arms(missing, self.inputs.people, self.hardware.device)

        def compute(names: list[str]) -> Iterator[dict[str, Tensor]]:
            for cell in map(jobs.__getitem__, names):
                yield self._trained(cell)

        self.store.each(jobs, compute, "train")

    def _trained(self, cell: Cell) -> dict[str, Tensor]:
        training = replace(cell.arm.training or cell.subject.training, seed=cell.seed)
        config, images = replace(cell.subject.target, defence=cell.arm.defence), self.inputs.people.training
        module = fit(config, training, images.bytes, images.classes, self.hardware.device)
        return {f"{_STATE}{name}": value for name, value in module.state_dict().items()}

    def _attacker(self, cell: Cell) -> Attacker:
        attack = Attack(_seeded(cell), self.plan.selection, self.plan.batch, cell.seed, self.plan.memory)
        return Attacker(attack, self.inputs.prior, self.inputs.people, self.store, self.hardware)

    def _guards(self, cell: Cell, target: Target) -> tuple[AnyGuard, ...]:
        """The arm's guards, with the profile of the target that they guard."""
        return tuple(
            replace(each, profile=str(self._profile(cell, target))) if isinstance(each, Stealthy) else each
            for each in cell.arm.guards
        )

    def _profile(self, cell: Cell, target: Target) -> Path:
        path = self.store.folder / "profiles" / f"{cell.weights}.safetensors"
        if not path.exists():
            name = str(path.relative_to(self.store.folder))
            self.store.write(name, profile(target, self.inputs.people.training))
        return path

    def _attack(self, cell: Cell, target: Target) -> AttackResult:
        access = cell.attack.access.behind(self._guards(cell, target), cell.arm.shape)
        attacker = self._attacker(cell)
        oracle = access.open(target, self.store.folder / "ledgers" / cell.key)
        images = attacker.attack(f"{cell.key}/search", oracle)
        return AttackResult(images, accuracy(target, images), sum(step.queries for step in attacker.spent.values()))

    def _strength(self, cell: Cell, target: Target, utility: Utility) -> Flag:
        search = _seeded(cell)
        taught = self._attacker(cell).taught(f"{cell.key}/search")
        known = learnt(search, [taught], self.inputs.people, utility.named)
        return strength(search, cell.attack.access.open(target, None), comparing=False, learnt=known)

    def _answered(self, cell: Cell, target: Target) -> list[Flag]:
        """Whether an interface answers so that a search can go by it; of the weights, `gradients` tells."""
        oracle = cell.attack.access.behind(self._guards(cell, target), cell.arm.shape).open(target, None)
        if not isinstance(oracle, Interface):
            return []
        flags = answered(oracle, self._attacker(cell).probe(oracle, f"checks/{cell.key}"))
        return [_excused(cell, flag) for flag in flags]

    def _utility(self, cell: Cell, target: Target) -> Utility:
        """The answers that this arm shows to its users."""
        enrolment = self.inputs.people.enrolment
        guarded = guard(self._guards(cell, target), target, target.digest.encode())
        shown = cell.arm.shape(guarded(answers(target, enrolment).double(), enrolment.bytes))
        confidence, predicted = shown.nan_to_num(0.0).max(1)
        return Utility(predicted, (predicted == enrolment.classes).double(), confidence)

    def _gradients(self, cell: Cell, target: Target) -> Flag:
        probes = self._attacker(cell).probe(WholeModel().open(target, None), name=f"checks/{cell.weights}")
        return dead_gradients(probes["gradients"])

    def _random(self) -> Images:
        """Samples of the prior, which ask no target."""
        first = next(cells(self.plan))
        return self._attacker(first).random(RANDOM, WholeModel().open(self.target(first), None))


_STATE = "state."


def _convinced(cell: Cell, attacked: AttackResult) -> Flag:
    """Whether the attack convinces the target. That a defended one is not convinced may be what the defence does."""
    return _excused(cell, persuaded(attacked.own_opinion))


def _excused(cell: Cell, flag: Flag) -> Flag:
    """The flag; of a defended target a warning is a note, as it may be what the defence does."""
    return replace(flag, severity="note") if cell.arm.name != OPEN and flag.severity == "warning" else flag


def _seeded(cell: Cell) -> AnySearch:
    """The search; a student that it teaches has the cell's seed."""
    search = cell.attack.search
    if isinstance(search, Surrogate):
        return replace(search, training=replace(search.training, seed=cell.seed))
    return search
