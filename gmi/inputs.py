"""What an audit works on, as its configuration names it."""

from dataclasses import dataclass
from importlib.metadata import version

import torch
from pydantic import JsonValue

from gmi.assets import resolve
from gmi.config import Audit, training_digest
from gmi.data import People
from gmi.errors import GmiError
from gmi.judging import Judges
from gmi.protocols import Prior, shared_queries
from gmi.target import Target
from gmi.training import record_of


@dataclass(frozen=True)
class Inputs:
    """What an audit works on. Any objects with the right methods will do; `load` makes them from a configuration."""

    people: People
    target: Target
    prior: Prior
    judges: Judges
    guide: Target | None = None  # of the oracle projection; None: the target

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


def load(plan: Audit, device: torch.device) -> Inputs:
    """Reads everything the configuration names. Raises GmiError where something is missing, broken or does not fit."""
    people = plan.data.load()
    if plan.training is not None:
        _trained_so(plan, people)
    guide = None if plan.controls.guide is None else plan.controls.guide.load(people.names).to(device)
    target = plan.target.load(people.names).to(device)
    _fits(target, people, (plan.controls.oracle and guide is None) or shared_queries(plan.search) > 0)
    if guide is not None:
        _fits(guide, people, True)
    return Inputs(
        people=people,
        target=target,
        prior=plan.prior.load(device),
        judges=Judges(
            tuple(judge.load(device) for judge in plan.judges),
            None if plan.perceptual is None else plan.perceptual.load(device),
            None if plan.classifier is None else plan.classifier.load(device),
        ),
        guide=guide,
    )


def _trained_so(plan: Audit, people: People) -> None:
    """Raises GmiError unless the weights are those that the configuration's training makes of this split."""
    weights, record = plan.target.weights, record_of(plan.target)
    if weights is not None and not resolve(weights).exists():
        raise GmiError(f"There are no weights at {weights} yet: run pipelines/train_target.py with this configuration.")
    if record is None or (record.data_digest, record.config_digest) != (people.private_digest, training_digest(plan)):
        raise GmiError(
            "The target was trained on another split of the people or with other settings: run "
            "pipelines/train_target.py with this configuration again."
        )


def _fits(target: Target, people: People, features: bool) -> None:
    """One blank image. Raises GmiError where the network cannot take it, or has not one output a person."""
    blank = torch.zeros(1, *people.enrolment.bytes.shape[1:], device=next(target.module.parameters()).device)
    try:
        with torch.no_grad():
            target.activations(blank) if features else target(blank)
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise GmiError(
            f"The target cannot take an image: check target.input and target.penultimate ({error})."
        ) from error
