"""A recogniser without gradients, followed through one that has them.

Recognisers of faces learn nearly the same: a linear map takes the templates of one to those of another. McNeely-White,
Sattelberg, Blanchard & Beveridge, Canonical Face Embeddings, IEEE T-BIOM 2022 (arXiv:2106.07822). So a search climbs in
the one, through the map, towards a template of the other.

Differs from the paper: the map is a ridge regression, as images are few, its strength chosen by leaving each out in
turn; templates are compared by their cosine from the mean of these images.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import RidgeCV
from torch import Tensor, nn

STRENGTHS = np.logspace(-3, 1, 9)
"""Of the ridge, for templates of length 1."""


class Translation(NamedTuple):
    """A linear map from templates of one recogniser, scaled to length 1, to those of another less their mean."""

    weight: Tensor  # (D, d)
    bias: Tensor  # (D,)
    mean: Tensor  # (D,): of the templates that it leads to

    @classmethod
    def of(cls, source: Tensor, result: Tensor) -> "Translation":
        """The map from templates source (N, d) to templates result (N, D) of the same images."""
        mean = result.double().mean(0)
        ridge = RidgeCV(STRENGTHS).fit(F.normalize(source.double()).numpy(), (result.double() - mean).numpy())
        weight, bias = (torch.from_numpy(values).float() for values in (ridge.coef_, ridge.intercept_))
        return cls(weight, bias, mean.float())


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
