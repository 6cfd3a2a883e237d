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


def fit(templates: dict[str, Tensor], seeds: int = 1, attacked: tuple[int, ...] = ATTACKED) -> PriorFit:
    images = SimpleNamespace(classes=CLASSES)
    people = SimpleNamespace(training=images, enrolment=images, attacked=attacked)
    return prior_fit(Judge(), templates, people, seeds)  # type: ignore[arg-type]


def value(outcome: Estimate | Failed) -> float:
    assert isinstance(outcome, Estimate), outcome
    return outcome.value


def test_samples_of_the_people_cover_all_and_far_ones_none():
    templates, centres = drawn(0)
    near = fit(templates | {"random": centres[list(ATTACKED)]})
    far = fit(templates | {"random": centres[list(ATTACKED)] + 50})
    assert value(near.covered) == 1 and value(far.covered) == 0
    assert value(near.nearest) > value(near.others) > value(far.nearest)
    assert value(far.frechet) > 1000 > value(near.frechet)
    assert near.others == far.others  # it does not know the samples


@pytest.mark.parametrize("samples", [6, 60])  # fewer than people, and more
def test_samples_as_good_as_strangers_cover_half(samples: int):
    covered = []
    for seed in range(150):
        templates, _ = drawn(seed)
        rng = torch.Generator().manual_seed(1000 + seed)
        # a prior of such people: each sample shows somebody else
        made = torch.randn(samples, DIMENSIONS, generator=rng)
        made += 0.2 * torch.randn(samples, DIMENSIONS, generator=rng)
        figures = fit(templates | {"random": made})
        assert figures.samples == min(samples, PEOPLE - 1)
        covered.append(value(figures.covered))
    assert np.mean(covered) == pytest.approx(0.5, abs=0.06)  # 750 comparisons


def test_figures_do_not_depend_on_the_number_of_seeds():
    templates, centres = drawn(1)
    once = fit(templates | {"random": centres + 1})
    twice = fit(templates | {"random": (centres + 1).repeat(2, 1)}, seeds=2)
    assert twice.samples == once.samples and twice.images == once.images
    assert value(twice.nearest) == pytest.approx(value(once.nearest))
    assert value(twice.covered) == value(once.covered)


def test_seeds_that_differ_widen_the_interval():
    templates, centres = drawn(2)
    people = centres[list(ATTACKED)]
    luck = fit(templates | {"random": torch.cat([people, people + 50])}, seeds=2).covered
    assert isinstance(luck, Estimate) and luck.value == 0.5
    assert luck.low < 0.1 and luck.high > 0.9


def test_a_sample_as_near_as_a_stranger_counts_half():
    templates, _ = drawn(6)
    strangers = templates["training"][::PHOTOS]
    figures = fit(templates | {"random": strangers[torch.tensor([0, 2, 3, 6, 7, 9, 10])]}, attacked=(1,))
    assert value(figures.covered) in (0.0, 0.5)
    same = fit(templates | {"random": torch.cat([strangers[:1], strangers[2:]])}, attacked=(1,))
    assert value(same.covered) == 0.5
    assert isinstance(same.nearest, Failed)  # one person has no interval without bounds


def test_a_sample_without_a_template_fails_its_figures_only():
    templates, centres = drawn(7)
    made = centres.clone()
    made[0] = np.nan
    figures = fit(templates | {"random": made})
    assert all(isinstance(each, Failed) for each in (figures.nearest, figures.covered, figures.frechet))
    assert isinstance(figures.others, Estimate) and isinstance(figures.frechet_own, Estimate)


def test_an_independent_slow_formula():
    templates, _ = drawn(3)
    made = torch.randn(40, DIMENSIONS, generator=torch.Generator().manual_seed(4))
    figures = fit(templates | {"random": made})
    count = PEOPLE - 1
    enrolment, training = templates["enrolment"], templates["training"]

    def best(rows: Tensor, person: int) -> float:
        mine = [enrolment[i] for i in range(len(CLASSES)) if CLASSES[i] == person]
        return max(-float((row - shot).norm()) for row in rows for shot in mine)

    chosen = made[[i * 40 // count for i in range(count)]]
    nearest = [best(chosen, person) for person in ATTACKED]
    others = [best(training[::PHOTOS][torch.arange(PEOPLE) != person], person) for person in ATTACKED]
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


@pytest.mark.slow
def test_intervals_of_a_distance_are_of_the_right_width():
    draws = []
    for seed in range(200):
        made = 1 + torch.randn(PEOPLE * PHOTOS, DIMENSIONS, generator=torch.Generator().manual_seed(9000 + seed))
        draws.append(fit(drawn(seed)[0] | {"random": made}))
    for name in ("frechet", "frechet_own"):
        figures = [getattr(each, name) for each in draws]
        truth = np.mean([value(each) for each in figures])  # of so many people: what an interval is for
        covered = np.mean([each.low <= truth <= each.high for each in figures])
        spread = np.std([each.value for each in figures])
        width = np.median([each.high - each.low for each in figures])
        assert covered > 0.88 and 3 < width / spread < 6


def test_a_distance_in_too_many_dimensions_is_recorded_as_failed():
    templates, centres = drawn(5)
    wide = {role: rows.repeat(1, 100) for role, rows in (templates | {"random": centres}).items()}
    figures = fit(wide)
    assert (
        figures.frechet
        == figures.frechet_own
        == Failed("600 dimensions are too many: leaving out each person in turn would take minutes")
    )
    assert value(figures.covered) == value(fit(templates | {"random": centres}).covered)
