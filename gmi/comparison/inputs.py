"""The inputs of a comparison, and the reasons to refuse them before anything is trained."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import sha256
from importlib.metadata import version

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from gmi.assets.catalogue import resolve
from gmi.assets.weights import contents
from gmi.audits import Hardware
from gmi.comparison.plan import Arm, Cell, Comparison, Subject
from gmi.data.people import People
from gmi.defences.base import Promise
from gmi.inversion.inputs import refuse_enrolled
from gmi.inversion.judging import Judges
from gmi.protocols import Prior
from gmi.search.signature import refuse_misfit
from gmi.search.strangers import digests
from gmi.targets.module import Target
from gmi.targets.quality import refuse_unfit
from gmi.training.targets import UNDEFENDED, try_step


@dataclass(frozen=True)
class Inputs:
    """The inputs of a comparison. Any objects with the right methods will do."""

    people: People
    prior: Prior
    judges: Judges  # one face recogniser
    files: tuple[str, ...] = ()  # read by defences
    named: dict[str, str] = field(default_factory=dict)  # digests of files of searches and the judge

    @property
    def digests(self) -> dict[str, JsonValue]:
        """The identity of a run folder, in addition to the configuration."""
        contents = {file: resolve(file) for file in self.files}
        return {
            "gmi": version("gmi"),
            "prior": self.prior.digest,
            "data": self.people.digest,
            **{file: sha256(path.read_bytes()).hexdigest() for file, path in contents.items() if path.exists()},
            **self.named,
            **{f"judge {judge.name}": judge.digest for judge in self.judges.trained},
        }


def load(plan: Comparison, hardware: Hardware) -> Inputs:
    """Everything that the configuration names. Raises GmiError where something is missing or broken."""
    return Inputs(
        people=plan.data.load(),
        prior=plan.prior.load(hardware.device),
        judges=Judges((plan.judge.load(hardware.device),)),
        files=tuple(file for arm in plan.arms if arm.defence is not None for file in arm.defence.files),
        named=digests(_searches(plan)) | contents(plan.judge),
    )


def refuse(plan: Comparison, inputs: Inputs) -> None:
    """Raises GmiError where a network, a defence, a training or a search does not fit, before any training."""
    refuse_enrolled(_searches(plan), inputs.people)
    for subject, arm in _arms(plan):
        defence, classes = arm.defence or UNDEFENDED, inputs.people.training.classes
        training = arm.training or subject.training
        training.refuse(defence)
        module = build(subject, arm)
        with torch.random.fork_rng():
            defence.loss(module, classes)
        training.promise(defence, classes)
        target = target_of(subject, module, inputs.people)
        refuse_unfit(target, inputs.people)
        for attack in (*plan.attacks, *arm.adaptive):
            refuse_misfit(attack.search, attack.access.open(target, None), inputs.prior)


def promises(plan: Comparison, classes: Tensor) -> dict[tuple[str, str], Promise | None]:
    """The guarantee of each arm's training on images of these classes (N,), by target and arm."""
    return {
        (subject.name, arm.name): (arm.training or subject.training).promise(arm.defence or UNDEFENDED, classes)
        for subject, arm in _arms(plan)
    }


def build(subject: Subject, arm: Arm) -> nn.Module:
    """The arm's network before it is trained."""
    with torch.random.fork_rng():
        return replace(subject.target, defence=arm.defence).build()


def target_of(subject: Subject, module: nn.Module, people: People) -> Target:
    """The target that a network makes."""
    config = subject.target
    return Target(module, config.input, people.names, frozenset(config.trained_on), config.penultimate)


def _searches(plan: Comparison) -> list[object]:
    """The searches of all attacks, those that know an arm's defence included."""
    return [attack.search for attack in itertools.chain(plan.attacks, *(arm.adaptive for arm in plan.arms))]


def _arms(plan: Comparison) -> Iterator[tuple[Subject, Arm]]:
    for subject in plan.targets:
        for arm in plan.arms_of(subject):
            yield subject, arm


def try_arms(trainings: Iterable[Cell], people: People, device: torch.device) -> None:
    """One step of every arm's training. Raises GmiError where one cannot be made."""
    arms = {(cell.subject.name, cell.arm.trained): cell for cell in trainings}
    for cell in arms.values():
        config = replace(cell.subject.target, defence=cell.arm.defence)
        training = cell.arm.training or cell.subject.training
        try_step(config, training, people.training.bytes, people.training.classes, device)
