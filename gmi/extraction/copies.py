"""Copies among samples: of training records, and of each other.

Carlini et al., Extracting Training Data from Diffusion Models, USENIX Security 2023, sec. 4.2 (the largest distance of
any tile, so that a common background does not make a copy), sec. 5.1 (the distance to the nearest record, relative to
the distances to its neighbours), sec. 4.2.2 (cliques among samples, for an adversary without the records).

Differs from the paper: a mirrored record is a copy, too; the neighbours are held-out images, which no model saw, so
that a record which occurs several times in the training set does not hide itself; if there are other photographs of the
same people, they decide how near a copy must be; cliques are found greedily.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gmi.rng import Rng

TILES = 4  # tiles on each side of an image
NOISE = 0.02  # standard deviation of what a sample that copies a record may differ by
FALSE = 0.01  # share of other photographs of the same people that may be taken for copies


def distances(left: Tensor, right: Tensor) -> Tensor:
    """Distances (N, M) of images (N, C, H, W) to images (M, C, H, W).

    A distance is the largest root mean square difference of any of 4 x 4 tiles, to the image or its mirror image:
    models are trained on both.
    """
    rows = []
    for image in left:
        squares = torch.stack([(right - each).square().mean(1) for each in (image, image.flip(-1))])
        rows.append(F.adaptive_avg_pool2d(squares, TILES).flatten(2).max(2).values.min(0).values.sqrt())
    return torch.stack(rows)


def _usual(samples: Tensor, held_out: Tensor, neighbours: int) -> Tensor:
    """Mean distance (N,) of each sample to its nearest held-out images."""
    near = distances(samples, held_out).topk(min(neighbours, len(held_out)), largest=False).values
    return near.mean(1).clamp_min(1e-12)


@dataclass(frozen=True)
class Copies:
    """The nearest record of each of N samples."""

    nearest: NDArray[np.int64]  # (N,), index of the record
    ratio: NDArray[np.float64]  # (N,), its distance over the mean distance to the nearest held-out images

    def of_records(self, records: int, below: float) -> NDArray[np.int64]:
        """Number of samples (M,) that are copies of each of M records: nearest to it, with a ratio below this."""
        return np.bincount(self.nearest[self.ratio < below], minlength=records)


def copies(samples: Tensor, records: Tensor, held_out: Tensor, neighbours: int) -> Copies:
    """The nearest record of each sample (N, C, H, W), with its ratio. neighbours: held-out images in the mean."""
    near, index = distances(samples, records).min(1)
    ratio = near / _usual(samples, held_out, neighbours)
    return Copies(index.cpu().numpy(), ratio.double().cpu().numpy())


def bar(alike: Tensor, records: Tensor, held_out: Tensor, neighbours: int) -> float:
    """The ratio below which lie at most 1 % of other photographs of the same people, which no model saw."""
    ratios = np.sort(copies(alike, records, held_out, neighbours).ratio)
    return float(ratios[int(FALSE * len(ratios))])


def recall(records: Tensor, held_out: Tensor, neighbours: int, below: float) -> float:
    """The share of the records that are found as copies of themselves, mirrored and after a little noise."""
    noise = Rng(range(len(records))).normal(*records.shape[1:]).to(records)
    found = copies((records.flip(-1) + NOISE * noise).clamp(0, 1), records, held_out, neighbours)
    same = found.nearest == np.arange(len(records))
    return float((same & (found.ratio < below)).mean())


def cliques(samples: Tensor, held_out: Tensor, neighbours: int, below: float, size: int) -> list[list[int]]:
    """Groups of at least `size` samples that are copies of each other, the largest first, each with its centre first.

    It does not need the records. A sample is in one group at most.
    """
    between = distances(samples, samples)
    usual = _usual(samples, held_out, neighbours)
    linked = (between / torch.minimum(usual[:, None], usual) < below).cpu().numpy()
    np.fill_diagonal(linked, False)
    free, groups = np.ones(len(samples), bool), []
    while True:
        degree = np.where(free, (linked & free).sum(1), -1)
        centre = int(degree.argmax())
        if degree[centre] + 1 < size:
            return sorted(groups, key=len, reverse=True)
        group, fit = [centre], linked[centre] & free
        while fit.any():
            joined = int(np.where(fit, (linked & fit).sum(1), -1).argmax())
            group.append(joined)
            fit &= linked[joined]
        free[group] = False
        if len(group) >= size:
            groups.append(group)
