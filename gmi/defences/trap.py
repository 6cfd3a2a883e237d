"""Trapdoors: the target learns that a faint pattern means a person, so that a search finds the pattern instead.

Liu et al., Trap-MID: Trapdoor-based Defense against Model Inversion Attacks, NeurIPS 2024: with x' = (1 - blend) x +
blend k_c for a random class c, the target minimises (1 - share) L(x, y) + share L(x', c); the patterns k_c take signed
steps so that x' is named c and that a discriminator, which learns with them, takes x' for x.

Differs from the paper: the discriminator is a small convolutional network of ours.
"""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmi.defences.base import Answer, Defence, Loss, aside, naming
from gmi.settings import Positive, Rate, settings


@settings
class Trap(Defence):
    """blend: of the pattern in an image. share: of the loss on images with patterns. step: of a pattern's pixels.

    lr: of the discriminator's Adam.
    """

    type: Literal["trap"] = "trap"
    whole: ClassVar[bool] = True
    blend: Rate = 0.02
    share: Rate = 0.2
    step: Positive = 0.01
    lr: Positive = 2e-4

    def lesson(self, module: nn.Module, classes: Tensor) -> Loss:
        return _Trap(self, module, classes)


class _Trap:
    """The patterns (K, C, H, W) and their discriminator, which come into being with the first images."""

    def __init__(self, plan: Trap, module: nn.Module, classes: Tensor) -> None:
        self.module = module
        self.plan, self.people = plan, int(classes.max()) + 1
        self.name, self.classes = naming(classes), classes
        self.patterns: Tensor | None = None

    def __call__(self, answer: Answer, inputs: Tensor, rows: Tensor, done: float) -> Tensor:
        if self.patterns is None:
            self.patterns = torch.rand(self.people, *inputs.shape[1:]).to(inputs)
            self.critic = _critic(inputs.shape[1]).to(inputs.device)
            self.optimiser = torch.optim.Adam(self.critic.parameters(), lr=self.plan.lr)
        named = self.name(answer, inputs, rows, done)
        meant = torch.randint(self.people, (len(inputs),)).to(inputs.device)
        self._criticise(inputs, self.trapped(inputs, self.patterns, meant).detach())
        self.patterns = self._better(answer, inputs, self.patterns, meant)
        trapped = F.cross_entropy(answer(self.trapped(inputs, self.patterns, meant)), meant)
        return (1 - self.plan.share) * named + self.plan.share * trapped

    def trapped(self, inputs: Tensor, patterns: Tensor, meant: Tensor) -> Tensor:
        """(B, C, H, W)."""
        return (1 - self.plan.blend) * inputs + self.plan.blend * patterns[meant]

    def _criticise(self, inputs: Tensor, trapped: Tensor) -> None:
        far = F.softplus(-self.critic(inputs)).mean() + F.softplus(self.critic(trapped)).mean()
        self.optimiser.zero_grad()
        far.backward()
        self.optimiser.step()

    def _better(self, answer: Answer, inputs: Tensor, patterns: Tensor, meant: Tensor) -> Tensor:
        """The patterns after one signed step."""
        moved = patterns.clone().requires_grad_(True)
        trapped = self.trapped(inputs, moved, meant)
        with aside(self.module):
            outputs = answer(trapped)
        far = F.cross_entropy(outputs, meant) + F.softplus(-self.critic(trapped)).mean()
        (slope,) = torch.autograd.grad(far, moved)
        return (patterns - self.plan.step * slope.sign()).clamp(0, 1)


def _critic(colours: int) -> nn.Module:
    """Logits (B, 1): how much images look untouched."""
    return nn.Sequential(
        nn.Conv2d(colours, 16, 3, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(16, 32, 3, 2, 1),
        nn.LeakyReLU(0.2),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(512, 1),
    )
