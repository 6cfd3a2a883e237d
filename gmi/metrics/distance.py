"""How far a candidate is from its own person's reference images: in a judge's feature space and in LPIPS."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist
from torch import Tensor

from gmi.errors import GmiError
from gmi.protocols import PerceptualJudge


def nearest(found: ArrayLike, classes: ArrayLike, reference: ArrayLike, people: ArrayLike) -> np.ndarray:
    """Squared L2 distance (N,) from features found (N, D) to the nearest of the own person's reference (M, D).

    classes (N,) and people (M,) are the persons' ids. PPA's delta (Struppek et al., ICML 2022). In the feature space's
    own units: compare only within one judge. A found feature that is NaN has distance NaN; references that are NaN are
    left out. Raises GmiError for a class without references.
    """
    found, reference = np.asarray(found, np.float64), np.asarray(reference, np.float64)
    usable = ~np.isnan(reference).any(1)
    reference, people, classes = reference[usable], np.asarray(people)[usable], np.asarray(classes)
    _all_known(classes, people)
    distances = np.empty(len(found))
    for person in np.unique(classes):
        own = classes == person
        distances[own] = cdist(found[own], reference[people == person], "sqeuclidean").min(1)
    return distances


@torch.no_grad()
def perceptual(
    judge: PerceptualJudge, found: Tensor, classes: ArrayLike, reference: Tensor, people: ArrayLike, *, batch: int = 64
) -> dict[str, np.ndarray]:
    """Perceptual distance of images found (N, C, H, W) to all images reference (M, C, H', W') of the own person.

    lpips_min (N,), to the nearest, and lpips_mean (N,). Literature reports either, and some the greatest, which is
    neither. References of another size are resized to the found ones (bilinear, antialiased), grey becomes RGB. batch:
    pairs at once. Raises GmiError for a class without references.
    """
    classes, people = np.asarray(classes), np.asarray(people)
    _all_known(classes, people)
    if found.shape[-2:] != reference.shape[-2:]:
        reference = F.interpolate(reference, found.shape[-2:], mode="bilinear", antialias=True, align_corners=False)
    left, right = np.nonzero(classes[:, None] == people)  # pairs, sorted by candidate
    chunks = [slice(start, start + batch) for start in range(0, len(left), batch)]
    pairs = [judge.distance(_rgb(found[left[c]]), _rgb(reference[right[c]]).to(found.device)) for c in chunks]
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
