"""Levels of access to the model, as a configuration names them: from its weights to nothing but a label.

`open` gives the oracle; its ledger is in the run folder, or in memory where there is none (None). It raises GmiError
where the target itself gives less.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from gmi.errors import GmiError
from gmi.oracles.guards import AnyGuard, guard
from gmi.oracles.interface import Comparison, Embeddings, Labels, Scores, Similarities, Verification
from gmi.oracles.ledger import Ledger, Repeats
from gmi.oracles.local import Model, WhiteBox, WhiteBoxRecogniser
from gmi.oracles.shape import Shape
from gmi.processes import machines
from gmi.settings import OPERATIONAL, Count, settings
from gmi.targets.module import Target
from gmi.targets.served import Comparer, Requests, Served, Service
from gmi.targets.templates import Matcher, templates_of, verifier_of


@settings
class WholeModel:
    """The weights: logits, features and their gradients."""

    type: Literal["white-box"] = "white-box"
    budget: Annotated[None, OPERATIONAL] = None  # always None: who has the weights may ask any number

    def __str__(self) -> str:
        return "white-box"

    def behind(self, guards: tuple[AnyGuard, ...], shape: Shape) -> "WholeModel":
        """The same access: who holds the weights sees nothing of what changes answers."""
        return self

    def open(self, target: Target | Served, folder: Path | None) -> WhiteBox:
        if isinstance(target, Served):
            raise GmiError(
                "This target has no weights to take, only answers: choose access: {type: scores} or {type: labels}, or "
                "{type: embeddings} of a recogniser."
            )
        return WhiteBoxRecogniser(target) if isinstance(target.module, Matcher) else WhiteBox(target)


@settings
class ScoresOnly:
    """Confidences, or how alike an image and each enrolled person are, as an interface shows them."""

    type: Literal["scores"] = "scores"
    # what is shown of a target in this process; a served one shows what it shows, and `decimals` says how finely
    shape: Shape = Shape()
    defences: tuple[AnyGuard, ...] = ()  # what the output of a target in this process goes through before
    # images that may be asked in all, those of checks, selection and controls included; None: any number
    budget: Annotated[Count | None, OPERATIONAL] = None
    # whether an image is answered from the ledger when it comes again ("free"), or asked and charged anew ("asked")
    repeats: Repeats = "free"

    def __str__(self) -> str:
        return f"score{self.shape}{_named(self.defences)}"

    def behind(self, guards: tuple[AnyGuard, ...], shape: Shape) -> "ScoresOnly":
        """The same access to what goes through these, and then a shape, if it shows less than everything."""
        return replace(self, defences=guards, shape=self.shape if shape == Shape() else shape)

    def open(self, target: Target | Served, folder: Path | None) -> Scores | Similarities:
        if isinstance(target, Served) and self.shape.temperature != 1:
            raise GmiError("access.shape.temperature: a served target has its own: leave it out.")
        _refuse_another(target, self.defences)
        people, ledger = len(target.classes), _ledger(self, folder)
        if isinstance(target, Served) and target.gives == "similarities":
            return Similarities(_Cut(target.scores(), self.shape), ledger, people)
        if isinstance(target, Target) and isinstance(target.module, Matcher):
            scale = target.module.scale
            shown = _shown(target, self.defences, lambda logits: self.shape.cut(logits / scale))
            return Similarities(shown, ledger, people)
        service = target.scores() if isinstance(target, Served) else _shown(target, self.defences, self.shape)
        return Scores(service, ledger, people, self.shape)


@settings
class LabelsOnly:
    """The predicted class."""

    type: Literal["labels"] = "labels"
    defences: tuple[AnyGuard, ...] = ()  # what the output of a target in this process goes through before
    # images that may be asked in all, those of checks, selection and controls included; None: any number
    budget: Annotated[Count | None, OPERATIONAL] = None
    # whether an image is answered from the ledger when it comes again ("free"), or asked and charged anew ("asked")
    repeats: Repeats = "free"

    def __str__(self) -> str:
        return f"label-only{_named(self.defences)}"

    def behind(self, guards: tuple[AnyGuard, ...], shape: Shape) -> "LabelsOnly":
        """The same access to what goes through these."""
        return replace(self, defences=guards)

    def open(self, target: Target | Served, folder: Path | None) -> Labels:
        _refuse_another(target, self.defences)
        service = target.labels() if isinstance(target, Served) else _shown(target, self.defences, _winner)
        return Labels(service, _ledger(self, folder), len(target.classes))


@settings
class VerificationOnly:
    """A recogniser's yes or no to an image and a claimed person, at the system's threshold; perhaps with a number.

    The commonest biometric interface. A query is an image with one claim.
    """

    type: Literal["verification"] = "verification"
    numbers: bool = False  # whether the similarity by which it decides is shown
    # images that may be asked in all, those of checks, selection and controls included; None: any number
    budget: Annotated[Count | None, OPERATIONAL] = None
    # whether a claim is answered from the ledger when it comes again ("free"), or asked and charged anew ("asked")
    repeats: Repeats = "free"

    def __str__(self) -> str:
        return "verification by numbers" if self.numbers else "verification"

    def behind(self, guards: tuple[AnyGuard, ...], shape: Shape) -> "VerificationOnly":
        """The same access. Raises GmiError where there are guards, which are made for scores."""
        if guards:
            raise GmiError("access: what guards scores does not guard decisions: leave this attack out.")
        return self

    def open(self, target: Target | Served, folder: Path | None) -> Verification:
        verifier, ledger, people = verifier_of(target), _ledger(self, folder), len(target.classes)
        if not self.numbers:
            return Verification(verifier, ledger, people)
        if not isinstance(verifier, Comparer):
            raise GmiError("access.numbers: the target decides and shows no number: leave it out.")
        return Comparison(verifier, ledger, people)


@settings
class EmbeddingsOnly:
    """The templates that a recogniser makes of images."""

    type: Literal["embeddings"] = "embeddings"
    # images that may be asked in all, those of checks, selection and controls included; None: any number
    budget: Annotated[Count | None, OPERATIONAL] = None
    # whether an image is answered from the ledger when it comes again ("free"), or asked and charged anew ("asked")
    repeats: Repeats = "free"

    def __str__(self) -> str:
        return "embedding"

    def behind(self, guards: tuple[AnyGuard, ...], shape: Shape) -> "EmbeddingsOnly":
        """The same access. Raises GmiError where there are guards, which are made for scores."""
        if guards:
            raise GmiError("access: what guards scores does not guard embeddings: leave this attack out.")
        return self

    def open(self, target: Target | Served, folder: Path | None) -> Embeddings:
        service = templates_of(target)
        return Embeddings(service, _ledger(self, folder), len(target.classes), service.compare)


AnyOracle = WhiteBox | Scores | Similarities | Labels | Embeddings | Verification
Access = Annotated[
    WholeModel | EmbeddingsOnly | ScoresOnly | LabelsOnly | VerificationOnly, Field(discriminator="type")
]


def reach(access: Access) -> Literal["api", "weights"]:
    """How who has this access reaches the model: through an interface that answers, or by its weights."""
    return "weights" if isinstance(access, WholeModel) else "api"


def claims(access: Access, people: int) -> int:
    """Queries for an image that is asked about for everybody: where people are claimed, one for each of so many."""
    return people if isinstance(access, VerificationOnly) else 1


@dataclass(frozen=True)
class _Cut:
    """A service of similarities (N, K), of which only a part is shown."""

    service: Service
    shape: Shape

    @property
    def requests(self) -> Requests:
        return self.service.requests

    def __call__(self, images: Tensor) -> Tensor:
        return self.shape.cut(self.service(images))


def _winner(logits: Tensor) -> Tensor:
    """The predicted classes (N, 1)."""
    return logits.argmax(1, keepdim=True).to(torch.float64)


def _shown(target: Target, defences: Sequence[AnyGuard], show: Callable[[Tensor], Tensor]) -> Model:
    """The target as the service behind an interface. Its digest is the defences' secret: an audit is to be repeated."""
    through = guard(defences, target, target.digest.encode())
    return Model(target, lambda logits, images: show(through(logits, images)))


def _named(defences: Sequence[AnyGuard]) -> str:
    return f" behind {', '.join(map(str, defences))}" if defences else ""


def _refuse_another(target: Target | Served, defences: Sequence[AnyGuard]) -> None:
    if isinstance(target, Served) and defences:
        raise GmiError("access.defences: a served target has its own: leave them out.")


def _ledger(access: EmbeddingsOnly | ScoresOnly | LabelsOnly | VerificationOnly, folder: Path | None) -> Ledger:
    """The ledger in the run folder, or in memory where there is none yet. Raises GmiError on several machines."""
    if machines() > 1:
        raise GmiError(
            f"One machine keeps the ledger of queries, and {machines()} share this run: start it on one, with as many "
            "processes as you like. An adversary with the whole model needs no ledger."
        )
    path = None if folder is None else folder / "ledger.sqlite"
    return Ledger(path, access.budget, access.repeats)
