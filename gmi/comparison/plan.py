"""What is compared: targets by defences by attacks by seeds.

An arm is a target under a defence, of its training or of its answers. Every arm meets the same attacks, and those that
its block names of an adversary who knows of the defence; the undefended target meets them all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass as plain_dataclass
from typing import Annotated

from pydantic import Field

from gmi.data.people import Faces
from gmi.defences import AnyDefence
from gmi.defences.dp_sgd import DpSgd
from gmi.inversion.plan import AnySearch, Count, Rate
from gmi.judges.face import Dlib, FaceNet
from gmi.oracles.access import Access
from gmi.oracles.guards import AnyGuard, Stealthy
from gmi.oracles.shape import Shape
from gmi.priors.diffusion import Diffusion
from gmi.priors.gan import Gan
from gmi.search.selection import Selection
from gmi.settings import Share, Whole, settings
from gmi.targets.module import ModuleTarget
from gmi.training.targets import Head, Scratch

Name = Annotated[str, Field(pattern=r"^\w[\w ,.+-]*$")]
Training = Annotated[Head | Scratch, Field(discriminator="type")]
OPEN = "undefended"


@settings
class Attack:
    """One level of access, and one search by it."""

    name: Name
    access: Access
    search: AnySearch


@settings
class Arm:
    """A defence: of the training, of what is answered, or of both.

    targets: names of those that it is for; None: all. training: in place of the target's; None: that. guards, shape:
    what answers go through; a guard's profile is the arm's own. adaptive: attacks by one who knows of this defence.
    """

    name: Name
    targets: tuple[Name, ...] | None = None
    defence: AnyDefence | None = None
    training: Training | None = None
    guards: tuple[AnyGuard, ...] = ()
    shape: Shape = Shape()
    adaptive: tuple[Attack, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.defence, DpSgd) and any(isinstance(one, Stealthy) for one in self.guards):
            raise ValueError("guards: what stealthy answers with is made of training images, which dp-sgd protects")

    @property
    def trained(self) -> str:
        """Whose weights the arm has: its own, or the undefended target's."""
        return OPEN if self.defence is None and self.training is None else self.name

    @property
    def guarded(self) -> bool:
        """Whether its answers are others than its target's."""
        return bool(self.guards) or self.shape != Shape()


@settings
class Subject:
    """A target to be defended, and how it is trained."""

    name: Name
    target: ModuleTarget
    training: Training


@settings
class Comparison:
    """Targets by arms by attacks by seeds. The undefended arm is there without being named.

    seeds: of the trainings and of the attacks. margin: of accuracy that a defence may cost and still be advised.
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
    seeds: Annotated[tuple[Whole, ...], Field(min_length=1)] = (0, 1, 2)
    margin: Share = 0.05
    batch: Count = 20

    def __post_init__(self) -> None:
        for key, names in {
            "targets": [one.name for one in self.targets],
            "arms": [OPEN, *(one.name for one in self.arms)],
            "attacks": [one.name for one in self.every_attack],
            "seeds": [*self.seeds],
        }.items():
            if len(set(names)) < len(names):
                raise ValueError(f"{key}: two have one name (and one named {OPEN!r} is always there)")
        if any(getattr(one.access, "defences", ()) for one in self.every_attack):
            raise ValueError("attacks: access.defences is the arms': leave it out")
        if any(one.access.budget is not None for one in self.every_attack):
            raise ValueError("attacks: a comparison has no budget: leave access.budget out")
        if any(one.target.defence is not None or one.target.weights is not None for one in self.targets):
            raise ValueError("targets: defences are the arms', and weights are trained here: leave both out")
        known = {one.name for one in self.targets}
        if any(not known.issuperset(arm.targets or ()) for arm in self.arms):
            raise ValueError(f"arms: there are no targets but {', '.join(sorted(known))}")

    @property
    def every_attack(self) -> list[Attack]:
        """One that several arms name is one."""
        return [*self.attacks, *_different(self.arms)]

    def arms_of(self, subject: Subject) -> list[Arm]:
        """The undefended one first, which meets the attacks that know of any defence, too."""
        mine = [arm for arm in self.arms if arm.targets is None or subject.name in arm.targets]
        return [Arm(name=OPEN, adaptive=tuple(_different(mine))), *mine]


def _different(arms: Sequence[Arm]) -> list[Attack]:
    """Attacks that know of a defence, each once."""
    found: list[Attack] = []
    for one in (more for arm in arms for more in arm.adaptive):
        if one not in found:
            found.append(one)
    return found


@plain_dataclass(frozen=True)
class Cell:
    """One attack on one arm of one target, for one seed."""

    subject: Subject
    arm: Arm
    attack: Attack
    seed: int

    @property
    def adaptive(self) -> bool:
        """Whether the attack knows of the arm's defence."""
        return self.arm.name != OPEN and self.attack in self.arm.adaptive

    @property
    def access(self) -> Access:
        return self.attack.access.behind(self.arm.guards, self.arm.shape)

    @property
    def weights(self) -> str:
        """Where the weights lie of the target that is attacked."""
        return f"targets/{self.subject.name}/{self.arm.trained}/{self.seed}"

    @property
    def key(self) -> str:
        """Where it lies. What makes no difference to the adversary lies in one place."""
        behind = "open" if self.access == self.attack.access else f"behind {self.arm.name}"
        return f"{self.subject.name}/{self.arm.trained}/{behind}/{self.attack.name}/{self.seed}"


def cells(plan: Comparison) -> Iterator[Cell]:
    """Every one, those of one arm together."""
    for subject in plan.targets:
        for arm in plan.arms_of(subject):
            for attack in (*plan.attacks, *arm.adaptive):
                for seed in plan.seeds:
                    yield Cell(subject, arm, attack, seed)
