"""A comparison at work: each arm is trained, and attacked by everything, for each seed.

What is done lies in the run folder, cell by cell, and is not done again.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from gmi.audits import Autocast, Hardware
from gmi.checks import Flag, dead_gradients
from gmi.comparison.plan import Arm, Cell, Comparison, Subject, cells
from gmi.data.people import People
from gmi.defences.base import Promise
from gmi.inversion.attacker import Attacker
from gmi.inversion.inputs import refuse_unfit
from gmi.inversion.judging import Judges, Releases
from gmi.oracles.access import AnyOracle, WholeModel
from gmi.oracles.guards import AnyGuard, Stealthy, guard
from gmi.protocols import Prior
from gmi.run import Run
from gmi.search import AnySearch
from gmi.search.attack import Attack
from gmi.search.signature import refuse_misfit, students
from gmi.search.surrogate import Surrogate
from gmi.targets.module import Target
from gmi.targets.quality import profile
from gmi.training.targets import UNDEFENDED


@dataclass(frozen=True)
class Utility:
    """Of one arm for one seed, on enrolment images: what a user of the model has."""

    right: Tensor  # (M,) 0 or 1
    sure: Tensor  # (M,) the probability that is shown for the class that is named


@dataclass(frozen=True)
class Found:
    """What a comparison found: images by `Cell.key`, and what is known of the arms."""

    sets: Releases
    named: dict[str, float]  # by key: the share that the target takes for their person
    queries: dict[str, int]
    utility: dict[tuple[str, str, int], Utility]  # by target, arm and seed
    promises: dict[tuple[str, str], Promise | None]  # by target and arm
    gradients: dict[tuple[str, str, int], Flag]  # by target, arm and seed


@dataclass(frozen=True)
class Trials:
    """Any people, prior and judges with the right methods will do."""

    plan: Comparison
    people: People
    prior: Prior
    judges: Judges  # one face recogniser
    run: Run
    device: torch.device
    autocast: Autocast = nullcontext

    def __call__(self) -> Found:
        """Raises GmiError where a defence, a search, a prior or a judge does not fit, if it can before any training."""
        found = Found({}, {}, {}, {}, promises(self.plan, self.people, self.prior), {})
        self._train()
        for cell in cells(self.plan):
            place, target = (cell.subject.name, cell.arm.name, cell.seed), self.target(cell)
            if place not in found.utility:
                self._refuse_dependent(cell, target)
                found.utility[place] = self._utility(cell, target)
                found.gradients[place] = self._gradients(cell, target)
            if cell.key not in found.sets:
                self._attack(cell, target, found)
        first = next(cells(self.plan))
        found.sets["random"] = self._recipe(first).random("random", WholeModel().open(self.target(first), None))
        return found

    def target(self, cell: Cell) -> Target:
        """That is attacked. Its profile, where it has one, is in the file `_profile`."""
        config = replace(cell.subject.target, defence=cell.arm.defence)
        with torch.random.fork_rng():
            module = config.build()
        state = self.run.read(cell.weights)
        module.load_state_dict(
            {name.removeprefix(_STATE): one for name, one in state.items() if name.startswith(_STATE)}
        )
        made = Target(module, config.input, self.people.names, frozenset(config.trained_on), config.penultimate)
        return made.to(self.device)

    def _refuse_dependent(self, cell: Cell, target: Target) -> None:
        searches = [attack.search for attack in self.plan.every_attack]
        taught = {repr(one): one for search in searches for one in students(search)}
        self.judges.refuse_dependent(target, None, self.plan.data.name, list(taught.values()))

    def _train(self) -> None:
        jobs = {cell.weights: cell for cell in cells(self.plan)}

        def compute(names: list[str]) -> Iterator[dict[str, Tensor]]:
            for cell in map(jobs.__getitem__, names):
                yield self._trained(cell.subject, cell.arm, cell.seed)

        self.run.each(jobs, compute, "train")

    def _trained(self, subject: Subject, arm: Arm, seed: int) -> dict[str, Tensor]:
        training, defence = replace(arm.training or subject.training, seed=seed), arm.defence or UNDEFENDED
        config, known = replace(subject.target, defence=arm.defence), self.people.training
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            module = config.build().to(self.device)
            training(module, config.input, known.bytes, defence.loss(module, known.classes), None, defence)
        return {f"{_STATE}{name}": value for name, value in module.state_dict().items()}

    def _recipe(self, cell: Cell) -> Attacker:
        attack = Attack(_seeded(cell), self.plan.selection, self.plan.batch, cell.seed)
        return Attacker(attack, self.prior, self.people, self.run, Hardware(self.device, self.autocast))

    def _guards(self, cell: Cell, target: Target) -> tuple[AnyGuard, ...]:
        """The arm's, with the profile of the target that they guard."""
        return tuple(
            replace(one, profile=str(self._profile(cell, target))) if isinstance(one, Stealthy) else one
            for one in cell.arm.guards
        )

    def _profile(self, cell: Cell, target: Target) -> Path:
        path = self.run.folder / "profiles" / f"{cell.weights}.safetensors"
        if not path.exists():
            self.run.write(str(path.relative_to(self.run.folder)), profile(target, self.people.training))
        return path

    def _attack(self, cell: Cell, target: Target, found: Found) -> None:
        """One cell."""
        recipe = self._recipe(cell)
        access = cell.attack.access.behind(self._guards(cell, target), cell.arm.shape)
        oracle: AnyOracle = access.open(target, self.run.folder / "ledgers" / cell.key)
        found.sets[cell.key] = images = recipe.attack(f"{cell.key}/search", oracle)
        with torch.no_grad():
            named = torch.cat([target(some.to(self.device)).argmax(1).cpu() for some in images.pixels.split(32)])
        found.named[cell.key] = (named == images.classes).double().mean().item()
        found.queries[cell.key] = sum(one.queries for one in recipe.spent.values())

    @torch.no_grad()
    def _utility(self, cell: Cell, target: Target) -> Utility:
        """Of what is shown, whatever an attack would be shown."""
        through = guard(self._guards(cell, target), target, target.digest.encode())
        shown = torch.cat(
            [
                cell.arm.shape(through(target(some.to(self.device).float() / 255).double().cpu(), some))
                for some in self.people.enrolment.bytes.split(32)
            ]
        )
        sure, named = shown.nan_to_num(0.0).max(1)
        return Utility((named == self.people.enrolment.classes).double(), sure)

    def _gradients(self, cell: Cell, target: Target) -> Flag:
        probed = self._recipe(cell).probe(WholeModel().open(target, None), name=f"checks/{cell.weights}")
        return dead_gradients(probed["gradients"])


def promises(plan: Comparison, people: People, prior: Prior) -> dict[tuple[str, str], Promise | None]:
    """By target and arm. Raises GmiError where a network, a defence, a training or a search does not fit."""
    known, found = people.training.classes, {}
    for subject in plan.targets:
        for arm in plan.arms_of(subject):
            config, defence = replace(subject.target, defence=arm.defence), arm.defence or UNDEFENDED
            training = arm.training or subject.training
            training.refuse(defence)
            with torch.random.fork_rng():
                module = config.build()
                defence.loss(module, known)
            found[subject.name, arm.name] = training.promise(defence, known)
            blank = Target(module, config.input, people.names)
            refuse_unfit(blank, people, features=False)
            for attack in (*plan.attacks, *arm.adaptive):
                refuse_misfit(attack.search, attack.access.open(blank, None), prior)
    return found


_STATE = "state."


def _seeded(cell: Cell) -> AnySearch:
    """The search; a student that it teaches has the cell's seed."""
    search = cell.attack.search
    if isinstance(search, Surrogate):
        return replace(search, training=replace(search.training, seed=cell.seed))
    return search
