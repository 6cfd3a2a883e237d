"""Comparison of candidates and real images as sets, in one feature space: per-item PRDC and Frechet distance."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist

from gmi.errors import GmiError
from gmi.metrics.statistics import Estimate, jackknife

_DIMENSIONS = 512  # with more, leaving out each person in turn would take minutes


def prdc(real: ArrayLike, fake: ArrayLike, k: int = 3) -> dict[str, np.ndarray]:
    """Precision (N,), recall (M,), density (N,), coverage (M,) of features fake (N, D) and real (M, D), item by item.

    A ball reaches from an image to its k-th nearest other image of the same set. Precision: 1 for a fake in any real
    ball; recall: 1 for a real in any fake ball (Kynkaanniemi et al. 2019). Density: number of real balls that hold a
    fake, over k, so it may exceed 1; coverage: 1 for a real whose ball holds any fake (Naeem et al. 2020). Their means
    are the papers' figures. Balls are closed (2019, eq. 1; the released code leaves the edge out), so that a copy of a
    real image counts even if k others are equal to it. A fake that is NaN lies in no ball. Raises GmiError if a set has
    no more than k images, and for real features that are not finite.
    """
    real, fake = _features(real), np.asarray(fake, np.float64)
    if min(len(real), len(fake)) <= k:
        raise GmiError(f"{len(real)} real and {len(fake)} found images: balls of k = {k} neighbours need more than {k}")
    between = cdist(real, fake)  # (M, N)
    in_real = between <= _radii(real, k)[:, None]
    in_fake = between <= _radii(fake, k)
    balls = np.count_nonzero(in_real, axis=0)  # (N,) real balls that hold each fake
    return {
        "precision": (balls > 0).astype(np.float64),
        "recall": (np.count_nonzero(in_fake, axis=1) > 0).astype(np.float64),
        "density": balls / k,
        "coverage": (np.count_nonzero(in_real, axis=1) > 0).astype(np.float64),
    }


def frechet(left: ArrayLike, right: ArrayLike) -> float:
    """Frechet distance of the Gaussians fitted to features left (N, D) and right (M, D) (Heusel et al. 2017).

    |mean difference|^2 + tr(L + R - 2 (L R)^(1/2)), squared units of the features. With L = A^T A and R = B^T B, the
    eigenvalues of L R are the squared singular values of A B^T: no matrix root is taken, and covariances without full
    rank do no harm. It is biased upwards unless N and M are large against D: compare only sets of equal sizes, and name
    its feature space. Raises GmiError if a set has fewer than two images, and for features that are not finite.
    """
    left, right = _features(left), _features(right)
    if min(len(left), len(right)) < 2:
        raise GmiError("a Frechet distance needs at least two images a side")
    shift = left.mean(0) - right.mean(0)
    a, b = (np.linalg.qr(x - x.mean(0), mode="r") / np.sqrt(len(x) - 1) for x in (left, right))
    distance = shift @ shift + (a**2).sum() + (b**2).sum() - 2 * np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float(max(distance, 0.0))  # equal sets: 0 up to rounding


def frechet_estimate(
    left: ArrayLike, right: ArrayLike, left_people: ArrayLike | None, right_people: ArrayLike
) -> Estimate:
    """Frechet distance of features left (N, D) and right (M, D), its interval over the people whose images they are.

    left_people: (N,) ids from 0 on; None: images of nobody in particular, so each is left out by itself.
    right_people: (M,) ids.
    A person is left out of both sides at once. Raises GmiError as `frechet` and `jackknife` do, and for more than 512
    dimensions.
    """
    left, right, owners = np.asarray(left), np.asarray(right), np.asarray(right_people)
    whose = -1 - np.arange(len(left)) if left_people is None else np.asarray(left_people)
    if left.shape[1] > _DIMENSIONS:
        raise GmiError(f"{left.shape[1]} dimensions are too many: leaving out each person in turn would take minutes")
    groups, sizes = np.unique(np.append(owners, whose), return_counts=True)
    return jackknife(
        [frechet(left[whose != each], right[owners != each]) for each in groups],
        frechet(left, right),
        len(left),
        bounds=(0.0, np.inf),
        sizes=sizes,
        people=len(np.unique(owners)),
    )


def _radii(features: np.ndarray, k: int) -> np.ndarray:
    """Distance (N,) of each of the features (N, D) to its k-th nearest other."""
    return np.partition(cdist(features, features), k, axis=1)[:, k]  # the nearest is the image itself


def _features(features: ArrayLike) -> np.ndarray:
    features = np.asarray(features, np.float64)
    if bad := int((~np.isfinite(features)).any(axis=1).sum()):
        raise GmiError(f"{bad} of {len(features)} features are not finite: record the metric as failed")
    return features
