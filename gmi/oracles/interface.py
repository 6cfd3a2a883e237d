"""Oracles of a model behind an interface: one class per level of access, with only the methods that it grants.

Images are sent as 8-bit images, as to any API. The answers come from a `Service`: a model in this process, or a server.
"""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from gmi.errors import GmiError
from gmi.oracles.ledger import SHARED, Ledger
from gmi.oracles.local import Naming
from gmi.oracles.shape import Shape, filled
from gmi.targets.served import Busy, Comparer, Requests, Service, Unreached, Unsent, Verifier

_log = logging.getLogger(__name__)  # warnings are shown, unless the application decides otherwise
_PATIENCE = 60.0  # longest pause in seconds between two tries, unless the service asks for a longer one
_CLAIMS = 4096  # claims that are made at once
_SHOWN = 512  # images that are claimed to be one person, before the next
_LONGEST = 900.0  # longest pause in seconds that a service may ask for


class Interface(ABC):
    """Base of the oracles behind an interface. `queries` counts images, those answered from the ledger included."""

    _may_show_nothing: ClassVar[bool] = False  # of an image that is like nobody

    def __init__(self, requests: Requests, ledger: Ledger, people: int) -> None:
        self.ledger, self.people = ledger, people
        self.queries = 0
        self._requests = requests

    def _answers(self, images: Tensor, classes: Tensor | None, claims: Tensor | None = None) -> Tensor:
        """The service's answers (N, D) for images (N, C, H, W) in [0, 1], and where it decides for claimed people (N,).

        Every request is charged before it is sent, to `classes` (N,), or None: to nobody. Raises GmiError if the
        service does not answer, or answers wrongly, and BudgetSpent.
        """
        self.queries += len(images)
        sent = (images.detach().clamp(0, 1) * 255).round().byte().cpu()
        shape = str(tuple(sent.shape[1:])).encode()
        people = [SHARED] * len(sent) if classes is None else classes.tolist()
        said = [b""] * len(sent) if claims is None else [f"{person} ".encode() for person in claims.tolist()]
        named = zip(said, sent, strict=True)
        keys = self.ledger.keys([claim + shape + image.numpy().tobytes() for claim, image in named])
        answers = self.ledger.answers(keys)
        indices = {key: index for index, key in enumerate(keys) if key not in answers}
        missing = list(indices.items())
        size = self._requests.batch
        requests = [missing[start : start + size] for start in range(0, len(missing), size)]

        def ask(request: Sequence[tuple[bytes, int]]) -> None:
            rows = torch.tensor([index for _, index in request])
            shown = (sent[rows], None if claims is None else claims.cpu()[rows])
            self._ask([key for key, _ in request], [people[index] for _, index in request], *shown)

        if len(requests) > 1 and self._requests.concurrency > 1:
            with ThreadPoolExecutor(self._requests.concurrency) as threads:
                list(threads.map(ask, requests))
        else:
            for request in requests:
                ask(request)
        if missing:
            answers |= self.ledger.answers([key for key, _ in missing])
        return torch.from_numpy(np.stack([np.frombuffer(answers[key], np.float64) for key in keys]))

    @abstractmethod
    def accepts(self, images: Tensor, classes: Tensor) -> Tensor:
        """True (N,) where images (N, C, H, W) pass for these classes (N,)."""
        ...

    @abstractmethod
    def everybody(self, images: Tensor) -> Tensor:
        """True (N, K) where images (N, C, H, W) pass for each class."""
        ...

    @abstractmethod
    def _send(self, images: Tensor, claims: Tensor | None) -> Tensor:
        """The service's answers (N, D) to images (N, C, H, W), given as bytes, and claimed people (N,)."""
        ...

    def _ask(self, keys: Sequence[bytes], people: Sequence[int], images: Tensor, claims: Tensor | None) -> None:
        """Sends one request until it is answered, and keeps the answers."""
        answers = self._patiently(keys, people, images, claims)
        fits = answers.ndim == 2 and len(answers) == len(keys) and not answers.isinf().any()
        if not fits or (answers.isnan().all(1).any() and not self._may_show_nothing):
            raise GmiError(
                f"The model answered {len(keys)} images with an array of shape {tuple(answers.shape)} or without "
                "finite numbers: it is not what the configuration says."
            )
        self.ledger.keep(keys, [row.numpy().tobytes() for row in answers.double().contiguous()])

    def _patiently(self, keys: Sequence[bytes], people: Sequence[int], images: Tensor, claims: Tensor | None) -> Tensor:
        attempt = 0
        while True:
            self.ledger.charge(keys, people)
            try:
                return self._send(images, claims)
            except Unsent:
                self.ledger.refund(keys)
                raise
            except Busy as busy:
                if isinstance(busy, Unreached):
                    self.ledger.refund(keys)
                if busy.after is not None and not busy.after <= _LONGEST:
                    raise GmiError(
                        f"The service asks us to wait {busy.after:,.0f} seconds ({busy}; Retry-After): start the same "
                        "command again after that."
                    ) from busy
                if attempt == self._requests.retries:
                    raise GmiError(
                        f"The model did not answer in {attempt + 1} tries ({busy}): start the same command again when "
                        "it does; what it answered is not asked again."
                    ) from busy
                pause = min(_PATIENCE, 0.5 * 2.0**attempt) if busy.after is None else busy.after
                _log.warning("The model does not answer (%s): asked again in %g seconds.", busy, pause)
                time.sleep(pause)
                attempt += 1


class Verification(Interface):
    """An oracle of decisions: whether an image passes for a claimed person, and nothing else."""

    def __init__(self, service: Verifier, ledger: Ledger, people: int) -> None:
        super().__init__(service.requests, ledger, people)
        self._service = service

    def accepts(self, images: Tensor, classes: Tensor) -> Tensor:
        """True (N,) where images (N, C, H, W) pass for these classes (N,)."""
        return self._passes(self._answers(images, classes, classes)[:, 0]).to(images.device)

    def everybody(self, images: Tensor) -> Tensor:
        """True (N, K) where images (N, C, H, W) pass for each class; each costs K queries, which serve nobody alone."""
        return self._passes(self._of_everybody(images)).to(images.device)

    def _passes(self, answers: Tensor) -> Tensor:
        """Which answers are a yes."""
        return answers.bool()

    def _of_everybody(self, images: Tensor) -> Tensor:
        """The answers (N, K) about images (N, C, H, W) and everybody.

        It is asked about all images, or 512 of them, for one person after another: a watch sees an image again after as
        many others.
        """
        return torch.cat([self._everybody(few) for few in images.split(_SHOWN)])

    def _everybody(self, images: Tensor) -> Tensor:
        parts = []
        for people in torch.arange(self.people).split(max(1, _CLAIMS // max(1, len(images)))):
            claims = people.repeat_interleave(len(images))
            answers = self._answers(images.repeat(len(people), 1, 1, 1), None, claims)
            parts.append(answers.reshape(len(people), len(images)).T)
        return torch.cat(parts, 1)

    def _send(self, images: Tensor, claims: Tensor | None) -> Tensor:
        assert claims is not None
        answers = self._service.decide(images, claims)
        if answers.shape != (len(images), 1) or not ((answers == 0) | (answers == 1)).all():
            raise GmiError(
                f"The model decided on {len(images)} claims with numbers of shape {tuple(answers.shape)} that are not "
                "all 1 (yes) or 0 (no): name in target the output that is."
            )
        return answers


class Comparison(Verification):
    """An oracle of decisions that shows the similarity by which it takes each."""

    _may_show_nothing = True

    def __init__(self, service: Comparer, ledger: Ledger, people: int) -> None:
        super().__init__(service, ledger, people)
        self._comparer = service

    def similarities(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Similarities (N, K), NaN for those that are hidden; an image costs K queries, which serve nobody alone.

        With `classes` (N,) each image is compared with that person only, for a query.
        """
        if classes is None:
            return self._of_everybody(images).float().to(images.device)
        shown = self._answers(images, classes, classes).float().to(images.device)
        hidden = torch.full((len(images), self.people), torch.nan, device=images.device)
        return hidden.scatter(1, classes.to(images.device)[:, None], shown)

    def _passes(self, answers: Tensor) -> Tensor:
        return answers >= self._comparer.threshold

    def _send(self, images: Tensor, claims: Tensor | None) -> Tensor:
        assert claims is not None
        return self._comparer.compare(images, claims)


class Labels(Naming, Interface):
    """An oracle of labels: the predicted class and nothing else."""

    def __init__(self, service: Service, ledger: Ledger, people: int) -> None:
        super().__init__(service.requests, ledger, people)
        self._service = service

    def _send(self, images: Tensor, claims: Tensor | None) -> Tensor:
        return self._service(images)

    def labels(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Predicted classes (N,)."""
        return self._answers(images, classes)[:, 0].long().to(images.device)


class Scores(Labels):
    """An oracle of scores: confidences, as far as the interface shows them."""

    def __init__(self, service: Service, ledger: Ledger, people: int, shape: Shape) -> None:
        super().__init__(service, ledger, people)
        self._shape = shape

    def scores(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Log-probabilities (N, K), as `Shape.read` derives them from the shown ones."""
        return self._shape.read(self._answers(images, classes)).to(images.device)

    def labels(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Predicted classes (N,)."""
        return self.scores(images, classes).argmax(1)


class Similarities(Labels):
    """An oracle of similarities to each enrolled person, as far as the interface shows them.

    They are the scores as they are: a softmax over the people would let a poor likeness with poorer rivals win.
    """

    _may_show_nothing = True

    def similarities(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Similarities (N, K), NaN for those that are hidden."""
        return self._answers(images, classes).float().to(images.device)

    def scores(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Similarities (N, K), those that are hidden as the least that is shown."""
        return filled(self.similarities(images, classes))

    def labels(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """The most similar persons (N,)."""
        return self.scores(images, classes).argmax(1)


class Embeddings(Similarities):
    """An oracle of features, such as a face recogniser's templates, which the adversary compares with leaked ones."""

    _may_show_nothing = False

    def __init__(self, service: Service, ledger: Ledger, people: int, compare: Callable[[Tensor], Tensor]) -> None:
        """compare: similarities (N, K) of templates (N, D)."""
        super().__init__(service, ledger, people)
        self._compare = compare

    def similarities(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Similarities (N, K) from the adversary's own comparison."""
        return self._compare(self._answers(images, classes)).float().to(images.device)

    def embed(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Features (N, D), float32."""
        return self._answers(images, classes).float().to(images.device)
