"""Clusters among samples: what a model makes again and again, found without the records.

K-means (Lloyd, Least Squares Quantization in PCM, IEEE Transactions on Information Theory 28, 1982), begun by k-means++
(Arthur & Vassilvitskii, k-means++: The Advantages of Careful Seeding, SODA 2007), the best of several attempts.

Differs from the papers: a cluster that loses all its points keeps its centre.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from gmi.rng import Rng

SIDE = 8  # height and width to which an image is averaged for its features
ROUNDS = 100  # at most, of Lloyd's algorithm


def features(images: Tensor) -> Tensor:
    """Features (N, D) of length 1 of images (N, C, H, W): small copies of them, less their mean, so that copies of one
    record lie together and a common background tells nothing.
    """
    small = F.adaptive_avg_pool2d(images, SIDE).flatten(1).double().cpu()
    return F.normalize(small - small.mean(0))


def kmeans(points: Tensor, clusters: int, rng: Rng) -> Tensor:
    """The cluster (N,) of each point (N, D), by the best of as many attempts as there are generators."""
    attempts = [_lloyd(points, _spread(points, draws)) for draws in rng.uniform(clusters)]
    return min(attempts, key=lambda attempt: attempt[0])[1]


def coherence(points: Tensor, labels: Tensor, clusters: int) -> Tensor:
    """How alike the points of each cluster are (K,), from points (N, D) of length 1 and their clusters (N,).

    It is the mean cosine of any two of its n points, times (n - 1) / n: 0 for a point alone, 1 at most, and clusters of
    few points, which may be alike by chance, need to be the more alike. Empty ones have 0.
    """
    member = F.one_hot(labels, clusters).to(points)
    count = member.sum(0).clamp_min(1)
    return ((member.T @ points).square().sum(1) / count - 1).clamp_min(0) / count


def _spread(points: Tensor, draws: Tensor) -> Tensor:
    """First centres (K, D): points that are drawn by their squared distance to the nearest; draws: (K,) in [0, 1)."""
    nearest, chosen = torch.ones(len(points)).to(points), []
    for draw in draws.to(points):
        reach = nearest.clamp_min(1e-12).cumsum(0)
        chosen.append(points[min(int(torch.searchsorted(reach, draw * reach[-1], right=True)), len(points) - 1)])
        nearest = (points - torch.stack(chosen)[:, None]).square().sum(2).min(0).values
    return torch.stack(chosen)


def _lloyd(points: Tensor, centres: Tensor) -> tuple[float, Tensor]:
    """The sum of squared distances to the centres in the end, and the cluster (N,) of each point."""
    labels = torch.full((len(points),), -1)
    for _ in range(ROUNDS):
        squares = torch.cdist(points, centres).square()
        before, labels = labels, squares.argmin(1)
        if labels.equal(before):
            break
        member = F.one_hot(labels, len(centres)).to(points)
        count = member.sum(0)[:, None]
        centres = torch.where(count > 0, member.T @ points / count.clamp_min(1), centres)
    squares = torch.cdist(points, centres).square()
    return float(squares.min(1).values.sum()), labels
