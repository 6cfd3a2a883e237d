"""The plan of a comparison: targets by arms by attacks by seeds.

An arm is a target under a defence, of its training or of its answers. All arms meet the same attacks, and those that
they name themselves, of an adversary who knows of the defence; the undefended target meets them all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from gmi.data.people import Faces
from gmi.defences import AnyDefence
from gmi.defences.dp_sgd import DpSgd
from gmi.evidence.handling import AnyHandling, Handling
from gmi.judges import AnyFaceJudge, refuse_faces
from gmi.judges.face import Dlib
from gmi.oracles.access import Access
from gmi.oracles.guards import AnyGuard, Stealthy
from gmi.oracles.shape import Shape
from gmi.priors import AnyPrior
from gmi.search import AnySearch
from gmi.search.attack import refuse_few
from gmi.search.selection import Selection
from gmi.settings import OPERATIONAL, Count, Positive, Rate, Share, Whole, settings
from gmi.targets.authorisation import Authorisation
from gmi.targets.module import ModuleTarget
from gmi.tracking import Tracker
from gmi.training.targets import Head, Scratch

Name = Annotated[str, Field(pattern=r"^\w[\w ,.+-]*$")]
Training = Annotated[Head | Scratch, Field(discriminator="type")]
OPEN = "undefended"
"""The name of the arm that is always there."""


@settings
class NamedAttack:
    """One search by one level of access."""

    name: Name  # what the page calls it
    access: Access  # what the adversary gets of the model; its defences are the arms'
    search: AnySearch  # how it looks for people


@settings
class Arm:
    """A defence: of the training, of the answers, or of both."""

    name: Name  # what the page calls it
    targets: tuple[Name, ...] | None = None  # names of the targets that it is for; None: all
    defence: AnyDefence | None = None  # of the training; None: the training is undefended
    training: Training | None = None  # in place of the target's own training; None: that one
    guards: tuple[AnyGuard, ...] = ()  # what answers go through; profiles are made here
    shape: Shape = Shape()  # what is shown of the answers
    adaptive: tuple[NamedAttack, ...] = ()  # attacks by an adversary who knows of this defence

    def __post_init__(self) -> None:
        if isinstance(self.defence, DpSgd) and any(isinstance(guard, Stealthy) for guard in self.guards):
            raise ValueError("guards: what stealthy answers with is made of training images, which dp-sgd protects")

    @property
    def trained(self) -> str:
        """The arm whose weights this one has: itself, or the undefended one."""
        return OPEN if self.defence is None and self.training is None else self.name

    @property
    def guarded(self) -> bool:
        """True if its answers differ from its target's."""
        return bool(self.guards) or self.shape != Shape()


@settings
class Subject:
    """A target to be defended."""

    name: Name  # what the page calls it
    target: ModuleTarget  # the network, without weights and without a defence
    training: Training  # how each arm is trained that has no training of its own


@settings
class Comparison:
    """Targets by arms by attacks by seeds."""

    name: str  # the run folder is runs/NAME
    data: Faces  # the people, whose training images the targets learn
    targets: Annotated[tuple[Subject, ...], Field(min_length=1)]  # the targets to be defended
    authorisation: Annotated[Authorisation | None, OPERATIONAL] = None  # who allowed it; recorded in the report
    evidence: AnyHandling = Handling()  # what happens to what shows people: kept, sealed, or "none"
    track: Annotated[tuple[Tracker, ...], OPERATIONAL] = ()  # trackers of experiments that get the figures
    arms: Annotated[tuple[Arm, ...], Field(min_length=1)]  # the defences; the undefended arm needs no entry
    attacks: Annotated[tuple[NamedAttack, ...], Field(min_length=1)]  # what every arm meets
    prior: AnyPrior  # the generator that attacks search
    selection: Selection = Selection()  # which candidates are started from, and which are released
    judge: AnyFaceJudge = Dlib()  # the independent face recogniser
    fmrs: tuple[Rate, ...] = (1e-2, 1e-3)  # false match rates at which matches are counted
    seeds: Annotated[tuple[Whole, ...], Field(min_length=1)] = (0, 1, 2)  # each trains and attacks anew
    margin: Share = 0.05  # accuracy that a defence may cost and still be advised
    # candidates at once in one process; no finding depends on it beyond rounding
    batch: Count = 20
    # GB that searches may take in one process: as in an audit
    memory: Annotated[Positive | None, OPERATIONAL] = None

    def __post_init__(self) -> None:
        for key, names in {
            "targets": [subject.name for subject in self.targets],
            "arms": [OPEN, *(arm.name for arm in self.arms)],
            "attacks": [attack.name for attack in self.every_attack],
            "seeds": [*self.seeds],
        }.items():
            if len(set(names)) < len(names):
                raise ValueError(f"{key}: two have one name (and one named {OPEN!r} is always there)")
        refuse_faces([self.judge], self.data.subject)
        for attack in self.every_attack:
            refuse_few(attack.search, self.selection)
        if any(getattr(attack.access, "defences", ()) for attack in self.every_attack):
            raise ValueError("attacks: access.defences is the arms': leave it out")
        if any(attack.access.budget is not None for attack in self.every_attack):
            raise ValueError("attacks: a comparison has no budget: leave access.budget out")
        targets = [subject.target for subject in self.targets]
        if any((target.defence, target.weights, target.outputs) != (None, None, None) for target in targets):
            raise ValueError("targets: defences are the arms', weights are trained here: leave both and outputs out")
        names = {subject.name for subject in self.targets}
        if any(not names.issuperset(arm.targets or ()) for arm in self.arms):
            raise ValueError(f"arms: there are no targets but {', '.join(sorted(names))}")

    @property
    def every_attack(self) -> list[NamedAttack]:
        """The attacks, those that know of a defence included; one that several arms name is there once."""
        return [*self.attacks, *_distinct(self.arms)]

    def arms_of(self, subject: Subject) -> list[Arm]:
        """The arms of one target. The undefended one comes first; it meets all attacks that know of a defence, too."""
        arms = [arm for arm in self.arms if arm.targets is None or subject.name in arm.targets]
        return [Arm(name=OPEN, adaptive=tuple(_distinct(arms))), *arms]


def _distinct(arms: Sequence[Arm]) -> list[NamedAttack]:
    """The attacks that know of a defence, each once."""
    attacks: list[NamedAttack] = []
    for attack in (adaptive for arm in arms for adaptive in arm.adaptive):
        if attack not in attacks:
            attacks.append(attack)
    return attacks


@dataclass(frozen=True)
class Cell:
    """One attack on one arm of one target, for one seed."""

    subject: Subject
    arm: Arm
    attack: NamedAttack
    seed: int

    @property
    def adaptive(self) -> bool:
        """True if the attack knows of the arm's defence."""
        return self.arm.name != OPEN and self.attack in self.arm.adaptive

    @property
    def access(self) -> Access:
        """The attack's access to the arm's answers."""
        return self.attack.access.behind(self.arm.guards, self.arm.shape)

    @property
    def weights(self) -> str:
        """The piece of work that holds the attacked target's weights."""
        return f"targets/{self.subject.name}/{self.arm.trained}/{self.seed}"

    @property
    def key(self) -> str:
        """The pieces of work of the attack; cells between which the adversary sees no difference share them."""
        behind = "open" if self.access == self.attack.access else f"behind {self.arm.name}"
        return f"{self.subject.name}/{self.arm.trained}/{behind}/{self.attack.name}/{self.seed}"


def cells(plan: Comparison) -> Iterator[Cell]:
    """Every cell, those of one arm together."""
    for subject in plan.targets:
        for arm in plan.arms_of(subject):
            for attack in (*plan.attacks, *arm.adaptive):
                for seed in plan.seeds:
                    yield Cell(subject, arm, attack, seed)
