"""A distribution over latents in place of one: its divergence, its limits, and what is drawn from it."""

import math

import pytest
import torch
import torch.nn.functional as F
from reference.mixture import PATHS, Mixture
from torch.distributions import Normal, kl_divergence

from gmi.priors.diffusion import DiffusionPrior
from gmi.protocols import Candidates
from gmi.rng import Rng
from gmi.search.gradient import Gradient
from gmi.search.variational import Variational, divergence
from gmi.views import Views

VIEWS = Views(scale=(0.95, 1.0), shift=0.02, flip=False)
CLASSES = torch.arange(6)
SEEDS = range(100, 106)
KED_MI = Variational(steps=200, start="origin", spread=math.exp(0.5), kl_weight=0.0, views=VIEWS)


def starts(keep: slice = slice(None)) -> torch.Tensor:
    return Rng(range(6)[keep]).normal(8)


def likeness(world, found: Candidates) -> torch.Tensor:
    """Cosines (6,) of each image and the planted person that it should show."""
    people = world.prior.decode(world.truth)
    return F.cosine_similarity((found.images - 0.5).flatten(1), (people - 0.5).flatten(1))


def flow(world) -> DiffusionPrior:
    """A prior whose latents are noise (N, 1, 16, 16), of six evaluations for each image."""
    images = world.prior.decode(Rng(range(40)).normal(8)) * 2 - 1
    return DiffusionPrior(Mixture(images, 0.3, PATHS["flow"]), PATHS["flow"], steps=6)


@pytest.mark.parametrize("shape", [(5, 7), (5, 1, 3, 3)])
def test_the_divergence_is_that_of_torch(shape) -> None:
    mean, log_variance = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    wanted = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).flatten(1).sum(1)
    torch.testing.assert_close(divergence(mean, log_variance), wanted)
    assert divergence(torch.zeros(shape), torch.zeros(shape)).equal(torch.zeros(5))


@pytest.mark.parametrize("finals", [0, 1, 3])
def test_without_spread_it_is_a_gradient_search(world, finals: int) -> None:
    search = Variational(steps=30, spread=1e-9, kl_weight=0.0, views=None, finals=finals)
    plain = Gradient(steps=30, lr=search.lr, objective=search.objective, views=None, constraint="none")
    found, wanted = (one(world.oracle(), world.prior, starts(), CLASSES, Rng(SEEDS)) for one in (search, plain))
    torch.testing.assert_close(found.latents, wanted.latents, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.images, wanted.images, rtol=1e-4, atol=1e-4)
    assert (found.latents - starts()).norm(dim=1).min() > 0.5


@pytest.mark.parametrize("search", [KED_MI, Variational(views=VIEWS)], ids=["KED-MI", "VMI"])
def test_what_is_found_is_more_alike_than_the_start(world, search) -> None:
    unmoved, found = (
        one(world.oracle(), world.prior, starts(), CLASSES, Rng(SEEDS)) for one in (Gradient(steps=0), search)
    )
    assert (likeness(world, found) > likeness(world, unmoved)).all()
    assert likeness(world, found).mean() > 0.7


def test_a_heavy_divergence_leaves_the_prior_itself(world) -> None:
    """It starts far from it, and ends in N(0, I) whatever the target says."""
    search = Variational(steps=400, lr=0.05, spread=0.2, kl_weight=1e4, views=None)
    mean, log_variance = search.fit(world.oracle(), world.prior, 2 * starts(), CLASSES, Rng(SEEDS))
    assert mean.abs().max() < 0.02 and log_variance.abs().max() < 0.02
    light = Variational(steps=400, lr=0.05, spread=0.2, kl_weight=0.01, views=None)
    assert light.fit(world.oracle(), world.prior, starts(), CLASSES, Rng(SEEDS))[0].abs().mean() > 0.5


def test_the_origin_forgets_the_candidates_latents(world) -> None:
    search = Variational(steps=3, start="origin", finals=0, views=None)
    one, other = (
        search(world.oracle(), world.prior, latents, CLASSES, Rng(SEEDS)) for latents in (starts(), -starts())
    )
    assert one.latents.equal(other.latents)


def test_the_targets_favourite_is_taken_of_the_draws(world) -> None:
    """The draws of `finals: 1` and the first of `finals: 8` are the same: the choice can only gain."""
    scores = []
    for finals in (1, 8):
        search = Variational(steps=0, spread=1.0, finals=finals)
        found = search(world.oracle(), world.prior, starts(), CLASSES, Rng(SEEDS))
        scores.append(world.oracle().scores(found.images).gather(1, CLASSES[:, None]).squeeze(1))
        torch.testing.assert_close(world.prior.decode(found.latents), found.images)
    assert (scores[1] >= scores[0]).all() and (scores[1] > scores[0]).sum() >= 4


def test_the_loss_of_a_step_is_the_bound(world) -> None:
    """E_q[-log p(y | G(z))] + gamma KL(q || N(0, I)), by the same two draws written out."""
    seen = []
    search = Variational(steps=1, draws=2, spread=0.7, kl_weight=0.3, views=None, finals=0)
    search(world.oracle(), world.prior, starts(), CLASSES, Rng(SEEDS), lambda _, loss: seen.append(loss))
    draws, wanted = Rng(SEEDS), 0.3 * kl_divergence(Normal(starts(), 0.7), Normal(0.0, 1.0)).sum(1)
    for _ in range(2):
        images = world.prior.decode(starts() + 0.7 * draws.normal(8))
        wanted = wanted + F.cross_entropy(world.target(images), CLASSES, reduction="none") / 2
    torch.testing.assert_close(seen[0], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("noise", [False, True], ids=["latents", "noise"])
def test_a_candidate_does_not_depend_on_its_batch(world, noise: bool) -> None:
    prior = flow(world) if noise else world.prior
    search = Variational(steps=4, draws=2, views=VIEWS)

    def run(keep: slice) -> Candidates:
        latents = prior.sample(Rng(range(6)[keep]))
        return search(world.oracle(), prior, latents, CLASSES[keep], Rng(SEEDS[keep]))

    together = run(slice(None))
    for one in range(6):
        alone = run(slice(one, one + 1))
        torch.testing.assert_close(alone.latents[0], together.latents[one], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("finals", "asked"), [(0, 6), (1, 6), (4, 10)])
def test_queries_and_passes_are_exact(world, finals: int, asked: int) -> None:
    search, prior, oracle = Variational(steps=3, draws=2, finals=finals), flow(world), world.oracle()
    evaluated = []
    prior.network.register_forward_hook(
        lambda _, inputs, __: evaluated.append((len(inputs[0]), torch.is_grad_enabled()))
    )
    search(oracle, prior, prior.sample(Rng(range(6))), CLASSES, Rng(SEEDS))
    assert oracle.queries == 6 * search.queries(prior) == 6 * asked
    with_gradient = sum(count for count, slopes in evaluated if slopes)
    assert sum(count for count, _ in evaluated) == 6 * sum(search.passes(prior))
    assert with_gradient == 6 * search.passes(prior).with_gradient == 6 * 6 * 6
