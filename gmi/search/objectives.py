"""Losses of searches. Each takes logits (N, K) and classes (N,) and gives losses (N,); lower is better.

They never average over the batch: a candidate's gradient must not depend on its neighbours.
"""

import torch
from torch import Tensor

from gmi.errors import GmiError

_EDGE = 1e-4  # keeps the Poincare ball's points off its boundary, where the distance is infinite


def cross_entropy(logits: Tensor, classes: Tensor, confidence: float = 1.0) -> Tensor:
    """-log softmax(t)_y. Zhang et al., The Secret Revealer (GMI), CVPR 2020, eq. 3.

    confidence: below 1, the cross-entropy is taken with the distribution that gives y this probability and shares the
    rest equally among the other classes; it is least when the target's probability of y equals `confidence`.
    """
    scores = logits.log_softmax(1)
    log_p = scores.gather(1, classes[:, None]).squeeze(1)
    return -confidence * log_p - (1 - confidence) / max(1, logits.shape[1] - 1) * (scores.sum(1) - log_p)


def max_margin(logits: Tensor, classes: Tensor) -> Tensor:
    """max_{k != y} t_k - t_y. Yuan et al., Pseudo Label-Guided Model Inversion (PLG-MI), AAAI 2023, eq. 5."""
    others = logits.scatter(1, classes[:, None], -torch.inf)
    return others.amax(1) - logits.gather(1, classes[:, None]).squeeze(1)


def logit(logits: Tensor, classes: Tensor) -> Tensor:
    """-t_y, the identity loss of Nguyen et al., Re-thinking Model Inversion Attacks (LOMMA), CVPR 2023, eq. 3."""
    return -logits.gather(1, classes[:, None]).squeeze(1)


def poincare(logits: Tensor, classes: Tensor) -> Tensor:
    """Distance in the Poincare ball between L1-normalised logits and the class. Struppek et al., PPA, ICML 2022, eq. 3.

    Differs from the paper: logits are centred first, since their mean is arbitrary and would set the direction of u;
    both points are kept 1e-4 inside the ball. Raises GmiError for two classes, whose centred and normalised logits are
    always the same but for their sign.
    """
    if logits.shape[1] < 3:
        raise GmiError("search.objective: poincare is constant for two people: take max_margin or logit.")
    centred = logits - logits.mean(1, keepdim=True)
    u = centred / centred.abs().sum(1, keepdim=True).clamp_min(1e-12) * (1 - _EDGE)
    v = torch.zeros_like(u).scatter(1, classes[:, None], 1 - _EDGE)
    squared_distance = (u - v).square().sum(1)
    room = (1 - u.square().sum(1)) * (1 - v.square().sum(1))
    return torch.arccosh(1 + 2 * squared_distance / room)


OBJECTIVES = {"cross_entropy": cross_entropy, "max_margin": max_margin, "logit": logit, "poincare": poincare}
