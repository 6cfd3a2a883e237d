"""Targets that only answer: behind an API, or in a file that is run and not opened."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from gmi.errors import GmiError
from gmi.settings import identity
from gmi.targets.outputs import Outputs


class Busy(Exception):
    """The service does not answer now, but may later."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        """after: seconds that the service asks to wait; None: it does not say."""
        super().__init__(reason)
        self.after = after


class Unreached(Busy):
    """The service cannot be reached now, but may be later: nothing was sent."""


class Unsent(GmiError):
    """A request that cannot be sent, and that no retry mends: nothing was sent."""


class Requests(NamedTuple):
    """The form of requests that a service takes."""

    batch: int = 64  # images in one request
    concurrency: int = 1  # requests at the same time
    retries: int = 0  # of one request without an answer


class Service(Protocol):
    """Answers images (N, C, H, W), given as bytes, with float64 (N, D) on the CPU.

    Raises Busy if it may answer later, GmiError if a retry would be in vain.
    """

    @property
    def requests(self) -> Requests:
        """The form of its requests."""
        ...

    def __call__(self, images: Tensor) -> Tensor: ...


class Verifier(Protocol):
    """A service that decides whether an image passes for a claimed person. Raises as a `Service` does."""

    @property
    def requests(self) -> Requests:
        """The form of its requests."""
        ...

    def decide(self, images: Tensor, claims: Tensor) -> Tensor:
        """Float64 (N, 1), 1 where images (N, C, H, W), given as bytes, pass for these people (N,), else 0."""
        ...


@runtime_checkable
class Comparer(Verifier, Protocol):
    """A verifier that shows the number by which it decides."""

    @property
    def threshold(self) -> float:
        """The least similarity that passes."""
        ...

    def compare(self, images: Tensor, claims: Tensor) -> Tensor:
        """Float64 (N, 1): how alike images (N, C, H, W), given as bytes, and these people (N,) are; NaN: not shown."""
        ...


@dataclass(frozen=True)
class Deciding:
    """A `Comparer` that decides at a threshold."""

    compared: Callable[[Tensor, Tensor], Tensor]  # as `compare`, whatever it answers
    threshold: float
    requests: Requests
    silent: bool = False  # whether it may show no number of an image, as of one without a face: NaN

    def compare(self, images: Tensor, claims: Tensor) -> Tensor:
        """Float64 (N, 1): how alike images (N, C, H, W), given as bytes, and these people (N,) are; NaN: not shown.

        Raises GmiError where the answers are not that.
        """
        answers = self.compared(images, claims)
        if answers.shape != (len(images), 1) or answers.isinf().any():
            raise GmiError(
                f"The model answered {len(images)} claims with numbers of shape {tuple(answers.shape)}, not with one "
                "that is finite for each: name in target the output that is the similarity."
            )
        if answers.isnan().any() and not self.silent:
            raise GmiError(
                "The model answered a claim without a number: say in target.nobody how it shows that it sees no face."
            )
        return answers

    def decide(self, images: Tensor, claims: Tensor) -> Tensor:
        """1 (N, 1) where images (N, C, H, W), given as bytes, pass for these people (N,), else 0."""
        return (self.compare(images, claims) >= self.threshold).double()


_ROWS = 8  # answers from which on it is seen that logits are none
Answers = Literal["probabilities", "percentages", "logits", "labels", "similarities"]
Gives = Literal[Answers, "decisions"]


@dataclass(frozen=True)
class Served:
    """A target that is only asked; it takes the place of a `Target`."""

    service: Service
    # meaning of an answer: a number for each output, NaN for hidden ones; the number of an output; 1 for yes, 0 for no
    gives: Gives
    classes: tuple[str, ...]  # names of the people (K,)
    digest: str  # SHA-256 of its name and settings, since its weights are unknown
    trained_on: frozenset[str] = frozenset()  # names of data sets besides the private one
    rate: float | None = None  # most images per second; None: no limit
    outputs: Outputs | None = None  # whom the outputs mean; None: they are the people in their order
    parameters: tuple[Tensor, ...] = ()  # the weights, where the model is a file that holds them
    verifier: Verifier | None = None  # that of a model which is asked about a claimed person; None: it is not
    silent: bool = False  # whether it may show nothing of an image, as of one without a face: a row of NaN

    def __post_init__(self) -> None:
        if self.gives == "labels" and len(self.order.names) > len(self.classes):
            raise GmiError(
                "target.outputs names outputs of nobody, and a target that gives labels alone answers with them: audit "
                "it with all its classes as people."
            )

    @property
    def order(self) -> Outputs:
        """Whom the outputs mean."""
        return Outputs.sorted(self.classes) if self.outputs is None else self.outputs

    def weights(self) -> Iterable[Tensor]:
        """The weights, to compare with a judge's; none where they cannot be read."""
        return self.parameters

    def to(self, device: torch.device) -> "Served":
        """The target itself: it runs elsewhere."""
        return self

    def scores(self) -> Service:
        """A service of probabilities, or similarities where the target gives them (N, K), NaN for hidden classes.

        Raises GmiError if there are labels only, or answers to claims.
        """
        self._refuse_claims()
        if self.gives == "labels":
            raise GmiError("The target gives labels only: choose access: {type: labels}.")
        return _Reading(self)

    def labels(self) -> Service:
        """A service of predicted classes (N, 1). Raises GmiError if it answers claims only."""
        self._refuse_claims()
        return _Reading(self, labels=True)

    def _refuse_claims(self) -> None:
        if self.verifier is not None:
            raise GmiError("The target answers about a claimed person only: choose access: {type: verification}.")


@dataclass(frozen=True)
class _Reading:
    """A service that checks the target's answers and converts them to probabilities or labels."""

    served: Served
    labels: bool = False

    @property
    def requests(self) -> Requests:
        return self.served.service.requests

    def __call__(self, images: Tensor) -> Tensor:
        answers, gives, outputs = self.served.service(images), self.served.gives, self.served.order
        count = len(outputs.names)
        expected = (len(images), 1 if gives == "labels" else count)
        unseen = answers.isnan().all(1).any() and not self.served.silent
        if gives != "labels" and answers.ndim == 2 and 1 < answers.shape[1] < count:
            raise GmiError(
                f"The model answered an image with {answers.shape[1]} numbers, and {count} classes are expected: if "
                "they are of its likeliest ones, say where these are (target.places, or pairs of a class and its "
                "number in target.answers); if it knows fewer people than data.folder holds, audit those that it knows."
            )
        if tuple(answers.shape) != expected or answers.isinf().any() or unseen:
            raise GmiError(
                f"The model answered {len(images)} images with numbers of shape {tuple(answers.shape)}, or with none "
                f"that is finite, where {expected} is expected: target.gives is wrong, or it has not the data's "
                f"{count} classes (target.outputs names them where it has others, too)."
            )
        if gives == "labels":
            if not ((answers >= 0) & (answers < count) & (answers == answers.floor())).all():
                raise GmiError(f"The model answered with labels that are no numbers from 0 to {count - 1}.")
            return outputs.people(answers)
        _refuse_otherwise(answers, gives)
        if gives == "percentages":
            answers = answers / 100
        answers = outputs.of_people(answers)
        if gives == "similarities" and not self.labels:
            return answers
        nobody, people = answers.isnan().all(1, keepdim=True), len(self.served.classes)  # nobody of them is shown
        if self.labels:  # a tie between all, which the image decides, so that it does not favour one of them
            tied = images.long().flatten(1).sum(1, keepdim=True) % people
            return torch.where(nobody, tied, answers.nan_to_num(-torch.inf).argmax(1, keepdim=True)).double()
        answers = torch.where(nobody, 1 / people, answers)
        if gives == "logits":
            if answers.isnan().any():
                raise GmiError(
                    "The model answered with logits of some classes only, which say nothing: take its labels."
                )
            return answers.softmax(1)
        return answers


def _refuse_otherwise(answers: Tensor, gives: Gives) -> None:
    """Raises GmiError where numbers (N, D) are seen to mean something else than is said."""
    most = {"probabilities": 1.0, "percentages": 100.0}.get(gives)
    if most is not None and ((answers < -1e-6) | (answers > most * (1 + 1e-6))).any():
        hundredths = most == 1 and (_add_up(answers, 100) or (answers.isnan().any() and not (answers < 0).any()))
        sure = "logits" if not hundredths else "percentages" if _add_up(answers, 100) else "percentages, or logits"
        raise GmiError(f"The model answered with numbers that are no {gives}: say target.gives: {sure}.")
    if gives == "percentages" and _add_up(answers, 1):
        raise GmiError("The model answered with numbers that are no percentages: say target.gives: probabilities.")
    if gives == "logits" and len(answers) >= _ROWS:  # a single row of logits may add up to anything
        for total, right in ((1, "probabilities"), (100, "percentages")):
            if _add_up(answers, total):
                raise GmiError(f"The model answered with {right} already: say target.gives: {right}.")


def _add_up(answers: Tensor, total: float) -> bool:
    """Whether numbers (N, D) are shares of a total: none below 0, none hidden, and each row adds up to it."""
    return bool((answers >= 0).all() and ((answers.sum(1) - total).abs() < 0.005 * total).all())


def refuse_claims(gives: Gives, claims: bool, threshold: float | None) -> None:
    """Raises ValueError where a model decides and takes no claimed person, or the other way round.

    threshold: least similarity to a claimed person that passes.
    """
    if (gives == "decisions" and not claims) or (claims and gives not in ("decisions", "similarities")):
        raise ValueError(
            "gives: decisions are about a claimed person, and similarities may be: name where the claim goes, and only "
            "then"
        )
    if (gives == "similarities" and claims) != (threshold is not None):
        raise ValueError(
            "threshold is the least similarity to a claimed person at which the image is taken for that person: say it "
            "where gives is similarities and the request names somebody, and only there"
        )


def verifier(service: Verifier, gives: Gives, threshold: float | None, silent: bool) -> Verifier | None:
    """What is asked about claimed people: the service, or its similarities at a threshold; None: it takes no claim.

    silent: whether it may show nothing of an image.
    """
    if threshold is not None:
        return Deciding(service.decide, threshold, service.requests, silent)
    return service if gives == "decisions" else None


def digest_of(plan: Any) -> str:
    """SHA-256 of the settings that name the model and the form of its answers; its connection does not count."""
    return hashlib.sha256(json.dumps(identity(plan), sort_keys=True).encode()).hexdigest()
