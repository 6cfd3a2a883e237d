"""Distances and distributions: by hand, closed forms and slow definitions; and all metrics with their intervals."""

from collections.abc import Iterable

import numpy as np
import pytest
import torch
from reference import slow_metrics as slow
from torch import Tensor

from gmi.errors import GmiError
from gmi.metrics import distance, distribution, identity, statistics

pytestmark = pytest.mark.filterwarnings("error")
NAN = float("nan")


class MeanSquare:
    """A perceptual judge that can be computed by hand; remembers what it was asked."""

    name = "mean square"
    trained_on: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def weights(self) -> Iterable[Tensor]:
        return []

    def distance(self, left: Tensor, right: Tensor) -> Tensor:
        assert left.shape == right.shape
        self.shapes.append(tuple(left.shape))
        return ((left - right) ** 2).mean((1, 2, 3))


def test_nearest_is_the_squared_distance_to_the_own_persons_nearest() -> None:
    by_hand = distance.nearest([[0.0, 0.0], [NAN, 0.0]], [1, 1], [[3.0, 4.0], [0.0, 6.0], [0.0, 0.1]], [1, 1, 2])
    np.testing.assert_array_equal(by_hand, [25.0, NAN])
    rng = np.random.default_rng(0)
    classes, people = rng.integers(0, 4, 20), np.append(np.arange(4), rng.integers(0, 4, 11))
    found, reference = rng.normal(size=(20, 6)), rng.normal(size=(15, 6))
    expected = slow.nearest(found, classes, reference, people)
    np.testing.assert_allclose(distance.nearest(torch.from_numpy(found), classes, reference, people), expected)
    failed = np.vstack([reference, np.full((1, 6), NAN)])  # a reference that could not be embedded is left out
    np.testing.assert_allclose(distance.nearest(found, classes, failed, np.append(people, 0)), expected)
    with pytest.raises(GmiError, match=r"classes \[9\] have no usable reference"):
        distance.nearest(found[:1], [9], reference, people)


@pytest.mark.parametrize("batch", [1, 4, 1000])
def test_perceptual_distances_to_all_own_references(batch: int) -> None:
    rng = torch.Generator().manual_seed(0)
    found, reference = torch.rand(5, 3, 8, 8, generator=rng), torch.rand(7, 3, 8, 8, generator=rng)
    classes, people = torch.tensor([1, 0, 2, 1, 1]), torch.tensor([0, 1, 2, 1, 0, 1, 3])
    judge = MeanSquare()
    result = distance.perceptual(judge, found, classes, reference, people, batch=batch)
    for i in range(5):
        own = [float(((found[i] - reference[j]) ** 2).mean()) for j in range(7) if people[j] == classes[i]]
        np.testing.assert_allclose(result["lpips_min"][i], min(own), rtol=1e-6)
        np.testing.assert_allclose(result["lpips_mean"][i], sum(own) / len(own), rtol=1e-6)
    assert sum(shape[0] for shape in judge.shapes) == 12 and max(shape[0] for shape in judge.shapes) <= batch


def test_perceptual_brings_references_to_the_size_and_channels_of_the_found() -> None:
    judge, grey = MeanSquare(), torch.full((1, 1, 4, 4), 0.5)
    checks = (torch.arange(12)[:, None] + torch.arange(12)) % 2
    result = distance.perceptual(judge, grey, [0], checks.float().expand(1, 3, 12, 12), [0])
    assert judge.shapes == [(1, 3, 4, 4)]
    assert result["lpips_min"][0] < 1e-2  # antialiased: a fine chequerboard becomes grey
    with pytest.raises(GmiError, match="no usable reference"):
        distance.perceptual(judge, grey, [1], grey, [0])
    with pytest.raises(GmiError, match="no candidates"):
        distance.perceptual(judge, grey[:0], [], grey, [0])


def test_prdc_by_hand() -> None:
    real = np.array([[0.0], [1.0], [2.0], [3.0]])  # k = 1: balls of radius 1
    fake = np.array([[0.5], [3.5], [9.0]])  # balls of radius 3, 3, 5.5
    result = distribution.prdc(real, fake, k=1)
    np.testing.assert_array_equal(result["precision"], [1, 1, 0])
    np.testing.assert_array_equal(result["recall"], [1, 1, 1, 1])
    np.testing.assert_array_equal(result["density"], [2, 1, 0])
    np.testing.assert_array_equal(result["coverage"], [1, 1, 0, 1])


def test_prdc_is_the_slow_formula_and_does_not_assume_equal_counts() -> None:
    rng = np.random.default_rng(0)
    for m, n in ((12, 12), (20, 7), (6, 25)):
        real, fake = rng.normal(size=(m, 4)), rng.normal(size=(n, 4)) * 1.2
        expected, order = slow.prdc(real, fake, 3), rng.permutation(n)
        result, shuffled = distribution.prdc(real, fake), distribution.prdc(real, fake[order])
        for name in result:
            np.testing.assert_array_equal(result[name], expected[name])
            fakes = name in ("precision", "density")
            np.testing.assert_array_equal(shuffled[name], result[name][order] if fakes else result[name])


def test_prdc_of_copies_and_failures() -> None:
    real = np.random.default_rng(0).normal(size=(8, 3))
    same = distribution.prdc(np.repeat(real, 4, axis=0), real)  # radius 0, and yet every copy is inside
    assert same["precision"].all() and same["coverage"].all() and (same["density"] == 4 / 3).all()
    failed = distribution.prdc(real, np.vstack([real, np.full((1, 3), NAN)]))
    assert failed["precision"].tolist() == [1] * 8 + [0] and failed["density"][-1] == 0
    np.testing.assert_array_equal(failed["coverage"], distribution.prdc(real, real)["coverage"])
    with pytest.raises(GmiError, match="need more than 3"):
        distribution.prdc(real, real[:3])
    with pytest.raises(GmiError, match="not finite"):
        distribution.prdc(real * NAN, real)


def gaussian(mean: np.ndarray, root: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Features (n, D) whose sample mean and covariance root^T root are exact."""
    white = rng.normal(size=(n, len(mean)))
    q, _ = np.linalg.qr(white - white.mean(0))
    return q * np.sqrt(n - 1) @ root + mean


def test_frechet_of_gaussians_with_exact_moments() -> None:
    rng = np.random.default_rng(0)
    mean, a, b = rng.normal(size=5), rng.uniform(0.5, 2, 5), rng.uniform(0.5, 2, 5)
    left, right = gaussian(mean, np.diag(a), 40, rng), gaussian(np.zeros(5), np.diag(b), 25, rng)
    expected = (mean**2).sum() + ((a - b) ** 2).sum()  # commuting covariances: Wasserstein's closed form
    assert distribution.frechet(left, right) == pytest.approx(expected, rel=1e-9)
    assert distribution.frechet(left, left + 3) == pytest.approx(45, rel=1e-9)
    assert distribution.frechet(left, 2 * left - left.mean(0)) == pytest.approx((a**2).sum(), rel=1e-9)


@pytest.mark.parametrize(("n", "m", "d"), [(60, 80, 10), (8, 12, 30), (5, 90, 30), (2, 2, 4)])
def test_frechet_is_the_slow_formula_symmetric_and_zero_for_equal_sets(n: int, m: int, d: int) -> None:
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(n, d)), rng.normal(size=(m, d)) @ rng.normal(size=(d, d)) / 3
    value = distribution.frechet(left, right)
    slack = 1e-6 if min(n, m) > d else 1e-4  # the slow formula's root of a singular matrix is good to half the digits
    assert value == pytest.approx(slow.frechet(left, right), rel=slack)
    assert value == pytest.approx(distribution.frechet(right, left), rel=1e-9)
    assert value == pytest.approx(distribution.frechet(left[::-1], torch.from_numpy(right)), rel=1e-9)
    assert 0 <= distribution.frechet(left, left) < 1e-9


def test_frechet_refuses_what_it_cannot_fit() -> None:
    with pytest.raises(GmiError, match="two images"):
        distribution.frechet(np.zeros((1, 3)), np.zeros((4, 3)))
    with pytest.raises(GmiError, match="1 of 4 features"):
        distribution.frechet(np.zeros((4, 3)), np.vstack([np.zeros((3, 3)), np.full((1, 3), NAN)]))


def test_frechet_over_people_leaves_a_person_out_of_both_sides_and_a_sample_by_itself() -> None:
    rng = np.random.default_rng(1)
    left, right, people = rng.normal(size=(9, 4)), rng.normal(size=(12, 4)), np.repeat([0, 1, 2], 3)
    owners = np.repeat([0, 1, 2], 4)
    paired = distribution.frechet_estimate(left, right, people, owners)
    without = [slow.frechet(left[people != each], right[owners != each]) for each in range(3)]
    half = 4.302653 * np.sqrt(2 / 3 * np.square(np.array(without) - np.mean(without)).sum())  # Student's t, 2 degrees
    assert paired.value == pytest.approx(distribution.frechet(left, right))
    assert paired.high - paired.value == pytest.approx(half, rel=1e-4)
    assert (paired.n, paired.people) == (9, 3)
    alone = distribution.frechet_estimate(left, right, None, owners)
    without = [(4, slow.frechet(left, right[owners != each])) for each in range(3)]
    without += [(1, slow.frechet(np.delete(left, each, 0), right)) for each in range(9)]
    whole, n = alone.value, 21  # images; Busing et al. 1999
    middle = 12 * whole - sum((1 - m / n) * value for m, value in without)
    terms = [(n / m * whole - (n / m - 1) * value - middle) ** 2 / (n / m - 1) for m, value in without]
    assert alone.high - alone.value == pytest.approx(4.302653 * np.sqrt(np.mean(terms)), rel=1e-4)
    assert (alone.value, alone.people) == (paired.value, 3)


def test_metrics_and_intervals_fit_together() -> None:
    """Half of ten people leak: the interval finds the half, and the permuted control finds nothing."""
    rng = np.random.default_rng(0)
    ids, classes = np.arange(10), np.repeat(np.arange(10), 4)
    similarity = rng.uniform(0, 0.5, (40, 10))
    similarity[:20][np.arange(20), classes[:20]] += 0.5
    probes = np.arange(200) % 10
    chosen = identity.thresholds(rng.uniform(0, 0.5, (200, 10)), probes, ids, fmrs=(0.01,))
    found = identity.outcomes(similarity, classes, ids, chosen)
    wrong = identity.permuted(similarity, classes, ids, chosen)
    leak = statistics.estimate(found["match@0.01"], classes)
    assert leak.low < 0.5 < leak.high and leak.people == 10 and leak.n == 40
    by = [statistics.by_person(values["match@0.01"], classes) for values in (found, wrong)]
    assert statistics.difference(by[0], by[1]).low > 0.05
    lower = distance.nearest(similarity, classes, np.eye(10), ids)
    assert statistics.estimate(lower, classes, bounds=None).value > 0
