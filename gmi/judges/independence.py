"""Independence of a judge: one that took part in the search, or learnt from the audited people, proves nothing."""

import re
from collections import defaultdict
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from gmi.protocols import Judge

_ROW = 8  # weights of a unit: with fewer, two units look alike by chance
_FEW, _MANY = 64, 1000  # weights of a tensor: below the first it says nothing; from the second on, similarity suffices
_SHARE = 0.1  # of either network's weights; a table that many networks share, such as one of positions, is smaller


def refusal(judge: Judge, target_weights: Iterable[Tensor], target_trained_on: frozenset[str]) -> str | None:
    """The reason why this judge cannot judge this target, as a sentence; None if it can.

    target_weights: the target's parameters; empty for a target that is only served.
    target_trained_on: names of its *private* data sets; case, spaces and hyphens do not matter.

    A judge is refused if a tenth or more of its weights, or of the target's, lie in tensors that the other network has
    too, equal or fine-tuned. Fine-tuned means a cosine above .9, averaged over units, so that a batch norm folded into
    a convolution changes nothing. The order of tensors does not matter, nor what else the networks hold. Trained
    networks that share no ancestor have cosines near 0.
    """
    judge_sides, target_sides = _by_shape(judge.weights()), _by_shape(target_weights)
    of_judge = of_target = 0
    for shape in judge_sides.keys() & target_sides.keys():
        ours, theirs = judge_sides[shape], target_sides[shape]
        alike = _cosines(ours, theirs) > (0.9 if shape.numel() >= _MANY else 1 - 1e-5)
        of_judge += int(alike.any(1).sum()) * shape.numel()
        of_target += int(alike.any(0).sum()) * shape.numel()
    share = max(of_judge / _size(judge_sides), of_target / _size(target_sides))
    if share >= _SHARE:
        part = "the judge's" if of_judge / _size(judge_sides) == share else "the target's"
        return (
            f"The {judge.name} judge is not independent: {share:.0%} of {part} weights are in both networks, equal or "
            "fine-tuned. Take another judge."
        )
    private = {_key(name) for name in target_trained_on}
    if common := sorted(name for name in judge.trained_on if _key(name) in private):
        return (
            f"The {judge.name} judge is not independent: it was trained on {', '.join(common)}, which the target "
            "learnt from too. Take another judge."
        )
    return None


def _by_shape(weights: Iterable[Tensor]) -> dict[torch.Size, list[Tensor]]:
    """The tensors that can tell one network from another: matrices and kernels, large enough and not constant."""
    shapes = defaultdict(list)
    for weight in weights:
        if weight.ndim > 1 and weight.numel() >= _FEW and weight[0].numel() >= _ROW and weight.min() != weight.max():
            shapes[weight.shape].append(weight)
    return shapes


def _size(sides: dict[torch.Size, list[Tensor]]) -> int:
    return sum(shape.numel() * len(weights) for shape, weights in sides.items()) or 1


def _cosines(left: list[Tensor], right: list[Tensor]) -> Tensor:
    """Similarity (L, R) of each left tensor to each right one: the mean over units of the cosine of their weights."""
    a, b = (
        torch.stack([F.normalize(weight.detach().cpu().float().flatten(1), dim=1).flatten() for weight in side])
        for side in (left, right)
    )
    return a @ b.T / left[0].shape[0]


def _key(name: str) -> str:
    """A data set's name without case and punctuation: CASIA-WebFace and casia webface are both casiawebface."""
    return re.sub(r"[^a-z0-9]", "", name.casefold())
