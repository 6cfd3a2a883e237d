"""Bilateral dependency: hidden features shall depend little on the input, and much on the label.

Peng et al., Bilateral Dependency Optimization: Defending Against Model-inversion Attacks (BiDO), KDD 2022:
cross-entropy + `on_inputs` sum_j dep(X, Z_j) - `on_labels` sum_j dep(Z_j, Y), where Z_j is the output of block j and
dep is HSIC (Gretton et al., Measuring Statistical Dependence with Hilbert-Schmidt Norms, ALT 2005) or COCO (Gretton et
al., Kernel Constrained Covariance for Dependence Measurement, AISTATS 2005).

Differs from the paper's equations: both measures are made independent of the kernels' scale. Otherwise their weights
would mean nothing, and with kernels as wide as these the raw measures are practically 0. HSIC is the normalised one
(Fukumizu et al., Kernel Measures of Conditional Dependence, NeurIPS 2007); COCO is given as a share of its greatest
value. Kernels are Gaussian of width 5 sqrt(D) for inputs and features, and linear for labels.
"""

from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from gmi.defences.base import Answer, Defence, Loss, cross_entropy_loss, outputs_of, part_of
from gmi.settings import NonNegative, settings

_WIDTH, _RIDGE = 5.0, 1e-5


@settings
class Bido(Defence):
    """BiDO's loss. The default weights are those of the paper for HSIC."""

    type: Literal["bido"] = "bido"
    whole_network: ClassVar[bool] = True
    blocks: Annotated[tuple[str, ...], Field(min_length=1)]  # names of the parts whose outputs are the hidden features
    measure: Literal["hsic", "coco"] = "hsic"  # measure of dependence
    on_inputs: NonNegative = 0.05  # weight of the dependence on the inputs, which is lowered
    on_labels: NonNegative = 0.5  # weight of the dependence on the labels, which is raised

    def loss(self, module: nn.Module, classes: Tensor) -> Loss:
        blocks = [part_of(module, name, "target.defence.blocks") for name in self.blocks]
        cross_entropy, people = cross_entropy_loss(classes), int(classes.max()) + 1
        dependence = hsic if self.measure == "hsic" else coco

        def loss(answer: Answer, inputs: Tensor, rows: Tensor, done: float) -> Tensor:
            with outputs_of(*blocks) as outputs:
                total = cross_entropy(answer, inputs, rows, done)
            labels = F.one_hot(classes.to(rows.device)[rows], people).to(inputs)
            of_labels, of_inputs = labels @ labels.T, gaussian(inputs)
            for of_features in map(gaussian, outputs):
                total = (
                    total
                    + self.on_inputs * dependence(of_inputs, of_features)
                    - self.on_labels * dependence(of_features, of_labels)
                )
            return total

        return loss


def gaussian(values: Tensor) -> Tensor:
    """Kernel matrix (B, B) of values (B, ...): exp(-|a - b|^2 / (2 width^2 D))."""
    flat = values.flatten(1)
    squares = flat.square().sum(1)
    distances = (squares[:, None] + squares[None] - 2 * flat @ flat.T).clamp_min(0)
    return (-distances / (2 * _WIDTH**2 * flat.shape[1])).exp()


def hsic(left: Tensor, right: Tensor) -> Tensor:
    """Normalised HSIC of two kernel matrices (B, B): tr(R S), at most B - 1.

    R and S are K (K + B e)^-1 of the centred matrices K, with e = 1e-5.
    """
    shares = []
    for kernel in (centred(left), centred(right)):
        ridge = _RIDGE * len(kernel) * torch.eye(len(kernel)).to(kernel)
        shares.append(torch.linalg.solve(kernel + ridge, kernel))  # the two commute
    return (shares[0] * shares[1].T).sum()


def coco(left: Tensor, right: Tensor) -> Tensor:
    """COCO of two kernel matrices (B, B), as a share of its greatest value, in [0, 1].

    It is the root of the largest singular value of the centred matrices' product.
    """
    left, right = centred(left), centred(right)
    bound = torch.linalg.matrix_norm(left, 2) * torch.linalg.matrix_norm(right, 2)
    norm = torch.linalg.matrix_norm(left @ right, 2)
    return (norm / bound.clamp_min(1e-12)).clamp_min(1e-12).sqrt()


def centred(kernel: Tensor) -> Tensor:
    """H K H, the kernel matrix (B, B) of centred features; H = I - 1/B."""
    return kernel - kernel.mean(0, keepdim=True) - kernel.mean(1, keepdim=True) + kernel.mean()
