"""Searches along a path from noise: with an exact prior planted people are recovered, by gradients or scores alone."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from conftest import repeats
from reference.mixture import KEPT, PATHS, Mixture

from gmi.errors import GmiError
from gmi.oracles.local import Naming, WhiteBox
from gmi.priors.diffusion import DiffusionPrior
from gmi.protocols import Candidates
from gmi.rng import Rng, seed_of
from gmi.search.gradient import Gradient
from gmi.search.guided import Guided
from gmi.search.objectives import max_margin
from gmi.search.particles import Particles, _resampled
from gmi.search.signature import refuse_misfit
from gmi.views import Views

VIEWS = Views(scale=(0.95, 1.0), shift=0.02, flip=False)
GUIDED = Guided(steps=20, heun=True, hold=0.3, fall=0.7, objective="max_margin", views=VIEWS)
SEARCHES = {
    "guided": GUIDED,
    "euler": dataclasses.replace(GUIDED, heun=False, transforms=2),
    "clean only": dataclasses.replace(GUIDED, through="clean"),
    "noise search": Gradient(steps=25, lr=0.1, views=VIEWS),
}
CLASSES = torch.arange(6)


def exact(world, name: str) -> DiffusionPrior:
    """The GAN's samples, a little blurred, as an exact diffusion or flow prior."""
    latents = Rng([seed_of(2, "atom", number) for number in range(500)]).normal(8)
    path = PATHS[name]
    return DiffusionPrior(Mixture(world.prior.decode(latents) * 2 - 1, 0.15, path), path, steps=6)


@pytest.fixture(scope="module", params=repeats("flow", slow=tuple({*PATHS} - {"flow"})))
def prior(world, request) -> DiffusionPrior:
    return exact(world, request.param)


def run(world, prior, search, keep: slice = slice(None), classes=CLASSES, oracle: WhiteBox | None = None) -> Candidates:
    seeds = [seed_of(0, "guided", number) for number in range(len(classes))]
    return search(
        oracle or world.oracle(),
        prior,
        prior.sample(Rng([s + 1 for s in seeds[keep]])),
        classes[keep],
        Rng(seeds[keep]),
    )


def recovered(world, found: Candidates) -> int:
    """How many are nearer in image space to the person they should be than to any other."""
    people = world.prior.decode(world.truth)
    alike = F.cosine_similarity((found.images - 0.5).flatten(1)[:, None], (people - 0.5).flatten(1)[None], dim=2)
    return int((alike.argmax(1) == found.classes).sum())


@pytest.mark.parametrize("name", SEARCHES)
def test_planted_people_are_recovered(world, prior, name):
    """At least 5 of 6; by chance it is 1."""
    assert recovered(world, run(world, prior, SEARCHES[name])) >= 5


def test_scores_alone_recover_them_too(world, prior):
    """The best of 16 particles each, by the target's own opinion, for at least 5 of 6."""
    search = Particles(steps=20, every=2, warmth=0.5, views=None)
    found = run(world, prior, search, classes=CLASSES.repeat_interleave(16))
    with torch.no_grad():
        scores = world.oracle().scores(found.images).gather(1, found.classes[:, None]).reshape(6, 16)
    best = found[torch.arange(6) * 16 + scores.argmax(1)]
    assert recovered(world, best) >= 5
    assert scores.median() > math.log(0.4)  # not the best alone; of six people chance is 0.17


@pytest.mark.parametrize("name", repeats("flow", slow=tuple({*PATHS} - {"flow"})))
def test_without_scores_particles_are_samples_of_the_prior(world, name):
    """Fresh noise at every step keeps mean and spread of a Gaussian, on either path."""
    gaussian = DiffusionPrior(Mixture(torch.full((1, 1, 2, 2), 0.2), 0.4, PATHS[name]), PATHS[name])
    search = Particles(steps=200, every=200, views=None)
    start, rng = (Rng([seed_of(7, role, number) for number in range(2000)]) for role in ("start", "steps"))
    noise = gaussian.sample(start)
    found = search(world.oracle(), gaussian, noise, torch.zeros(2000, dtype=torch.int64), rng)
    assert found.latents.mean().item() == pytest.approx(0.2, abs=0.02)  # 8,000 numbers: standard errors .005 and .003
    assert found.latents.std().item() == pytest.approx(0.4, rel=0.04)
    assert torch.corrcoef(torch.stack([noise.flatten(), found.latents.flatten()]))[0, 1].abs() < 0.1


def test_without_guidance_nothing_is_recovered(world, prior):
    for search in (dataclasses.replace(GUIDED, strength=0.0), Particles(steps=20, every=2, warmth=1e9)):
        assert recovered(world, run(world, prior, search)) <= 3


@pytest.mark.parametrize("name", SEARCHES)
def test_six_at_once_equal_six_runs_of_one(world, name):
    """On the flow only: DDPM's first steps multiply roundings by 150, and the path then may end at another atom."""
    prior = exact(world, "flow")
    search = dataclasses.replace(SEARCHES[name], steps=5)
    together = run(world, prior, search)
    for one in range(6):
        alone = run(world, prior, search, slice(one, one + 1))
        torch.testing.assert_close(alone.images[0], together.images[one], rtol=1e-3, atol=1e-3)


def test_a_class_of_particles_does_not_depend_on_the_others(world, prior):
    search, classes = Particles(steps=6, every=1, warmth=0.2), CLASSES.repeat_interleave(4)
    together = run(world, prior, search, classes=classes)
    for one in range(6):
        own = slice(4 * one, 4 * one + 4)
        alone = run(world, prior, search, own, classes=classes)
        torch.testing.assert_close(alone.images, together.images[own], rtol=1e-3, atol=1e-3)


def test_queries_are_counted_and_none_is_made_without_guidance(world, prior):
    oracle = world.oracle()
    run(world, prior, GUIDED, oracle=oracle)
    assert oracle.queries == 6 * GUIDED.queries(prior)
    assert 0 < GUIDED.queries(prior) < sum(GUIDED.passes(prior)) == 39
    oracle = world.oracle()
    run(world, prior, search := Particles(steps=20, every=4, transforms=2), oracle=oracle)
    assert oracle.queries == 6 * search.queries(prior) == 6 * 4 * 2


def test_the_schedule_rises_holds_and_falls():
    weights = [
        Guided(strength=0.3, hold=0.3, fall=0.7).weight(gone, 1 - gone)
        for gone in (0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
    ]
    assert weights == pytest.approx([0, 0.15, 0.3, 0.3, 0.3, 0.15, 0, 0])


def straight(clean):
    """The image of clean latents, clamped; its gradient is that without the clamp."""
    pixels = (clean + 1) / 2
    return pixels - (pixels - pixels.clamp(0, 1)).detach()


@pytest.mark.parametrize("through", ["prior", "clean"])
def test_one_step_is_the_papers_formula(world, through):
    """SFMI's Euler step, written out in its own time, from noise at 0 to the image at 1."""
    atoms = world.prior.decode(Rng(range(40)).normal(8)) * 2 - 1
    network = Mixture(atoms, 0.3, PATHS["flow"])
    prior = DiffusionPrior(network, PATHS["flow"])
    search = Guided(
        steps=5, heun=False, strength=0.4, rise=0, hold=1, through=through, objective="max_margin", views=None
    )
    x = noise = prior.sample(Rng(range(6)))
    for number in range(5):
        t = number / 5
        start = x.clone().requires_grad_()
        guess = start - (1 - t) * network(start, torch.full((6,), 1000 * (1 - t)))[0]
        velocity = ((guess - start) / (1 - t)).detach()
        to = start
        if through == "clean":
            guess = to = guess.detach().requires_grad_()
        loss = max_margin(world.target(straight(guess)), CLASSES)
        (g,) = torch.autograd.grad(loss.sum(), to)
        lengths = velocity.flatten(1).norm(dim=1) / g.flatten(1).norm(dim=1)
        x = x + (velocity - 0.4 * lengths[:, None, None, None] * g) / 5
    found = search(world.oracle(), prior, noise, CLASSES, Rng(range(6)))
    torch.testing.assert_close(found.latents, x, rtol=1e-4, atol=1e-4)


def test_one_step_of_ddpm_is_the_papers_formula(world):
    """Classifier guidance of DDIM's step (Dhariwal & Nichol, alg. 2), with a gradient as long as the noise."""
    atoms = world.prior.decode(Rng(range(40)).normal(8)) * 2 - 1
    network = Mixture(atoms, 0.3, PATHS["ddpm"])
    prior = DiffusionPrior(network, PATHS["ddpm"])
    search = Guided(steps=5, strength=0.4, rise=0, hold=1, objective="max_margin", views=None)
    x = start = prior.sample(Rng(range(6)))
    table = [1.0, *KEPT]
    for number in range(5):
        kept, then = table[1000 - 200 * number], table[800 - 200 * number]
        noisy = x.clone().requires_grad_()
        noise = network(noisy, torch.full((6,), 999 - 200 * number))[0]
        clean = (noisy - math.sqrt(1 - kept) * noise) / math.sqrt(kept)
        loss = max_margin(world.target(straight(clean)), CLASSES)
        (g,) = torch.autograd.grad(loss.sum(), noisy)
        lengths = noise.flatten(1).norm(dim=1) / g.flatten(1).norm(dim=1).clamp_min(1e-12)
        noise = noise.detach() + 0.4 * lengths[:, None, None, None] * g
        x = math.sqrt(then) * (x - math.sqrt(1 - kept) * noise) / math.sqrt(kept) + math.sqrt(1 - then) * noise
    found = search(world.oracle(), prior, start, CLASSES, Rng(range(6)))
    torch.testing.assert_close(found.latents, x, rtol=5e-3, atol=5e-3)  # roundings grow on DDPM's path, to 3e-3 here


@pytest.mark.parametrize("name", PATHS)
def test_guided_samples_are_those_of_the_posterior_of_a_linear_target(name):
    """A Gaussian N(m, s^2) and log p = w a x, by Bayes' rule: N(m + w a s^2, s^2)."""
    mean, spread, slope, weight = -0.1, 0.25, 0.5, 4.0
    prior = DiffusionPrior(Mixture(torch.full((1, 1, 2, 2), mean), spread, PATHS[name]), PATHS[name])

    class Linear:
        queries = 0

        def logits(self, images):
            return 2 * slope * images.sum((1, 2, 3))[:, None]  # latents are 2 images - 1

    search = Guided(steps=100, heun=True, strength=weight, rise=0, hold=1, normalise=False, views=None)
    noise = prior.sample(Rng(range(2000)))
    found = search(Linear(), prior, noise, torch.zeros(2000, dtype=torch.int64), Rng(range(2000)))  # pyright: ignore
    # 8,000 numbers: standard errors .003 and .8 %
    assert found.latents.mean().item() == pytest.approx(mean + weight * slope * spread**2, abs=0.01)
    assert found.latents.std().item() == pytest.approx(spread, rel=0.03)


@pytest.mark.parametrize("name", repeats("flow", slow=tuple({*PATHS} - {"flow"})))
def test_particles_are_samples_of_the_posterior(name):
    """A Gaussian prior of four pixels, whose mean is measured with Gaussian noise: by Bayes' rule precisions add."""
    mean, spread, seen, noise = 0.1, 0.3, 0.4, 0.1
    prior = DiffusionPrior(Mixture(torch.full((1, 1, 2, 2), mean), spread, PATHS[name]), PATHS[name])

    class Measured:
        queries = 0

        def scores(self, images, classes=None):
            return -(((images * 2 - 1).mean((1, 2, 3)) - seen) / noise).square()[:, None] / 2

    start, rng = (Rng([seed_of(7, role, number) for number in range(1500)]) for role in ("start", "steps"))
    classes = torch.zeros(1500, dtype=torch.int64)
    found = Particles(steps=200, every=4, views=None)(Measured(), prior, prior.sample(start), classes, rng)  # pyright: ignore
    precision = 4 / spread**2 + 1 / noise**2
    means = found.latents.mean((1, 2, 3))
    # copies share ancestors, as some hundred independent ones; the steps are finite
    assert means.mean().item() == pytest.approx((4 / spread**2 * mean + seen / noise**2) / precision, abs=0.02)
    assert means.std().item() == pytest.approx(precision**-0.5, rel=0.1)


def test_particles_multiply_in_proportion_to_their_weights():
    """Systematic resampling: as many copies as expected, up to one; a class of equal weights is left alone."""
    shares = torch.tensor([0.7, 0.2, 0.06, 0.04, 0.0] + [0.2] * 5, dtype=torch.float64)
    groups = [torch.arange(5), torch.arange(5, 10)]
    counts = torch.zeros(10)
    for seed in range(300):
        chosen, left = _resampled(shares.log().float().clamp_min(-1e9), groups, Rng(range(seed, seed + 10)), 0.5)
        copies = torch.bincount(chosen, minlength=10)
        assert ((copies[:5] - 5 * shares[:5]).abs() < 1 + 1e-6).all() and copies[4] == 0
        assert (chosen[5:] == groups[1]).all() and (left[:5] == 0).all() and (left[5:] != 0).all()
        counts += copies
    torch.testing.assert_close((counts[:5] / 300).double(), 5 * shares[:5], rtol=0, atol=0.1)


def test_a_search_that_needs_more_than_there_is_says_so(world, prior):
    refuse_misfit(GUIDED, world.oracle(), prior)
    refuse_misfit(Gradient(), world.oracle(), prior)
    with pytest.raises(GmiError, match=r"Guided needs a Denoiser as its prior \(diffusion or flow.*Dcgan is none"):
        refuse_misfit(GUIDED, world.oracle(), world.prior)

    class Scores(Naming):
        queries, people = 0, 6

        def labels(self, images, classes=None): ...

        def scores(self, images, classes=None): ...

    refuse_misfit(Particles(), Scores(), prior)
    with pytest.raises(GmiError, match=r"guided needs access: \{type: white-box\}, and this gives Scores only"):
        refuse_misfit(GUIDED, Scores(), prior)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"strength": -1},
        {"hold": 0.05},
        {"through": "both"},
        {"through": "clean", "normalise": False},
        {"unknown": 1},
    ],
)
def test_settings_are_validated(wrong):
    with pytest.raises(ValueError):
        Guided(**wrong)


def test_a_clamped_pixel_has_a_gradient(world, prior) -> None:
    clean = torch.tensor([-1.5, -1.0, 0.2, 1.0, 3.0]).expand(1, 1, 1, 5).clone().requires_grad_()
    images = prior.image(clean)
    torch.testing.assert_close(images.flatten(), torch.tensor([0.0, 0.0, 0.6, 1.0, 1.0]))
    assert torch.autograd.grad(images.sum(), clean)[0].flatten().tolist() == [0.5] * 5


def test_particles_keep_the_noise_that_was_chosen_until_they_are_compared(world, prior):
    """Two draws of fresh noise lead to the same clean image at the first query; without choice they differ later."""
    seen = []

    class Scores(Naming):
        queries, people = 0, 6

        def labels(self, images, classes=None): ...

        def scores(self, images, classes=None):
            seen.append(images.clone())
            return torch.zeros(len(images), 6)

    latents = prior.sample(Rng(range(4)))
    classes = torch.tensor([0, 0, 1, 1])
    for draw in (0, 100):
        Particles(steps=12, every=4, views=None)(Scores(), prior, latents, classes, Rng(range(draw, draw + 4)))
    half = len(seen) // 2
    assert half >= 2
    torch.testing.assert_close(seen[0], seen[half])
    assert (seen[1] - seen[half + 1]).abs().max() > 0.01
