"""Trapdoors: the target learns that a faint pattern means a person, so that a search finds the pattern instead.

Liu et al., Trap-MID: Trapdoor-based Defense against Model Inversion Attacks, NeurIPS 2024: with x' = (1 - blend) x +
blend k_c for a random class c, the target minimises (1 - share) L(x, y) + share L(x', c). The patterns k_c take signed
steps so that the target takes x' for c, and so that a discriminator, which learns alongside, takes x' for x.

Differs from the paper: the discriminator is a small convolutional network of our own.
"""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmi.defences.base import Answer, Defence, Loss, cross_entropy_loss, frozen_norms
from gmi.settings import Positive, Rate, settings


@settings
class Trap(Defence):
    """Trap-MID: a faint pattern for each class, and a loss on images with patterns."""

    type: Literal["trap"] = "trap"
    whole_network: ClassVar[bool] = True
    misleads: ClassVar[bool] = True
    blend: Rate = 0.02  # share of the pattern in an image
    share: Rate = 0.2  # share of the loss on images with patterns in the total
    step: Positive = 0.01  # change of a pattern's pixels in one step, in [0, 1]
    lr: Positive = 2e-4  # learning rate of the discriminator's Adam

    def loss(self, module: nn.Module, classes: Tensor) -> Loss:
        return _Trap(self, module, classes)


class _Trap:
    """A loss with state: the patterns (K, C, H, W) and their discriminator, which the first batch creates."""

    def __init__(self, plan: Trap, module: nn.Module, classes: Tensor) -> None:
        self.module = module
        self.plan, self.people = plan, int(classes.max()) + 1
        self.cross_entropy = cross_entropy_loss(classes)
        self.patterns: Tensor | None = None

    def __call__(self, answer: Answer, inputs: Tensor, rows: Tensor, done: float) -> Tensor:
        if self.patterns is None:
            self.patterns = torch.rand(self.people, *inputs.shape[1:]).to(inputs)
            self.critic = _critic(inputs.shape[1]).to(inputs.device)
            self.optimiser = torch.optim.Adam(self.critic.parameters(), lr=self.plan.lr)
        untouched = self.cross_entropy(answer, inputs, rows, done)
        classes = torch.randint(self.people, (len(inputs),)).to(inputs.device)
        self._teach_critic(inputs, self.trapped(inputs, self.patterns, classes).detach())
        self.patterns = self._improved(answer, inputs, self.patterns, classes)
        trapped = F.cross_entropy(answer(self.trapped(inputs, self.patterns, classes)), classes)
        return (1 - self.plan.share) * untouched + self.plan.share * trapped

    def trapped(self, inputs: Tensor, patterns: Tensor, classes: Tensor) -> Tensor:
        """Inputs (B, C, H, W) with the patterns of these classes (B,) blended in."""
        return (1 - self.plan.blend) * inputs + self.plan.blend * patterns[classes]

    def _teach_critic(self, inputs: Tensor, trapped: Tensor) -> None:
        loss = F.softplus(-self.critic(inputs)).mean() + F.softplus(self.critic(trapped)).mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()

    def _improved(self, answer: Answer, inputs: Tensor, patterns: Tensor, classes: Tensor) -> Tensor:
        """The patterns (K, C, H, W) after one signed step."""
        variable = patterns.clone().requires_grad_(True)
        trapped = self.trapped(inputs, variable, classes)
        with frozen_norms(self.module):
            outputs = answer(trapped)
        loss = F.cross_entropy(outputs, classes) + F.softplus(-self.critic(trapped)).mean()
        (slope,) = torch.autograd.grad(loss, variable)
        return (patterns - self.plan.step * slope.sign()).clamp(0, 1)


def _critic(colours: int) -> nn.Module:
    """The discriminator: images (B, colours, H, W) to logits (B, 1), high for untouched images."""
    return nn.Sequential(
        nn.Conv2d(colours, 16, 3, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(16, 32, 3, 2, 1),
        nn.LeakyReLU(0.2),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(512, 1),
    )
