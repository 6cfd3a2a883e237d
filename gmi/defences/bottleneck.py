"""A variational information bottleneck before the head: the features pass through noise that costs what they carry.

Wang et al., Improving Robustness to Model Inversion Attacks via Mutual Information Regularization (MID), AAAI 2021,
with the bound of Alemi et al., Deep Variational Information Bottleneck, ICLR 2017: cross-entropy, plus
`beta` times KL(N(mu, sigma^2) || N(0, 1)) a sample.

Differs from the paper: once trained, the features are mu, without noise, so that the target answers the same each time.
sigma = softplus(s - 5) and half as many dimensions as features are what it released.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmi.defences.base import Answer, Defence, Loss, listening, naming, part_of, replace
from gmi.errors import GmiError
from gmi.settings import NonNegative, settings


class Noisy(nn.Module):
    """A head on z = mu + sigma noise; in evaluation on mu. Takes features (N, D), gives (N, K)."""

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
    """part: the linear layer in whose place the bottleneck and a head come."""

    type: Literal["bottleneck"] = "bottleneck"
    part: str = "head"
    beta: NonNegative = 0.005

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
        return replace(module, self.part, Noisy(head.in_features, head.out_features))

    def lesson(self, module: nn.Module, classes: Tensor) -> Loss:
        noisy = next(part for part in module.modules() if isinstance(part, Noisy))
        name = naming(classes)

        def lesson(answer: Answer, inputs: Tensor, rows: Tensor, done: float) -> Tensor:
            with listening(noisy.encode) as heard:
                named = name(answer, inputs, rows, done)
            return named + self.beta * rate(*spread_of(heard[0])).mean()

        return lesson


def spread_of(encoded: Tensor) -> tuple[Tensor, Tensor]:
    """mu and sigma (N, D) of what the encoder gives (N, 2 D)."""
    mean, spread = encoded.chunk(2, 1)
    return mean, F.softplus(spread - 5)


def rate(mean: Tensor, spread: Tensor) -> Tensor:
    """(N,) KL(N(mu, sigma^2) || N(0, 1)), in nats."""
    return 0.5 * (mean.square() + spread.square() - 2 * spread.log() - 1).sum(1)
