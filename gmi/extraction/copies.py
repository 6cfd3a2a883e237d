"""Copies among samples: of training records, and of each other.

Carlini et al., Extracting Training Data from Diffusion Models, USENIX Security 2023, sec. 4.2 (the largest distance of
any tile, so that a common background does not make a copy), sec. 5.1 (the distance to the nearest record, relative to
the distances to its neighbours), sec. 4.2.2 (cliques among samples, for an adversary without the records).

Differs from the paper: a record that is mirrored, or whose tiles lie a little aside, is a copy, too; the neighbours are
held-out images, which no model saw, so that a record which occurs several times in the training set does not hide
itself; if there are other photographs of the same people, they decide how near a copy must be; cliques are found
greedily.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gmi.rng import Rng

TILES = 4  # tiles on each side of an image
SHIFT = 24  # a tile may lie this part of the image aside
MOVED = 4 / 3
"""How much nearer a copy must be that is mirrored, or whose tiles lie aside, than one that lies where it was.

It has eighteen tries, and other photographs of the same people have them, too. Measured with what lets 1 % of those
pass (ORL and LFW, 32 and 48 pixels): at 1, a model of ORL that copies has a tenth of the copies that it has where
nothing may be moved; at 4/3, three quarters. Of blurred copies of LFW that are mirrored and zoomed as many are found at
32 pixels, and at 48 a tenth fewer.
"""
_STILL = 4  # the number, among the nine ways of moving aside, of the one that moves nothing
_BATCH = 50  # images whose distances are computed at once
NOISE = 0.02  # standard deviation of what a sample that copies a record may differ by
FALSE = 0.01  # share of other photographs of the same people that may be taken for copies


def distances(left: Tensor, right: Tensor) -> Tensor:
    """Distances (N, M) of images (N, C, H, W) to images (M, C, H, W).

    A distance is the largest root mean square difference of any of 4 x 4 tiles. Or, if that is less, `MOVED` times the
    same to the image or its mirror image, each tile compared where it lies and up to a 24th of the image aside: models
    are trained on images that are mirrored, shifted and zoomed.
    """
    windows = list(product(_slices(left.shape[2]), _slices(left.shape[3])))
    tiles = [right[:, :, rows, columns].flatten(1).double() for rows, columns in windows]
    return torch.cat([_of_tiles(some, tiles, windows) for some in left.split(_BATCH)])


def _of_tiles(left: Tensor, tiles: Sequence[Tensor], windows: Sequence[tuple[slice, slice]]) -> Tensor:
    """Distances (N, M) to images whose tiles (M, D) are given by windows."""
    variants, worst = _variants(left), torch.zeros(3, len(left), len(tiles[0]), dtype=torch.double, device=left.device)
    for tile, (rows, columns) in zip(tiles, windows, strict=True):
        mine = variants[..., rows, columns].flatten(3).double()  # (2, shifts, N, D)
        squares = tile.square().sum(1) + mine.square().sum(-1, keepdim=True) - 2 * mine @ tile.T
        ways = torch.cat([squares[:1, _STILL], squares.amin(1)])  # as it is, moved, mirrored
        worst = torch.maximum(worst, ways.clamp_min(0) / tile.shape[1])
    still, moved = worst[0].sqrt(), worst[1:].amin(0).sqrt()
    return torch.minimum(still, MOVED * moved).to(left)


def _variants(images: Tensor) -> Tensor:
    """The images (N, C, H, W) and their mirror images, each moved aside in nine ways: (2, 9, N, C, H, W)."""
    height, width = images.shape[2:]
    down, across = (max(1, round(side / SHIFT)) for side in (height, width))
    both = torch.stack([images, images.flip(-1)])
    padded = F.pad(both.flatten(0, 1), (across, across, down, down), mode="replicate").unflatten(0, both.shape[:2])
    places = product((0, down, 2 * down), (0, across, 2 * across))
    return torch.stack([padded[..., row : row + height, at : at + width] for row, at in places], 1)


def _slices(side: int) -> list[slice]:
    """The tiles along a side of so many pixels, as `adaptive_avg_pool2d` takes them."""
    return [slice(tile * side // TILES, -(-(tile + 1) * side // TILES)) for tile in range(TILES)]


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


def detail(images: Tensor) -> float:
    """How fine images (N, C, H, W) are: the median root mean square difference of neighbouring pixels."""
    steps = [images[..., 1:, :] - images[..., :-1, :], images[..., 1:] - images[..., :-1]]
    return float(torch.cat([each.square().flatten(1) for each in steps], 1).mean(1).sqrt().median())


def offset(images: Tensor, others: Tensor) -> float:
    """How far the mean of images (N, C, H, W) is from that of others, in their spread: root mean squares of pixels."""
    mean = others.mean(0)
    spread = (others - mean).square().mean().sqrt().clamp_min(1e-6)
    return float((images.mean(0) - mean).square().mean().sqrt() / spread)


def bar(alike: Tensor, records: Tensor, held_out: Tensor, neighbours: int) -> float:
    """The ratio below which lie at most 1 % of other photographs of the same people, which no model saw."""
    ratios = np.sort(copies(alike, records, held_out, neighbours).ratio)
    return float(ratios[int(FALSE * len(ratios))])


def recall(records: Tensor, held_out: Tensor, neighbours: int, below: float) -> float:
    """The share of the records that are found as copies of themselves: mirrored, zoomed by 5 % and a little noisy."""
    noise = Rng(range(len(records))).normal(*records.shape[1:]).to(records)
    other = torch.tensor([[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).div(1.05).expand(len(records), 2, 3).to(records)
    grid = F.affine_grid(other, [*records.shape], align_corners=False)
    zoomed = F.grid_sample(records, grid, align_corners=False)
    found = copies((zoomed + NOISE * noise).clamp(0, 1), records, held_out, neighbours)
    same = found.nearest == np.arange(len(records))
    return float((same & (found.ratio < below)).mean())


def cliques(samples: Tensor, held_out: Tensor, neighbours: int, below: float, size: int) -> list[list[int]]:
    """Groups of at least `size` samples that are copies of each other, the largest first, each with its centre first.

    It does not need the records. A sample is in one group at most.
    """
    between = distances(samples, samples)
    usual = _usual(samples, held_out, neighbours)
    linked = (between / torch.minimum(usual[:, None], usual) < below).cpu().numpy()
    linked &= linked.T  # of two samples each may lie aside in the other
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
