"""The inputs of an audit: people, target, prior and judges."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any

import torch
from pydantic import JsonValue

from gmi.assets.catalogue import resolve
from gmi.assets.weights import contents
from gmi.audits import Hardware
from gmi.data.people import People
from gmi.errors import GmiError
from gmi.inversion.judging import Judges
from gmi.inversion.plan import Audit
from gmi.protocols import FaceJudge, Prior
from gmi.search.signature import access, shared_queries
from gmi.search.strangers import Strangers, digests
from gmi.targets.module import ModuleTarget, Target
from gmi.targets.quality import refuse_unfit
from gmi.targets.served import Served
from gmi.targets.templates import TemplateTarget
from gmi.training.weights import refuse_untrained


@dataclass(frozen=True)
class Inputs:
    """The inputs of an audit. Any objects with the right methods will do; `load` makes them from a configuration."""

    people: People
    target: Target | Served
    prior: Prior
    judges: Judges
    guide: Target | None = None  # of the oracle projection; None: the target
    system: FaceJudge | None = None  # the recogniser whose templates leaked
    named: dict[str, JsonValue] = field(default_factory=dict)  # digests of files of searches and judges
    untrained: bool = False  # whether the target's weights are still to be made: it is there for a forecast alone

    @property
    def everyone(self) -> Judges:
        """The judges, and the system itself where its templates leaked."""
        if self.system is None:
            return self.judges
        return replace(self.judges, faces=(*self.judges.faces, self.system))

    @property
    def projector(self) -> Target:
        """The network whose features the oracle projection compares. Raises GmiError where there is no such network."""
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
        """What a run folder must be of, in addition to the configuration."""
        guide = None if self.guide is None else self.guide.digest
        return {
            "gmi": version("gmi"),
            "target": self.target.digest,
            "prior": self.prior.digest,
            "guide": guide,
            "data": self.people.digest,
            **({"named": self.named} if self.named else {}),
            **({"judges": {judge.name: judge.digest for judge in self.judges.trained}} if self.judges.trained else {}),
        }


def load(plan: Audit, hardware: Hardware) -> Inputs:
    """Everything that the configuration names. Raises GmiError where something is missing, broken or does not fit.

    Weights that are still to be trained are left out: `refuse` refuses such inputs.
    """
    people, device, system, untrained = plan.data.load(), hardware.device, None, False
    guide = None if plan.controls.guide is None else plan.controls.guide.load(people.names).to(device)
    if isinstance(plan.target, TemplateTarget):
        system = plan.target.recogniser.load(torch.device("cpu"))  # templates are the same on every device
        target = plan.target.load(people.names, people.training, system).to(device)
    else:
        existing = existing_target(plan)
        untrained = existing is not plan.target
        if not untrained:
            refuse_untrained(existing, plan.training, people)
        target = existing.load(people.names, True) if untrained else existing.load(people.names)
        target = target.to(device)
    if isinstance(target, Target):
        projected, steep = plan.controls.oracle and guide is None, access(plan.search) == "white-box"
        need = "search" if steep else "projection" if projected else None
        with hardware.autocast():
            refuse_unfit(target, people, projected or _uses_features(plan.search), need)
    if guide is not None:
        with hardware.autocast():
            refuse_unfit(guide, people, True, "projection" if plan.controls.oracle else None)
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
        named={**digests([plan.search]), **contents((*plan.judges, plan.perceptual, plan.classifier))},
        untrained=untrained,
    )
    if plan.controls.oracle:
        _ = inputs.projector
    return inputs


def refuse_enrolled(searches: Iterable[Any], people: People) -> None:
    """Raises GmiError where photographs of strangers, which a search asks about, are the people's own."""
    for search in searches:
        photographs: Strangers | None = getattr(search, "photographs", None)
        if photographs is not None and (same := sum(map(people.copied, photographs.parts()))):
            raise GmiError(
                f"search.photographs: {same} of its images show the audited people themselves, which no adversary "
                "has: name a folder of others."
            )


def _uses_features(search: Any) -> bool:
    return access(search) == "white-box" and (shared_queries(search) > 0 or getattr(search, "feature_weight", 0) > 0)


def existing_target(plan: Audit) -> Any:
    """The target, without weights that are still to be trained: a forecast needs the network's shape only."""
    target = plan.target
    if not isinstance(target, ModuleTarget) or plan.training is None or target.weights is None:
        return target
    return target if resolve(target.weights).exists() else replace(target, weights=None)
