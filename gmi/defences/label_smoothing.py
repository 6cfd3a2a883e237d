"""Negative label smoothing: the target is pushed away from the uniform distribution instead of towards it.

Struppek et al., Be Careful What You Smooth For: Label Smoothing Can Be a Privacy Shield but Also a Catalyst for Model
Inversion Attacks, ICLR 2024: (1 - a) times the cross-entropy with the label, plus a times the cross-entropy with the
uniform distribution; a is 0 for the first half of the training, then goes linearly to `alpha` at three quarters.

Differs from the paper: nothing.
"""

from typing import Annotated, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from gmi.defences.base import Answer, Defence, Loss, refuse_misfit
from gmi.settings import settings


@settings
class LabelSmoothing(Defence):
    """Label smoothing with a weight that may be negative."""

    type: Literal["label-smoothing"] = "label-smoothing"
    # weight of the uniform distribution; above 0 it is ordinary smoothing, which makes inversion easier
    alpha: Annotated[float, Field(gt=-1, lt=1)] = -0.05

    def at(self, done: float) -> float:
        """The uniform distribution's weight when this share of the training is done."""
        return self.alpha * min(1.0, max(0.0, (done - 0.5) / 0.25))

    def loss(self, module: nn.Module, classes: Tensor) -> Loss:
        people = int(classes.max()) + 1

        def loss(answer: Answer, inputs: Tensor, rows: Tensor, done: float) -> Tensor:
            outputs = answer(inputs)
            refuse_misfit(outputs, people)
            alpha = self.at(done)
            cross_entropy = F.cross_entropy(outputs, classes.to(rows.device)[rows])
            return (1 - alpha) * cross_entropy - alpha * outputs.log_softmax(1).mean()

        return loss
