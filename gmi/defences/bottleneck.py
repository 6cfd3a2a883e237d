"""A variational information bottleneck before the head: noise on the features limits the information they carry.

Wang et al., Improving Robustness to Model Inversion Attacks via Mutual Information Regularization (MID), AAAI 2021,
with the bound of Alemi et al., Deep Variational Information Bottleneck, ICLR 2017: cross-entropy, plus
`beta` times KL(N(mu, sigma^2) || N(0, 1)) per sample.

Differs from the paper: once trained, the features are mu, without noise, so that the target gives the same answer every
time. sigma = softplus(s - 5) and a width of half the number of features are those of the released code.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmi.defences.base import Answer, Defence, Loss, cross_entropy_loss, outputs_of, part_of, replace_part
from gmi.errors import GmiError
from gmi.settings import NonNegative, settings


class Noisy(nn.Module):
    """A head on z = mu + sigma noise, or on mu in evaluation. It maps features (N, D) to logits (N, K)."""

    def __init__(self, features: int, people: int) -> None:
        super().__init__()
        self.width = max(1, features // 2)
        self.encode = nn.Linear(features, 2 * self.width)
        self.head = nn.Linear(self.width, people)

    def forward(self, features: Tensor) -> Tensor:
        mean, spread = spread_of(self.encode(features))
        return self.head(mean + spread * torch.randn_like(mean) if self.training else mean)


@settings
class Bottleneck(Defence):
    """MID: a bottleneck and a linear head replace a linear layer."""

    type: Literal["bottleneck"] = "bottleneck"
    part: str = "head"  # name of the linear layer that is replaced
    beta: NonNegative = 0.005  # weight of the bottleneck's divergence in the loss

    def refuse(self, part: str | None, mirror: bool) -> None:
        if part not in (None, self.part):
            raise GmiError(
                f"target.defence: the bottleneck comes in the place of {self.part}, and {part} alone learns: set "
                f"target.defence.part: {part}."
            )

    @property
    def changes(self) -> str:
        return f"{self.part} becomes a bottleneck of half as many features and a layer on it"

    def harden(self, module: nn.Module) -> nn.Module:
        head = part_of(module, self.part, "target.defence.part")
        if not isinstance(head, nn.Linear):
            raise GmiError(f"target.defence.part: {self.part} is a {type(head).__name__}, not a linear layer.")
        return replace_part(module, self.part, Noisy(head.in_features, head.out_features))

    def loss(self, module: nn.Module, classes: Tensor) -> Loss:
        noisy = next(part for part in module.modules() if isinstance(part, Noisy))
        cross_entropy = cross_entropy_loss(classes)

        def loss(answer: Answer, inputs: Tensor, rows: Tensor, done: float) -> Tensor:
            with outputs_of(noisy.encode) as outputs:
                total = cross_entropy(answer, inputs, rows, done)
            return total + self.beta * rate(*spread_of(outputs[0])).mean()

        return loss


def spread_of(encoded: Tensor) -> tuple[Tensor, Tensor]:
    """mu and sigma (N, D) from the encoder's output (N, 2 D)."""
    mean, spread = encoded.chunk(2, 1)
    return mean, F.softplus(spread - 5)


def rate(mean: Tensor, spread: Tensor) -> Tensor:
    """KL(N(mu, sigma^2) || N(0, 1)) of each sample (N,), in nats."""
    return 0.5 * (mean.square() + spread.square() - 2 * spread.log() - 1).sum(1)
