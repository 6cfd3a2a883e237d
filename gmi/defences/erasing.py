"""Random erasing: the target never sees a whole face.

Tran, Nguyen et al., Random Erasing vs. Model Inversion: A Promising Defense or a False Hope? (MIDRE), TMLR 2025: a
square of random size and place is blanked in every training image. The operation is that of Zhong et al., Random
Erasing Data Augmentation, AAAI 2020, as torchvision has it.

Differs from the paper: what is erased becomes middle grey.
"""

from typing import ClassVar, Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor, nn
from torchvision.transforms.v2 import RandomErasing

from gmi.defences.base import Answer, Defence, Loss, naming
from gmi.settings import Rate, settings


@settings
class Erasing(Defence):
    """least, most: of the image's area that is erased."""

    type: Literal["erasing"] = "erasing"
    whole: ClassVar[bool] = True
    least: Rate = 0.1
    most: Rate = 0.4

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.least > self.most:
            raise ValueError("least must not exceed most")
        return self

    def lesson(self, module: nn.Module, classes: Tensor) -> Loss:
        name = naming(classes)
        erase = RandomErasing(p=1.0, scale=(self.least, self.most), ratio=(1.0, 1.0), value=0.5)

        def lesson(answer: Answer, inputs: Tensor, rows: Tensor, done: float) -> Tensor:
            return name(answer, torch.stack([erase(one) for one in inputs]), rows, done)

        return lesson
