"""IF-GMI: the projection onto an L1 ball against a slow one, and what the features of layers add to latents."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from reference.stylegans import SHAPE, made

from gmi.errors import GmiError
from gmi.protocols import StagedPrior
from gmi.rng import Rng
from gmi.search.gradient import Gradient
from gmi.search.layered import Layered, within

CLASSES = torch.arange(6)
SHORT = Gradient(steps=10, views=None)


def slow(values: torch.Tensor, radius: float) -> torch.Tensor:
    """The nearest point of the ball, by bisection of what is taken off every size."""
    low, high = 0.0, float(values.abs().max())
    if values.abs().sum() <= radius:
        return values
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if (values.abs() - middle).clamp_min(0).sum() > radius else (low, middle)
    return values.sign() * (values.abs() - high).clamp_min(0)


@pytest.mark.parametrize("radius", [0.0, 0.3, 4.0, 1e3])
def test_the_projection_is_the_nearest_point_of_the_ball(radius: float) -> None:
    values = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values[0] = 0
    values[1, 0, :2] = values[1, 0, 2]  # ties
    found = within(values, torch.full((5,), radius, dtype=torch.float64))
    for one, wanted in zip(found, values, strict=True):
        torch.testing.assert_close(one, slow(wanted, radius), rtol=0, atol=1e-9)
    assert (found.flatten(1).abs().sum(1) <= radius + 1e-9).all()
    torch.testing.assert_close(within(found, torch.full((5,), radius, dtype=torch.float64)), found)


def test_the_stages_of_a_dcgan_are_its_decode(world) -> None:
    latents, features, colours = Rng(range(6)).normal(8), None, None
    assert isinstance(world.prior, StagedPrior)
    stages = world.prior.stages()
    for stage in stages:
        features, colours = stage(features, colours, latents)
    torch.testing.assert_close(colours, world.prior.decode(latents), rtol=0, atol=0)
    oracle = world.oracle()
    with pytest.raises(GmiError, match=rf"has {len(stages)} layers: set search.layers to {len(stages) - 1} at most"):
        Layered(search=SHORT, layers=len(stages))(oracle, world.prior, latents, CLASSES, Rng(range(6)))
    assert oracle.queries == 0


def test_features_reach_what_no_latent_makes(world) -> None:
    """The loss falls further than that of the latents alone with as many steps, and without reach it does not."""

    def loss(search: Gradient | Layered) -> torch.Tensor:
        found = search(world.oracle(), world.prior, Rng(range(6)).normal(8), CLASSES, Rng(range(6)))
        return F.cross_entropy(world.target(found.images), CLASSES, reduction="none")

    latents = Gradient(steps=60, lr=0.1, views=None, objective="cross_entropy")
    layered = Layered(search=latents, layers=2, steps=20, lr=0.02, reach=0.3)
    alone, more = loss(latents), loss(layered)
    assert (more < alone).all() and more.mean() < 0.8 * alone.mean()
    torch.testing.assert_close(loss(Layered(search=latents, layers=2, steps=5, reach=0.0)), alone, rtol=1e-4, atol=1e-5)


def test_styles_move_with_the_features_and_stay_within_reach(world) -> None:
    """Of a StyleGAN, whose later layers take the style, too; of a DCGAN only the first layer takes the latent."""
    prior = made(replace(SHAPE, colours=1))
    start = prior.sample(Rng(range(6)))
    search = Layered(search=Gradient(steps=0, constraint="none"), layers=1, steps=25, lr=0.5, reach=0.05)
    found = search(world.oracle(), prior, start, CLASSES, Rng(range(6)))
    moved = (found.latents - start).abs().sum(1) / start.abs().sum(1)
    torch.testing.assert_close(moved, torch.full((6,), 0.05), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(found.images, prior.decode(found.latents), atol=1e-3)  # features moved, too


def test_a_search_that_learns_first_is_refused() -> None:
    with pytest.raises(ValueError, match="feature_weight 0"):
        Layered(search=Gradient(feature_weight=0.1))
