"""Adversarial training towards other people's labels: small changes of an image are to be taken for somebody else.

AT-AT, ICLR 2026: min E[L(x, y) + `weight` min_{|delta| <= radius} L(x + delta, y')], y' another class at random, the
inner minimum by projected gradient steps. What makes a target easy to invert is that its gradients point at the person;
this one's point away, at the price of its robustness to adversarial examples.

Differs from the paper: the inner steps leave batch normalisation's averages and the weights' gradients as they are.
"""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmi.defences.base import Answer, Defence, Loss, aside, refuse_misfit
from gmi.errors import GmiError
from gmi.settings import Count, NonNegative, Positive, settings


@settings
class AtAt(Defence):
    """radius and step: of the change of a pixel, in [0, 1]."""

    type: Literal["at-at"] = "at-at"
    whole: ClassVar[bool] = True
    weight: NonNegative = 0.08
    radius: Positive = 5e-4
    step: Positive = 1e-4
    iterations: Count = 5

    def lesson(self, module: nn.Module, classes: Tensor) -> Loss:
        people = int(classes.max()) + 1
        if people < 2:
            raise GmiError("target.defence: at-at needs two people or more: with one there is no other label.")

        def lesson(answer: Answer, inputs: Tensor, rows: Tensor, done: float) -> Tensor:
            own = classes.to(rows.device)[rows]
            others = (own + torch.randint(1, people, own.shape).to(own.device)) % people
            outputs = answer(inputs)
            refuse_misfit(outputs, people)
            moved = self.moved(module, answer, inputs, others)
            return F.cross_entropy(outputs, own) + self.weight * F.cross_entropy(answer(moved), others)

        return lesson

    def moved(self, module: nn.Module, answer: Answer, inputs: Tensor, others: Tensor) -> Tensor:
        """Inputs (B, C, H, W), each within the radius where it looks most like the class (B,)."""
        change = torch.zeros_like(inputs)
        with aside(module):
            for _ in range(self.iterations):
                change.requires_grad_(True)
                (slope,) = torch.autograd.grad(F.cross_entropy(answer(inputs + change), others), change)
                change = (change.detach() - self.step * slope.sign()).clamp(-self.radius, self.radius)
        return (inputs + change).detach()
