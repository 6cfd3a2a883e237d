"""Adversarial training towards other people's labels: a small change of an image shall turn it into somebody else.

AT-AT, ICLR 2026: min E[L(x, y) + `weight` min_{|delta| <= radius} L(x + delta, y')], where y' is another class, drawn
at random, and projected gradient steps find the inner minimum. A target is easy to invert because its gradients point
at the person; with this defence they point away, at the price of robustness to adversarial examples.

Differs from the paper: the inner steps leave batch normalisation's averages and the weights' gradients as they are.
"""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmi.defences.base import Answer, Defence, Loss, frozen_norms, refuse_misfit
from gmi.errors import GmiError
from gmi.settings import Count, NonNegative, Positive, settings


@settings
class AtAt(Defence):
    """AT-AT's loss. Changes of a pixel are in units of [0, 1]."""

    type: Literal["at-at"] = "at-at"
    whole_network: ClassVar[bool] = True
    misleads: ClassVar[bool] = True
    weight: NonNegative = 0.08  # weight of the loss towards the other person's label
    radius: Positive = 5e-4  # largest change of a pixel
    step: Positive = 1e-4  # change of a pixel in one inner step
    iterations: Count = 5  # inner steps

    def loss(self, module: nn.Module, classes: Tensor) -> Loss:
        people = int(classes.max()) + 1
        if people < 2:
            raise GmiError("target.defence: at-at needs two people or more: with one there is no other label.")

        def loss(answer: Answer, inputs: Tensor, rows: Tensor, done: float) -> Tensor:
            labels = classes.to(rows.device)[rows]
            others = (labels + torch.randint(1, people, labels.shape).to(labels.device)) % people
            outputs = answer(inputs)
            refuse_misfit(outputs, people)
            perturbed = self.perturbed(module, answer, inputs, others)
            return F.cross_entropy(outputs, labels) + self.weight * F.cross_entropy(answer(perturbed), others)

        return loss

    def perturbed(self, module: nn.Module, answer: Answer, inputs: Tensor, others: Tensor) -> Tensor:
        """Inputs (B, C, H, W), each changed within the radius so that it looks most like its other class (B,)."""
        change = torch.zeros_like(inputs)
        with frozen_norms(module):
            for _ in range(self.iterations):
                change.requires_grad_(True)
                (slope,) = torch.autograd.grad(F.cross_entropy(answer(inputs + change), others), change)
                change = (change.detach() - self.step * slope.sign()).clamp(-self.radius, self.radius)
        return (inputs + change).detach()
