"""What an audit works on, as its configuration names it."""

from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import torch
from pydantic import JsonValue

from gmi.assets.catalogue import resolve
from gmi.audits import Hardware
from gmi.data.people import People
from gmi.errors import GmiError
from gmi.inversion.judging import Judges
from gmi.inversion.plan import Audit
from gmi.protocols import FaceJudge, Prior
from gmi.search.signature import access, shared_queries
from gmi.targets.module import ModuleTarget, Target
from gmi.targets.served import Served
from gmi.targets.templates import TemplateTarget
from gmi.training.targets import Head, Scratch, record_of, training_digest


@dataclass(frozen=True)
class Inputs:
    """What an audit works on. Any objects with the right methods will do; `load` makes them from a configuration."""

    people: People
    target: Target | Served
    prior: Prior
    judges: Judges
    guide: Target | None = None  # of the oracle projection; None: the target
    system: FaceJudge | None = None  # the recogniser whose templates leaked

    @property
    def everyone(self) -> Judges:
        """The judges, and the system itself where its templates leaked."""
        if self.system is None:
            return self.judges
        return replace(self.judges, faces=(*self.judges.faces, self.system))

    @property
    def projector(self) -> Target:
        """Whose features the oracle projection compares. Raises GmiError where there is no such network."""
        if self.guide is not None:
            return self.guide
        if isinstance(self.target, Target):
            return self.target
        raise GmiError(
            "The oracle projection needs a network with weights in place of the served target's: name one in "
            "controls.guide, or set controls.oracle: false."
        )

    @property
    def digests(self) -> dict[str, JsonValue]:
        """What a run folder must be of, beside the configuration."""
        guide = None if self.guide is None else self.guide.digest
        return {
            "gmi": version("gmi"),
            "target": self.target.digest,
            "prior": self.prior.digest,
            "guide": guide,
            "data": self.people.digest,
        }


def load(plan: Audit, hardware: Hardware) -> Inputs:
    """Reads everything the configuration names. Raises GmiError where something is missing, broken or does not fit."""
    people, device, system = plan.data.load(), hardware.device, None
    guide = None if plan.controls.guide is None else plan.controls.guide.load(people.names).to(device)
    if isinstance(plan.target, TemplateTarget):
        system = plan.target.recogniser.load(device)
        target = plan.target.load(people.names, people.training, system).to(device)
    else:
        target = _existing(plan).load(people.names).to(device)
    if isinstance(target, Target):
        refuse_unfit(target, people, (plan.controls.oracle and guide is None) or _learns_features(plan.search))
    if guide is not None:
        refuse_unfit(guide, people, True)
    inputs = Inputs(
        people=people,
        target=target,
        prior=plan.prior.load(device),
        judges=Judges(
            tuple(judge.load(device) for judge in plan.judges),
            None if plan.perceptual is None else plan.perceptual.load(device),
            None if plan.classifier is None else plan.classifier.load(device),
        ),
        guide=guide,
        system=system,
    )
    if plan.controls.oracle:
        _ = inputs.projector
    return inputs


def _learns_features(search: Any) -> bool:
    return access(search) == "white-box" and shared_queries(search) > 0


def _existing(plan: Audit) -> Any:
    """The target, without weights that are still to be trained: a forecast needs the network's shape only."""
    target = plan.target
    if not isinstance(target, ModuleTarget) or plan.training is None or target.weights is None:
        return target
    return target if resolve(target.weights).exists() else replace(target, weights=None)


def refuse_untrained(target: object, training: Head | Scratch | None, people: People) -> None:
    """Raises GmiError unless the weights are those that the configuration's training makes of this split."""
    if training is None or not isinstance(target, ModuleTarget):
        return
    weights, record = target.weights, record_of(target)
    if weights is not None and not resolve(weights).exists():
        raise GmiError(f"There are no weights at {weights} yet: run pipelines/train_target.py with this configuration.")
    asked = (people.private_digest, training_digest(target, training))
    if record is None or (record.data_digest, record.config_digest) != asked:
        raise GmiError(
            "The target was trained on another split of the people, with other settings or by another gmi: run "
            "pipelines/train_target.py with this configuration again."
        )


def refuse_unfit(target: Target, people: People, features: bool) -> None:
    """One blank image. Raises GmiError where the network cannot take it, or has not one output a person."""
    blank = torch.zeros(1, *people.enrolment.bytes.shape[1:], device=next(target.module.parameters()).device)
    try:
        with torch.no_grad():
            target.activations(blank) if features else target(blank)
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise GmiError(
            f"The target cannot take an image: check target.input and target.penultimate ({error})."
        ) from error
