"""What searches without gradients share: an individual's loss by the scores of one view of it, and the sphere."""

import torch
from torch import Tensor

from gmi.protocols import Prior, ScoreOracle
from gmi.rng import Rng
from gmi.search.objectives import OBJECTIVES
from gmi.views import Views


def losses(
    oracle: ScoreOracle,
    prior: Prior,
    born: Tensor,
    classes: Tensor,
    rng: Rng,
    views: Views | None,
    objective: str,
    radius: float | None,
) -> Tensor:
    """(N, population) of latents (N, population, ...), one query each: N are decoded at a time, all asked at once."""
    columns = []
    for latents in born.unbind(1):
        images = prior.decode(on_sphere(latents, radius), classes).clamp(0, 1)
        columns.append(images if views is None else views(images, rng))
    everybody = classes.repeat(len(columns))
    scores = oracle.scores(torch.cat(columns), everybody)
    return OBJECTIVES[objective](scores, everybody).reshape(len(columns), -1).T


def on_sphere(latents: Tensor, radius: float | None) -> Tensor:
    """Latents (N, ...) of this length; None: as they are."""
    if radius is None:
        return latents
    lengths = latents.flatten(1).norm(dim=1).reshape(-1, *[1] * (latents.ndim - 1))
    return latents * (radius / lengths.clamp_min(1e-12))
