"""Access to a model in this process, one class per level. Each has only the methods that its level grants."""

import torch
from torch import Tensor

from gmi.target import Target


class WhiteBox:
    """The adversary holds the model: logits and penultimate features with gradients, and all that follows from them.

    `queries` counts images, whatever is asked about them; a backward pass is not a query of its own.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self.queries = 0

    def logits(self, images: Tensor) -> Tensor:
        """(N, K), differentiable."""
        self.queries += len(images)
        return self._target(images)

    def activations(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, K) and penultimate features (N, D), differentiable."""
        self.queries += len(images)
        return self._target.activations(images)

    @torch.no_grad()
    def scores(self, images: Tensor) -> Tensor:
        """Log-probabilities (N, K), no graph."""
        return self.logits(images).log_softmax(1)

    def labels(self, images: Tensor) -> Tensor:
        """Predicted classes (N,)."""
        return self.scores(images).argmax(1)
