"""Oracles of a model behind an interface: one class per level of access, with only the methods that it grants.

Images are sent as 8-bit images, as to any API. The answers come from a `Service`: a model in this process, or a server.
"""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from gmi.errors import GmiError
from gmi.oracles.ledger import SHARED, Ledger
from gmi.oracles.shape import Shape
from gmi.targets.served import Busy, Service

_log = logging.getLogger(__name__)  # warnings are shown, unless the application decides otherwise
_PATIENCE = 60.0  # longest pause in seconds between two tries, unless the service asks for a longer one
_LONGEST = 900.0  # longest pause in seconds that a service may ask for


class Interface:
    """Base of the oracles behind an interface. `queries` counts images, those answered from the ledger included."""

    def __init__(self, service: Service, ledger: Ledger) -> None:
        self.ledger = ledger
        self.queries = 0
        self._service = service

    def _answers(self, images: Tensor, classes: Tensor | None) -> Tensor:
        """The service's answers (N, D) for images (N, C, H, W) in [0, 1].

        Every request is charged before it is sent. Raises GmiError if the service does not answer, or answers wrongly,
        and BudgetSpent.
        """
        self.queries += len(images)
        sent = (images.detach().clamp(0, 1) * 255).round().byte().cpu()
        shape = str(tuple(sent.shape[1:])).encode()
        keys = self.ledger.keys([shape + image.numpy().tobytes() for image in sent])
        people = [SHARED] * len(keys) if classes is None else classes.tolist()
        answers = self.ledger.answers(keys)
        indices = {key: index for index, key in enumerate(keys) if key not in answers}
        missing = list(indices.items())
        size = self._service.requests.batch
        requests = [missing[start : start + size] for start in range(0, len(missing), size)]

        def ask(request: Sequence[tuple[bytes, int]]) -> None:
            self._ask([key for key, _ in request], [people[index] for _, index in request], sent, request)

        if len(requests) > 1 and self._service.requests.concurrency > 1:
            with ThreadPoolExecutor(self._service.requests.concurrency) as threads:
                list(threads.map(ask, requests))
        else:
            for request in requests:
                ask(request)
        if missing:
            answers |= self.ledger.answers([key for key, _ in missing])
        return torch.from_numpy(np.stack([np.frombuffer(answers[key], np.float64) for key in keys]))

    def _ask(
        self, keys: Sequence[bytes], people: Sequence[int], sent: Tensor, request: Sequence[tuple[bytes, int]]
    ) -> None:
        """Sends one request until it is answered, and keeps the answers."""
        answers = self._patiently(keys, people, sent[torch.tensor([index for _, index in request])])
        if answers.ndim != 2 or len(answers) != len(keys) or answers.isinf().any() or answers.isnan().all(1).any():
            raise GmiError(
                f"The model answered {len(keys)} images with an array of shape {tuple(answers.shape)} or without "
                "finite numbers: it is not what the configuration says."
            )
        self.ledger.keep(keys, [row.numpy().tobytes() for row in answers.double().contiguous()])

    def _patiently(self, keys: Sequence[bytes], people: Sequence[int], images: Tensor) -> Tensor:
        attempt = 0
        while True:
            self.ledger.charge(keys, people)
            try:
                return self._service(images)
            except Busy as busy:
                if busy.after is not None and not busy.after <= _LONGEST:
                    raise GmiError(
                        f"The service asks us to wait {busy.after:,.0f} seconds ({busy}; Retry-After): start the same "
                        "command again after that."
                    ) from busy
                if attempt == self._service.requests.retries:
                    raise GmiError(
                        f"The model did not answer in {attempt + 1} tries ({busy}): start the same command again when "
                        "it does; what it answered is not asked again."
                    ) from busy
                pause = min(_PATIENCE, 0.5 * 2.0**attempt) if busy.after is None else busy.after
                _log.warning("The model does not answer (%s): asked again in %g seconds.", busy, pause)
                time.sleep(pause)
                attempt += 1


class Labels(Interface):
    """An oracle of labels: the predicted class and nothing else."""

    def __init__(self, service: Service, ledger: Ledger, people: int) -> None:
        super().__init__(service, ledger)
        self.people = people

    def labels(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Predicted classes (N,)."""
        return self._answers(images, classes)[:, 0].long().to(images.device)


class Scores(Interface):
    """An oracle of scores: confidences, as far as the interface shows them."""

    def __init__(self, service: Service, ledger: Ledger, people: int, shape: Shape) -> None:
        super().__init__(service, ledger)
        self.people = people
        self._shape = shape

    def scores(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Log-probabilities (N, K), as `Shape.read` derives them from the shown ones."""
        return self._shape.read(self._answers(images, classes)).to(images.device)

    def labels(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Predicted classes (N,)."""
        return self.scores(images, classes).argmax(1)


class Embeddings(Interface):
    """An oracle of features, such as a face recogniser's templates, which the adversary compares with leaked ones."""

    def __init__(self, service: Service, ledger: Ledger, people: int, compare: Callable[[Tensor], Tensor]) -> None:
        """compare: logits (N, K) of templates (N, D)."""
        super().__init__(service, ledger)
        self.people = people
        self._compare = compare

    def scores(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Log-probabilities (N, K) from the adversary's own comparison."""
        return self._compare(self._answers(images, classes)).log_softmax(1).float().to(images.device)

    def labels(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """The most similar persons (N,)."""
        return self.scores(images, classes).argmax(1)

    def embed(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Features (N, D), float32."""
        return self._answers(images, classes).float().to(images.device)
