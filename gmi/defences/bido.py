"""Bilateral dependency: hidden features are to depend little on the input, and much on the label.

Peng et al., Bilateral Dependency Optimization: Defending Against Model-inversion Attacks (BiDO), KDD 2022:
cross-entropy + `on_inputs` sum_j dep(X, Z_j) - `on_labels` sum_j dep(Z_j, Y), where Z_j is what block j puts out and
dep is HSIC (Gretton et al., Measuring Statistical Dependence with Hilbert-Schmidt Norms, ALT 2005) or COCO (Gretton et
al., Kernel Constrained Covariance for Dependence Measurement, AISTATS 2005).

Differs from the paper's equations: both are free of the kernels' scale, without which weights mean nothing and the raw
measures, of kernels as wide as these, are as good as 0. HSIC is the normalised one (Fukumizu et al., Kernel Measures of
Conditional Dependence, NeurIPS 2007), COCO a share of its greatest value. Kernels are Gaussian of width 5 sqrt(D) for
inputs and features, and linear for labels.
"""

from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from gmi.defences.base import Answer, Defence, Loss, listening, naming, part_of
from gmi.settings import NonNegative, settings

_WIDTH, _RIDGE = 5.0, 1e-5


@settings
class Bido(Defence):
    """blocks: names of the parts whose outputs count. The weights are those of the paper for HSIC."""

    type: Literal["bido"] = "bido"
    whole: ClassVar[bool] = True
    blocks: Annotated[tuple[str, ...], Field(min_length=1)]
    measure: Literal["hsic", "coco"] = "hsic"
    on_inputs: NonNegative = 0.05
    on_labels: NonNegative = 0.5

    def lesson(self, module: nn.Module, classes: Tensor) -> Loss:
        blocks = [part_of(module, name, "target.defence.blocks") for name in self.blocks]
        name, people = naming(classes), int(classes.max()) + 1
        dependence = hsic if self.measure == "hsic" else coco

        def lesson(answer: Answer, inputs: Tensor, rows: Tensor, done: float) -> Tensor:
            with listening(*blocks) as heard:
                total = name(answer, inputs, rows, done)
            labels = F.one_hot(classes.to(rows.device)[rows], people).to(inputs)
            told, shown = labels @ labels.T, gaussian(inputs)
            for features in map(gaussian, heard):
                total = (
                    total + self.on_inputs * dependence(shown, features) - self.on_labels * dependence(features, told)
                )
            return total

        return lesson


def gaussian(values: Tensor) -> Tensor:
    """Kernel matrix (B, B) of values (B, ...): exp(-|a - b|^2 / (2 width^2 D))."""
    flat = values.flatten(1)
    squares = flat.square().sum(1)
    apart = (squares[:, None] + squares[None] - 2 * flat @ flat.T).clamp_min(0)
    return (-apart / (2 * _WIDTH**2 * flat.shape[1])).exp()


def hsic(left: Tensor, right: Tensor) -> Tensor:
    """tr(R S) of kernel matrices (B, B), where R = K (K + B e)^-1 of a centred one; e is 1e-5. At most B - 1."""
    shares = []
    for kernel in (centred(left), centred(right)):
        ridge = _RIDGE * len(kernel) * torch.eye(len(kernel)).to(kernel)
        shares.append(torch.linalg.solve(kernel + ridge, kernel))  # the two commute
    return (shares[0] * shares[1].T).sum()


def coco(left: Tensor, right: Tensor) -> Tensor:
    """The root of the largest singular value of the product of the centred kernel matrices (B, B), as a share of the
    most that it can be; between 0 and 1.
    """
    left, right = centred(left), centred(right)
    most = torch.linalg.matrix_norm(left, 2) * torch.linalg.matrix_norm(right, 2)
    found = torch.linalg.matrix_norm(left @ right, 2)
    return (found / most.clamp_min(1e-12)).clamp_min(1e-12).sqrt()


def centred(kernel: Tensor) -> Tensor:
    """H K H."""
    return kernel - kernel.mean(0, keepdim=True) - kernel.mean(1, keepdim=True) + kernel.mean()
