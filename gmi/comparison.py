"""What each defence of a target buys and what it costs: each arm is trained, and attacked by everything, per seed.

An arm is a target under a defence, of its training or of its answers. Every arm meets the same attacks, and those of an
adversary who knows of the defence. What is done lies in the run folder, cell by cell, and is not done again.
"""

import re
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass as plain_dataclass
from dataclasses import replace
from functools import cached_property
from typing import Annotated

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from gmi.access import Access, AnyOracle, WholeModel
from gmi.checks import Flag, dead_gradients
from gmi.config import AnySearch, Audit, Count, Rate
from gmi.data import Faces, People
from gmi.defences import AnyDefence
from gmi.defences.base import Promise
from gmi.defences.serving import AnyGuard, Stealthy, guard
from gmi.judges.face import Dlib, FaceNet
from gmi.judging import Sets
from gmi.oracles.shape import Shape
from gmi.priors.diffusion import Diffusion
from gmi.priors.gan import Gan
from gmi.protocols import Prior, refuse_misfit
from gmi.reconstruct import Autocast, Recipe
from gmi.run import Run
from gmi.selection import Selection
from gmi.target import Target, TargetConfig
from gmi.training import UNDEFENDED, Head, Scratch
from gmi.utility import profile

Name = Annotated[str, Field(pattern=r"^\w[\w ,.+-]*$")]
Training = Annotated[Head | Scratch, Field(discriminator="type")]
OPEN = "undefended"


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Attack:
    """One level of access, and one search by it."""

    name: Name
    access: Access
    search: AnySearch


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Arm:
    """A defence: of the training, of what is answered, or of both.

    training: in place of the target's; None: that. guards, shape: what answers go through; a guard's profile is the
    arm's own. adaptive: attacks by an adversary who knows of this defence.
    """

    name: Name
    defence: AnyDefence | None = None
    training: Training | None = None
    guards: tuple[AnyGuard, ...] = ()
    shape: Shape = Shape()
    adaptive: tuple[Attack, ...] = ()

    @property
    def trained(self) -> str:
        """Whose weights the arm has: its own, or the undefended target's."""
        return OPEN if self.defence is None and self.training is None else self.name

    def access(self, asked: Access) -> Access:
        """That level of access, to the arm. A holder of the weights sees nothing of what changes the answers."""
        if isinstance(asked, WholeModel):
            return asked
        shaped = {"shape": self.shape} if hasattr(asked, "shape") and self.shape != Shape() else {}
        return replace(asked, defences=self.guards, **shaped)


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Subject:
    """A target to be defended, and how it is trained."""

    name: Name
    target: TargetConfig
    training: Training


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Comparison:
    """Targets by arms by attacks by seeds. The undefended arm is there without being named.

    seeds: of the training and of the attack. margin: of accuracy that a defence may cost and still be advised.
    judge, prior, selection, fmrs, batch: as in an audit.
    """

    name: str
    data: Faces
    targets: Annotated[tuple[Subject, ...], Field(min_length=1)]
    arms: Annotated[tuple[Arm, ...], Field(min_length=1)]
    attacks: Annotated[tuple[Attack, ...], Field(min_length=1)]
    prior: Annotated[Gan | Diffusion, Field(discriminator="type")]
    selection: Selection = Selection()
    judge: Annotated[Dlib | FaceNet, Field(discriminator="type")] = Dlib()
    fmrs: tuple[Rate, ...] = (1e-2, 1e-3)
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0, 1, 2)
    margin: Annotated[float, Field(ge=0, le=1)] = 0.05
    batch: Count = 20

    def __post_init__(self) -> None:
        for key, names in {
            "targets": [one.name for one in self.targets],
            "arms": [OPEN, *(one.name for one in self.arms)],
            "attacks": [one.name for one in (*self.attacks, *(more for arm in self.arms for more in arm.adaptive))],
            "seeds": [*self.seeds],
        }.items():
            if len(set(names)) < len(names):
                raise ValueError(f"{key}: two have one name (and one named {OPEN!r} is always there)")
        everything = [*self.attacks, *(more for arm in self.arms for more in arm.adaptive)]
        if any(getattr(one.access, "defences", ()) for one in everything):
            raise ValueError("attacks: access.defences is the arms': leave it out")

    @property
    def everyone(self) -> tuple[Arm, ...]:
        return (Arm(name=OPEN), *self.arms)


@plain_dataclass(frozen=True)
class Cell:
    """One attack on one arm of one target, for one seed."""

    subject: Subject
    arm: Arm
    attack: Attack
    seed: int

    @property
    def adaptive(self) -> bool:
        return self.attack in self.arm.adaptive

    @cached_property
    def access(self) -> Access:
        return self.arm.access(self.attack.access)

    @property
    def key(self) -> str:
        """Where it lies. What makes no difference to the adversary lies in one place."""
        behind = self.arm.name if self.access != self.attack.access else "open"
        return f"{self.subject.name}/{self.arm.trained}/{behind}/{self.attack.name}/{self.seed}"


def cells(plan: Comparison) -> Iterator[Cell]:
    """Every one, those of one arm together."""
    for subject in plan.targets:
        for arm in plan.everyone:
            for attack in (*plan.attacks, *arm.adaptive):
                for seed in plan.seeds:
                    yield Cell(subject, arm, attack, seed)


@plain_dataclass(frozen=True)
class Utility:
    """Of one arm for one seed, on enrolment images: what a user of the model has."""

    right: Tensor  # (M,) 0 or 1
    sure: Tensor  # (M,) the probability that is shown for the class that is named


@plain_dataclass(frozen=True)
class Found:
    """What a comparison found: images by `Cell.key`, and what is known of the arms."""

    sets: Sets
    named: dict[str, float]  # by key: the share that the target takes for their person
    queries: dict[str, int]
    utility: dict[tuple[str, str, int], Utility]  # by target, arm and seed
    promises: dict[tuple[str, str], Promise | None]  # by target and arm
    gradients: dict[tuple[str, str, int], Flag]


@plain_dataclass(frozen=True)
class Bench:
    """A comparison at work."""

    plan: Comparison
    people: People
    prior: Prior
    run: Run
    device: torch.device
    autocast: Autocast = nullcontext

    def __call__(self) -> Found:
        """Raises GmiError where a defence, a search or a prior does not fit, if it can, before anything is trained."""
        self._refuse_misfits()
        found = Found({}, {}, {}, {}, {}, {})
        self._train()
        for cell in cells(self.plan):
            place = (cell.subject.name, cell.arm.name)
            target = self.target(cell.subject, cell.arm, cell.seed)
            if (*place, cell.seed) not in found.utility:
                found.utility[*place, cell.seed] = self._utility(cell, target)
                found.gradients[*place, cell.seed] = self._gradients(cell, target)
            training = cell.arm.training or cell.subject.training
            found.promises[place] = training.promise(cell.arm.defence or UNDEFENDED, self.people.training.classes)
            self._attack(cell, target, found)
        first = next(cells(self.plan))
        nobody = WholeModel().open(self.target(first.subject, first.arm, first.seed), None)
        found.sets["random"] = self._recipe(first).random("random", nobody)
        return found

    def _refuse_misfits(self) -> None:
        for cell in cells(replace(self.plan, seeds=self.plan.seeds[:1])):
            config = cell.subject.target
            blank = Target(replace(config, defence=cell.arm.defence).build(), config.input, self.people.names)
            refuse_misfit(cell.attack.search, cell.attack.access.open(blank, None), self.prior)

    def target(self, subject: Subject, arm: Arm, seed: int) -> Target:
        config = replace(subject.target, defence=arm.defence)
        with torch.random.fork_rng():
            module = config.build()
        state = self.run.read(f"targets/{subject.name}/{arm.trained}/{seed}")
        module.load_state_dict({name[len(_STATE) :]: value for name, value in state.items() if name.startswith(_STATE)})
        made = Target(module, config.input, self.people.names, frozenset(config.trained_on), config.penultimate)
        return made.to(self.device)

    def _train(self) -> None:
        jobs = {
            f"targets/{subject.name}/{arm.trained}/{seed}": (subject, arm, seed)
            for subject in self.plan.targets
            for arm in self.plan.everyone
            for seed in self.plan.seeds
        }

        def compute(names: list[str]) -> Iterator[dict[str, Tensor]]:
            for subject, arm, seed in map(jobs.__getitem__, names):
                yield self._trained(subject, arm, seed)

        self.run.each(jobs, compute, "train")

    def _trained(self, subject: Subject, arm: Arm, seed: int) -> dict[str, Tensor]:
        training = replace(arm.training or subject.training, seed=seed)
        config, defence = replace(subject.target, defence=arm.defence), arm.defence or UNDEFENDED
        known = self.people.training
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            module = config.build().to(self.device)
            training(module, config.input, known.bytes, defence.lesson(module, known.classes), None, defence)
        state = {f"{_STATE}{name}": value for name, value in module.state_dict().items()}
        target = Target(module, config.input, self.people.names)
        return state | {"profile": profile(target, known)}

    def _recipe(self, cell: Cell) -> Recipe:
        plan, people = self.plan, self.people
        audit = Audit(
            name=plan.name,
            data=plan.data,
            target=cell.subject.target,
            prior=plan.prior,
            access=cell.access,
            search=cell.attack.search,
            selection=plan.selection,
            batch=plan.batch,
            seed=cell.seed,
        )
        coloured = people.enrolment.bytes.shape[1] == 3
        return Recipe(audit, self.run, self.prior, torch.tensor(people.attacked), coloured, self.device, self.autocast)

    def _profiled(self, cell: Cell) -> tuple[AnyGuard, ...]:
        """The arm's guards, with the profile of the target that they guard."""
        place = f"targets/{cell.subject.name}/{cell.arm.trained}/{cell.seed}"
        file = str(self.run.folder / "shards" / f"{place}.safetensors")
        return tuple(replace(one, profile=file) if isinstance(one, Stealthy) else one for one in cell.arm.guards)

    def _attack(self, cell: Cell, target: Target, found: Found) -> None:
        """One cell."""
        if cell.key in found.sets:
            return
        recipe, access = self._recipe(cell), cell.access
        if not isinstance(access, WholeModel):
            access = replace(access, defences=self._profiled(cell))
        folder = self.run.folder / "ledgers" / re.sub(r"[^a-z0-9]+", "-", cell.key.lower())
        oracle: AnyOracle = access.open(target, folder)
        pool = recipe.pool(f"{cell.key}/pool", oracle, range(self.plan.selection.pool))
        search = recipe.prepared(f"{cell.key}/prepare", oracle)
        found.sets[cell.key] = recipe(f"{cell.key}/search", oracle, search, pool)
        images, classes = found.sets[cell.key].images, found.sets[cell.key].classes
        with torch.no_grad():
            named = torch.cat([target(some.to(self.device)).argmax(1).cpu() for some in images.split(32)])
        found.named[cell.key] = (named == classes).double().mean().item()
        found.queries[cell.key] = sum(one.queries for one in recipe.spent.values())

    @torch.no_grad()
    def _utility(self, cell: Cell, target: Target) -> Utility:
        through = guard(self._profiled(cell), len(target.classes), target.digest.encode())
        enrolment = self.people.enrolment
        shown = torch.cat(
            [
                cell.arm.shape(through(target(some.to(self.device).float() / 255).double().cpu(), some))
                for some in enrolment.bytes.split(32)
            ]
        ).nan_to_num(0.0)
        sure, named = shown.max(1)
        return Utility((named == enrolment.classes).double(), sure)

    def _gradients(self, cell: Cell, target: Target) -> Flag:
        recipe = self._recipe(cell)
        name = f"checks/{cell.subject.name}/{cell.arm.trained}/{cell.seed}"
        return dead_gradients(recipe.probed(WholeModel().open(target, None), name=name)["gradients"])


_STATE = "state."
