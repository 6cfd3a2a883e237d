"""Shared by searches without gradients: the loss of an individual, from the scores of one view."""

import torch
from torch import Tensor

from gmi.protocols import Prior, ScoreOracle, SimilarityOracle
from gmi.rng import Rng
from gmi.search.objectives import OBJECTIVES
from gmi.views import Views


def losses(
    oracle: ScoreOracle,
    prior: Prior,
    individuals: Tensor,
    classes: Tensor,
    rng: Rng,
    views: Views | None,
    objective: str | None,
) -> Tensor:
    """Losses (N, population) of latents (N, population, ...), one query each.

    N individuals are decoded at a time; all N x population go to the oracle in one call. objective: a name in
    OBJECTIVES; None: max_margin, and of similarities logit, since a poor likeness may have even poorer rivals. views:
    None: the image as it is.
    """
    if objective is None:
        objective = "logit" if isinstance(oracle, SimilarityOracle) else "max_margin"
    columns = []
    for latents in individuals.unbind(1):
        images = prior.decode(latents, classes).clamp(0, 1)
        columns.append(images if views is None else views(images, rng))
    wanted = classes.repeat(len(columns))
    scores = oracle.scores(torch.cat(columns), wanted)
    return OBJECTIVES[objective](scores, wanted).reshape(len(columns), -1).T
