"""How well a prior fits the people: planted fits, an independent slow formula, and samples as good as strangers."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from gmi.inversion.prior_fit import PriorFit, prior_fit
from gmi.metrics.statistics import Estimate, Failed

PEOPLE, PHOTOS, DIMENSIONS = 12, 3, 6
CLASSES = torch.arange(PEOPLE).repeat_interleave(PHOTOS)
ATTACKED = (1, 4, 5, 8, 11)


class Judge:
    name = "toy"

    def similarity(self, left: Tensor, right: Tensor) -> Tensor:
        return -torch.cdist(left, right)


def drawn(seed: int, spread: float = 0.2) -> tuple[dict[str, Tensor], Tensor]:
    """Templates of photographs by role, and the people's centres."""
    rng = torch.Generator().manual_seed(seed)
    centres = torch.randn(PEOPLE, DIMENSIONS, generator=rng)
    shots = {
        role: centres[CLASSES] + spread * torch.randn(len(CLASSES), DIMENSIONS, generator=rng)
        for role in ("training", "enrolment")
    }
    return shots, centres


def fit(templates: dict[str, Tensor]) -> PriorFit:
    images = SimpleNamespace(classes=CLASSES)
    people = SimpleNamespace(training=images, enrolment=images, attacked=ATTACKED)
    return prior_fit(Judge(), templates, people)  # type: ignore[arg-type]


def value(outcome: Estimate | Failed) -> float:
    assert isinstance(outcome, Estimate), outcome
    return outcome.value


def test_samples_of_the_people_cover_all_and_far_ones_none():
    templates, centres = drawn(0)
    near = fit(templates | {"random": centres.repeat(2, 1)})
    far = fit(templates | {"random": centres + 50})
    assert value(near.covered) == 1 and value(far.covered) == 0
    assert value(near.nearest) > value(near.others) > value(far.nearest)
    assert value(far.frechet) > 1000 > value(near.frechet)
    assert near.others == fit(templates | {"random": centres.repeat(2, 1) + 50}).others  # it does not know the samples


def test_samples_as_good_as_strangers_cover_half():
    covered = []
    for seed in range(200):
        templates, _ = drawn(seed)
        rng = torch.Generator().manual_seed(1000 + seed)
        # a prior of such people: each sample shows somebody else
        samples = torch.randn(6, DIMENSIONS, generator=rng) + 0.2 * torch.randn(6, DIMENSIONS, generator=rng)
        covered.append(value(fit(templates | {"random": samples}).covered))
    assert np.mean(covered) == pytest.approx(0.5, abs=0.05)  # 1,000 comparisons


def test_an_independent_slow_formula():
    templates, _ = drawn(3)
    made = torch.randn(40, DIMENSIONS, generator=torch.Generator().manual_seed(4))
    figures = fit(templates | {"random": made})
    count = 33  # other people's photographs, of which there are fewer than samples
    enrolment, training = templates["enrolment"], templates["training"]

    def best(rows: Tensor, person: int) -> float:
        mine = [enrolment[i] for i in range(len(CLASSES)) if CLASSES[i] == person]
        return max(-float((row - shot).norm()) for row in rows for shot in mine)

    chosen = made[[i * 40 // count for i in range(count)]]
    nearest = [best(chosen, person) for person in ATTACKED]
    others = [best(training[person != CLASSES], person) for person in ATTACKED]
    own = [best(training[person == CLASSES], person) for person in ATTACKED]
    assert figures.samples == count
    assert value(figures.nearest) == pytest.approx(np.mean(nearest), abs=1e-5)
    assert value(figures.others) == pytest.approx(np.mean(others), abs=1e-5)
    assert value(figures.own) == pytest.approx(np.mean(own), abs=1e-5)
    assert value(figures.covered) == np.mean(np.greater(nearest, others))

    def distance(left: np.ndarray, right: np.ndarray) -> float:
        a, b = np.cov(left, rowvar=False), np.cov(right, rowvar=False)
        root = np.trace(np.real(sqrtm(a @ b)))
        return float(((left.mean(0) - right.mean(0)) ** 2).sum() + np.trace(a) + np.trace(b) - 2 * root)

    real = enrolment.double().numpy()
    sampled = made[[i * 40 // 36 for i in range(36)]].double().numpy()
    assert value(figures.frechet) == pytest.approx(distance(sampled, real), rel=1e-4)
    assert value(figures.frechet_own) == pytest.approx(distance(training.double().numpy(), real), rel=1e-4)


def test_a_distance_in_too_many_dimensions_is_recorded_as_failed():
    templates, centres = drawn(5)
    wide = {role: rows.repeat(1, 100) for role, rows in (templates | {"random": centres}).items()}
    figures = fit(wide)
    assert figures.frechet == figures.frechet_own == Failed("600 dimensions are too many for so few images")
    assert value(figures.covered) == value(fit(templates | {"random": centres}).covered)
