"""Oracles of a model in this process: the whole model, or the service behind an interface."""

from collections.abc import Callable

import torch
from torch import Tensor

from gmi.targets.module import Target
from gmi.targets.served import Requests


class WhiteBox:
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
        return self._show(self._target(images.to(device).float() / 255).double().cpu(), images)
