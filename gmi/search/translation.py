"""A recogniser without gradients, followed through one that has them.

Recognisers of faces learn nearly the same: a linear map takes the templates of one to those of another. McNeely-White,
Sattelberg, Blanchard & Beveridge, Canonical Face Embeddings, IEEE T-BIOM 2022 (arXiv:2106.07822). So a search climbs in
the one, through the map, towards a template of the other.

Differs from the paper: the map is a ridge regression, as images are few, its strength chosen by leaving each out in
turn; templates are compared by their cosine from the mean of these images.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRENGTHS = tuple(10 ** (exponent / 2) for exponent in range(-6, 3))
"""Strengths of the ridge that are tried, for templates of length 1."""


class Translation(NamedTuple):
    """A linear map from templates of one recogniser, scaled to length 1, to those of another less their mean."""

    weight: Tensor  # (D, d)
    bias: Tensor  # (D,)
    mean: Tensor  # (D,): of the templates that it leads to

    @classmethod
    def of(cls, source: Tensor, result: Tensor) -> "Translation":
        """The map from templates source (N, d) to templates result (N, D) of the same images."""
        known, mean = F.normalize(source.double()), result.double().mean(0)
        usual, wanted = known.mean(0), result.double() - mean
        left, values, right = torch.linalg.svd(known - usual, full_matrices=False)
        inner = left.T @ wanted

        def error(strength: float) -> float:
            """Mean square of what each image's template is less what the map from all others gives (PRESS)."""
            kept = values**2 / (values**2 + strength)
            leverage = 1 / len(known) + (left**2 * kept).sum(1)
            return float((((wanted - left @ (kept[:, None] * inner)) / (1 - leverage)[:, None]) ** 2).mean())

        strength = min(STRENGTHS, key=error)
        weight = (right.T @ ((values / (values**2 + strength))[:, None] * inner)).T
        return cls(weight.float(), (-weight @ usual).float(), mean.float())


class Translated(nn.Module):
    """A network whose templates are translated: what it gives is compared by the cosine with templates less `mean`."""

    def __init__(self, network: nn.Module, translation: Translation) -> None:
        super().__init__()
        self.network = network
        result, source = translation.weight.shape
        self.linear = nn.Linear(source, result)
        self.linear.load_state_dict({"weight": translation.weight, "bias": translation.bias})
        self.linear.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Templates (N, D), less their mean, of aligned faces."""
        return self.linear(F.normalize(self.network(images)))
