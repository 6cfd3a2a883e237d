"""Oracles of a model in this process: the whole model, or the service behind an interface."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from gmi.targets.module import Target
from gmi.targets.served import Requests
from gmi.targets.templates import Matcher, Templates
from gmi.views import single


class Naming(ABC):
    """Base of oracles that name one person for an image: it passes for that person and for nobody else."""

    people: int

    @abstractmethod
    def labels(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Predicted classes (N,)."""
        ...

    def accepts(self, images: Tensor, classes: Tensor) -> Tensor:
        """True (N,) where images are taken for these classes (N,)."""
        return self.labels(images, classes) == classes

    def everybody(self, images: Tensor) -> Tensor:
        """True (N, K) for the class that each image is taken for."""
        return F.one_hot(self.labels(images), self.people).bool()


class WhiteBox(Naming):
    """The whole model: logits and penultimate features with gradients, and everything that follows from them.

    `queries` counts images in forward passes; a backward pass is not a query of its own.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self.queries = 0
        self.people = len(target.classes)

    def logits(self, images: Tensor) -> Tensor:
        """Logits (N, K), differentiable."""
        self.queries += len(images)
        return self._target(images)

    def activations(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, K) and penultimate features (N, D), differentiable."""
        self.queries += len(images)
        return self._target.activations(images)

    @torch.no_grad()
    def scores(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Log-probabilities (N, K), no graph."""
        return self.logits(images).log_softmax(1)

    def labels(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Predicted classes (N,)."""
        return self.scores(images).argmax(1)


class Model:
    """A `Service` over a target in this process."""

    requests = Requests()

    def __init__(self, target: Target, show: Callable[[Tensor, Tensor], Tensor]) -> None:
        """show: the answers (N, D) from logits (N, K) float64 and the images (N, C, H, W) as bytes."""
        self._target, self._show = target, show

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        device = self._target.device
        with single(device):  # a service does not compute as who asks it
            return self._show(self._target(images.to(device).float() / 255).double().cpu(), images)


class WhiteBoxRecogniser(WhiteBox):
    """A recogniser with its templates. Its scores are similarities, not a softmax of them over those who are enrolled.

    Raises AssertionError for another target.
    """

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        assert isinstance(target.module, Matcher)
        self._scale = target.module.scale

    @torch.no_grad()
    def similarities(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Similarities (N, K), none hidden."""
        return self.logits(images) / self._scale

    def scores(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Similarities (N, K)."""
        return self.similarities(images)


class Comparing(Naming):
    """A recogniser of one's own without gradients, and templates that it compares with: a `SimilarityOracle`."""

    def __init__(self, templates: Templates, people: int) -> None:
        self.queries, self.people, self._templates = 0, people, templates

    def similarities(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Similarities (N, K), none hidden."""
        self.queries += len(images)
        shown = (images.detach().clamp(0, 1) * 255).round().byte()
        return self._templates.compare(self._templates.embed(shown)).float().to(images.device)

    def scores(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Similarities (N, K)."""
        return self.similarities(images)

    def labels(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """The most similar persons (N,)."""
        return self.scores(images).argmax(1)
