"""A target that only answers: behind an API, or in a file that is run and not opened."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from gmi.errors import GmiError
from gmi.settings import identity


class Busy(Exception):
    """The service may answer later. after: seconds that it asks to wait; None: it does not say."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class Requests(NamedTuple):
    """In what manner a service may be asked."""

    batch: int = 64  # images of one request
    concurrency: int = 1  # requests at once
    retries: int = 0  # of one request


class Service(Protocol):
    """Answers bytes (N, C, H, W) with float64 (N, D) on the CPU. Raises Busy; GmiError where asking again is vain."""

    @property
    def requests(self) -> Requests: ...

    def __call__(self, images: Tensor) -> Tensor: ...


Gives = Literal["probabilities", "logits", "labels"]


@dataclass(frozen=True)
class Served:
    """In place of a `Target` where there is none. `digest` is of what is known of it, not of its weights.

    gives: what the service answers an image with: a number for each class, NaN for one that it does not show; or the
        number of a class.
    rate: images a second that it may be asked; None: as many as it answers.
    """

    service: Service
    gives: Gives
    classes: tuple[str, ...]
    digest: str
    trained_on: frozenset[str] = frozenset()
    rate: float | None = None

    def weights(self) -> Iterable[Tensor]:
        """None that could be compared with a judge's."""
        return ()

    def to(self, device: torch.device) -> "Served":
        """Itself: it is where it is."""
        return self

    def scores(self) -> Service:
        """Probabilities (N, K), NaN of what is not shown. Raises GmiError where the service tells labels only."""
        if self.gives == "labels":
            raise GmiError("The target gives labels only: choose access: {type: labels}.")
        return _Reading(self)

    def labels(self) -> Service:
        """Numbers of classes (N, 1)."""
        return _Reading(self, labels=True)


@dataclass(frozen=True)
class _Reading:
    """The service's answers, checked, as the interface wants them."""

    served: Served
    labels: bool = False

    @property
    def requests(self) -> Requests:
        return self.served.service.requests

    def __call__(self, images: Tensor) -> Tensor:
        answers, gives, people = self.served.service(images), self.served.gives, len(self.served.classes)
        wanted = (len(images), 1 if gives == "labels" else people)
        if tuple(answers.shape) != wanted or answers.isinf().any() or answers.isnan().all(1).any():
            raise GmiError(
                f"The model answered {len(images)} images with numbers of shape {tuple(answers.shape)}, or with none "
                f"that is finite, where {wanted} is expected: target.gives is wrong, or it has not the data's "
                f"{people} classes."
            )
        if gives == "labels":
            if not ((answers >= 0) & (answers < people) & (answers == answers.floor())).all():
                raise GmiError(f"The model answered with labels that are no numbers from 0 to {people - 1}.")
            return answers
        if self.labels:
            return answers.nan_to_num(-torch.inf).argmax(1, keepdim=True).double()
        if gives == "logits":
            if answers.isnan().any():
                raise GmiError(
                    "The model answered with logits of some classes only, which say nothing: take its labels."
                )
            return answers.softmax(1)
        if ((answers < -1e-6) | (answers > 1 + 1e-6)).any():
            raise GmiError("The model answered with numbers that are no probabilities: say target.gives: logits.")
        return answers


def digest_of(plan: Any) -> str:
    """SHA-256 of how the model is named and asked; its connection decides neither."""
    return hashlib.sha256(json.dumps(identity(plan), sort_keys=True).encode()).hexdigest()
