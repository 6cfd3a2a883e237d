"""Distance of a candidate to its person's reference images: in a judge's feature space, and in LPIPS."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist
from torch import Tensor

from gmi.errors import GmiError
from gmi.protocols import PerceptualJudge


def nearest(candidates: ArrayLike, classes: ArrayLike, reference: ArrayLike, people: ArrayLike) -> np.ndarray:
    """Squared L2 distance (N,) of candidates' features (N, D) to the nearest of their person's references (M, D).

    classes (N,) and people (M,) are the persons' ids. PPA's delta (Struppek et al., ICML 2022). Its unit is that of the
    feature space: compare only within one judge. A candidate with a feature that is NaN has distance NaN; references
    with NaN are left out. Raises GmiError for a class without references.
    """
    candidates, reference = np.asarray(candidates, np.float64), np.asarray(reference, np.float64)
    usable = ~np.isnan(reference).any(1)
    reference, people, classes = reference[usable], np.asarray(people)[usable], np.asarray(classes)
    _all_known(classes, people)
    distances = np.empty(len(candidates))
    for person in np.unique(classes):
        rows = classes == person
        distances[rows] = cdist(candidates[rows], reference[people == person], "sqeuclidean").min(1)
    return distances


@torch.no_grad()
def perceptual(
    judge: PerceptualJudge,
    candidates: Tensor,
    classes: ArrayLike,
    reference: Tensor,
    people: ArrayLike,
    *,
    batch: int = 64,
) -> dict[str, np.ndarray]:
    """Perceptual distances of candidates (N, C, H, W) to all reference images (M, C, H', W') of their person.

    lpips_min (N,) is the distance to the nearest reference, lpips_mean (N,) the mean over all. Papers report either,
    and some the greatest, which is neither. References of another size are resized to the candidates' (bilinear,
    antialiased); grey becomes RGB. batch: pairs at once. Raises GmiError for a class without references.
    """
    classes, people = np.asarray(classes), np.asarray(people)
    _all_known(classes, people)
    if candidates.shape[-2:] != reference.shape[-2:]:
        size = candidates.shape[-2:]
        reference = F.interpolate(reference, size, mode="bilinear", antialias=True, align_corners=False)
    left, right = np.nonzero(classes[:, None] == people)  # pairs, sorted by candidate
    chunks = [slice(start, start + batch) for start in range(0, len(left), batch)]
    device = candidates.device
    pairs = [judge.distance(_rgb(candidates[left[c]]), _rgb(reference[right[c]]).to(device)) for c in chunks]
    distances = torch.cat(pairs).double().cpu().numpy()
    starts, counts = np.unique(left, return_index=True, return_counts=True)[1:]
    return {
        "lpips_min": np.minimum.reduceat(distances, starts),
        "lpips_mean": np.add.reduceat(distances, starts) / counts,
    }


def _rgb(images: Tensor) -> Tensor:
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


def _all_known(classes: np.ndarray, people: np.ndarray) -> None:
    if not len(classes):
        raise GmiError("no candidates: a distance needs at least one")
    if len(missing := np.setdiff1d(classes, people)):
        raise GmiError(f"classes {missing.tolist()} have no usable reference image: give some of every person audited")
