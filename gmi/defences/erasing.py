"""Random erasing: the target never sees a whole face.

Tran, Nguyen et al., Random Erasing vs. Model Inversion: A Promising Defense or a False Hope? (MIDRE), TMLR 2025: in
every training image a square of random size and place is blanked. The operation is that of Zhong et al., Random Erasing
Data Augmentation, AAAI 2020, in torchvision's implementation.

Differs from the paper: the erased square becomes middle grey.
"""

from typing import ClassVar, Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor, nn
from torchvision.transforms.v2 import RandomErasing

from gmi.defences.base import Answer, Defence, Loss, cross_entropy_loss
from gmi.settings import Rate, settings


@settings
class Erasing(Defence):
    """MIDRE: the share of the image's area that is erased is drawn between `least` and `most`."""

    type: Literal["erasing"] = "erasing"
    whole_network: ClassVar[bool] = True
    least: Rate = 0.1  # smallest share of the image's area that is erased
    most: Rate = 0.4  # largest share of the image's area that is erased

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.least > self.most:
            raise ValueError("least must not exceed most")
        return self

    def loss(self, module: nn.Module, classes: Tensor) -> Loss:
        cross_entropy = cross_entropy_loss(classes)
        erase = RandomErasing(p=1.0, scale=(self.least, self.most), ratio=(1.0, 1.0), value=0.5)

        def loss(answer: Answer, inputs: Tensor, rows: Tensor, done: float) -> Tensor:
            return cross_entropy(answer, torch.stack([erase(image) for image in inputs]), rows, done)

        return loss
