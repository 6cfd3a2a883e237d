"""Which samples are copies of records, and which samples are copies of one another.

Carlini et al., Extracting Training Data from Diffusion Models, USENIX Security 2023, sec. 4.2 (the largest distance of
any tile, so that a common background makes no copy), sec. 5.1 (the distance to the nearest record beside those to its
neighbours), sec. 4.2.2 (cliques among samples, for an adversary without the records).

Differs from the paper: the neighbours are held-out images, which no model saw, so that a record that was trained on
several times does not hide itself; other photographs of the same people, where there are any, say how near a copy must
be; cliques are found greedily.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

TILES = 4  # on each side
FALSE = 0.01  # share of other photographs of the same people that may be taken for copies


def distances(left: Tensor, right: Tensor) -> Tensor:
    """(N, M): the largest root mean square difference of any of 4 x 4 tiles, of images (N, C, H, W), (M, C, H, W)."""
    rows = []
    for one in left:
        squares = (right - one).square().mean(1, keepdim=True)
        rows.append(F.adaptive_avg_pool2d(squares, TILES).flatten(1).max(1).values.sqrt())
    return torch.stack(rows)


def _usual(samples: Tensor, held_out: Tensor, neighbours: int) -> Tensor:
    """(N,): mean distance of each sample to its nearest held-out images."""
    near = distances(samples, held_out).topk(min(neighbours, len(held_out)), largest=False).values
    return near.mean(1).clamp_min(1e-12)


@dataclass(frozen=True)
class Copies:
    """nearest (N,): the record that each sample is nearest to; ratio (N,): how near, beside held-out images."""

    nearest: NDArray[np.int64]
    ratio: NDArray[np.float64]

    def of_records(self, records: int, below: float) -> NDArray[np.int64]:
        """(M,): samples that are copies of each record."""
        return np.bincount(self.nearest[self.ratio < below], minlength=records)


def copies(samples: Tensor, records: Tensor, held_out: Tensor, neighbours: int) -> Copies:
    """Samples beside records: the distance to the nearest, over the mean of those to the nearest held-out images."""
    near, place = distances(samples, records).min(1)
    ratio = near / _usual(samples, held_out, neighbours)
    return Copies(place.cpu().numpy(), ratio.double().cpu().numpy())


def bar(alike: Tensor, records: Tensor, held_out: Tensor, neighbours: int) -> float:
    """The ratio that at most 1 % of photographs of the same people, which no model saw, are below."""
    ratios = np.sort(copies(alike, records, held_out, neighbours).ratio)
    return float(ratios[int(FALSE * len(ratios))])


def cliques(samples: Tensor, held_out: Tensor, neighbours: int, below: float, size: int) -> list[list[int]]:
    """Groups of samples, all of which are copies of each other, the largest first; the first of each is its centre.

    Nobody needs the records for it. A sample is in one group at most.
    """
    apart = distances(samples, samples)
    usual = _usual(samples, held_out, neighbours)
    linked = (apart / torch.minimum(usual[:, None], usual) < below).cpu().numpy()
    np.fill_diagonal(linked, False)
    free, found = np.ones(len(samples), bool), []
    while True:
        degree = np.where(free, (linked & free).sum(1), -1)
        centre = int(degree.argmax())
        if degree[centre] + 1 < size:
            return sorted(found, key=len, reverse=True)
        group, fit = [centre], linked[centre] & free
        while fit.any():
            joined = int(np.where(fit, (linked & fit).sum(1), -1).argmax())
            group.append(joined)
            fit &= linked[joined]
        free[group] = False
        if len(group) >= size:
            found.append(group)
