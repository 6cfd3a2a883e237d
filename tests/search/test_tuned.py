"""PPDG: a copy of the generator learns that a find's neighbours show it, too; the prior itself never changes."""

import dataclasses

import pytest
import torch
from reference.mixture import PATHS, Mixture

from gmi.errors import GmiError
from gmi.priors.diffusion import DiffusionPrior
from gmi.rng import Rng
from gmi.search.gradient import Gradient
from gmi.search.signature import refuse_misfit
from gmi.search.tuned import Tuned

CLASSES = torch.arange(6)
SHORT = Gradient(steps=6, views=None)


def neighbours(world, latents: torch.Tensor, reach: float) -> torch.Tensor:
    return latents.lerp(world.prior.sample(Rng(range(50, 56))), reach)


@pytest.mark.parametrize(("weight", "most", "half"), [(0.0, 0.7, False), (0.1, 0.95, False), (0.0, 0.7, True)])
def test_neighbours_come_nearer_to_the_finds(world, weight: float, most: float, half: bool) -> None:
    """In pixels, where the tuned generator makes images of latents that it was not shown; the finds stay themselves."""
    tuned, before = [], world.prior.digest

    class Kept(Tuned):
        def _tune(self, prior, oracle, finds, rng):
            super()._tune(prior, oracle, finds, rng)
            tuned.append((prior, finds))

    search = Kept(search=SHORT, finds=3, steps=60, lr=3e-3, reach=0.3, feature_weight=weight)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        search(world.oracle(), world.prior, Rng(range(2)).normal(8), CLASSES[:2], Rng(range(2)))
    assert world.prior.digest == before and len(tuned) == 2
    for prior, finds in tuned:
        assert prior.digest != before and not any(value.requires_grad for value in prior.parameters())
        near = finds.latents.lerp(world.prior.sample(Rng(range(90, 93))), 0.2)
        apart, once = ((made.decode(near) - finds.images).square().mean() for made in (prior, world.prior))
        assert apart < most * once
        assert (prior.decode(finds.latents) - finds.images).square().mean() < most * once


@pytest.mark.parametrize("still", [{"steps": 0}, {"reach": 0.0, "steps": 5}])
def test_an_untuned_generator_is_searched_twice(world, still: dict) -> None:
    """Where nothing is taught, or the finds alone, which the generator makes already."""
    search = Tuned(search=SHORT, finds=1, **still)
    found = search(world.oracle(), world.prior, Rng(range(6)).normal(8), CLASSES, Rng(range(6)))
    first = SHORT(world.oracle(), world.prior, Rng(range(6)).normal(8), CLASSES, Rng(range(6)))
    second = SHORT(world.oracle(), world.prior, first.latents, CLASSES, Rng(range(6)))
    torch.testing.assert_close(found.images, second.images, rtol=1e-3, atol=1e-3)


def test_the_targets_favourite_is_kept(world) -> None:
    """Of five finds as they are: none of them may be likelier in the target's eyes than the one that is kept."""
    seen = []

    class Seen(Gradient):
        def __call__(self, *arguments):
            seen.append(super().__call__(*arguments))
            return seen[-1]

    search = Tuned(search=Seen(steps=2, views=None), finds=5, steps=2)
    found = search(world.oracle(), world.prior, Rng([4]).normal(8), CLASSES[2:3], Rng([4]))
    opinions = world.target(seen[-1].images).log_softmax(1)[:, 2]
    assert len(opinions) == 5
    assert world.target(found.images).log_softmax(1)[0, 2] == pytest.approx(opinions.max().item(), abs=1e-5)


def test_diffusion_priors_are_refused(world) -> None:
    images = world.prior.decode(Rng(range(4)).normal(8)) * 2 - 1
    prior = DiffusionPrior(Mixture(images, 0.3, PATHS["flow"]), PATHS["flow"], steps=2)
    with pytest.raises(GmiError, match="TunablePrior"):
        refuse_misfit(Tuned(search=SHORT), world.oracle(), prior)


def test_a_search_that_learns_first_is_refused() -> None:
    with pytest.raises(ValueError, match="feature_weight 0"):
        Tuned(search=dataclasses.replace(SHORT, feature_weight=0.1))
