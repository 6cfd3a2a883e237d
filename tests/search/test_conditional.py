"""A prior that learns the target's classes: at its start it is itself, and afterwards it shows the people asked for."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import repeats
from torch import nn
from torchvision.utils import save_image

from gmi.errors import GmiError
from gmi.oracles.local import Naming
from gmi.priors.diffusion import DiffusionPrior
from gmi.priors.path import DiffusionPath
from gmi.protocols import Candidates
from gmi.rng import Rng, seed_of
from gmi.search.conditional import Conditional
from gmi.search.guided import Guided
from gmi.search.signature import access, refuse_misfit
from gmi.search.strangers import Strangers
from gmi.training.learners import Denoising
from gmi.views import Views

CLASSES = torch.arange(6)
SHORT = Conditional(questions=60, top=10, steps=3, batch=8, path_steps=4)


class Names(Naming):
    """Labels alone; `seen` holds what they were asked about."""

    def __init__(self, world) -> None:
        self.target, self.people, self.queries, self.seen = world.target, 6, 0, []

    @torch.no_grad()
    def labels(self, images: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
        self.queries += len(images)
        self.seen.append(images)
        return self.target(images).argmax(1)


def denoising(size: int, images: torch.Tensor | None = None, steps: int = 0) -> DiffusionPrior:
    """A small flow prior with random weights, or one that has learnt images."""
    learner = Denoising(type="flow", channels=(16, 32), layers=1, attention=(), groups=8, steps=8, uniform=1.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        modules = learner.build(size, 1)
    optimiser, draws = torch.optim.Adam(modules["prior"].parameters(), 3e-3), torch.Generator().manual_seed(1)
    for _ in range(steps):
        assert images is not None
        optimiser.zero_grad()
        rows = torch.randint(len(images), (32,), generator=draws)
        learner.loss("prior", modules, images[rows] * 2 - 1, draws).backward()
        optimiser.step()
    prior = learner.prior(modules["prior"])
    assert isinstance(prior, DiffusionPrior)
    return prior


@pytest.fixture(scope="module")
def prior() -> DiffusionPrior:
    return denoising(16)


def strangers(folder: Path, images: torch.Tensor) -> Strangers:
    """The images as files."""
    for number, image in enumerate(images):
        save_image(image, folder / f"{number}.png")
    return Strangers(folder=str(folder))


def noise(prior: DiffusionPrior, count: int = 6) -> torch.Tensor:
    return prior.sample(Rng([seed_of(3, "noise", number) for number in range(count)]))


def taught(world, prior, plan: Conditional, oracle=None):
    return plan.taught(plan.prepare(oracle or world.oracle(), prior, Rng(range(plan.shared))))


def run(world, prior, search, keep: slice = slice(None), classes=CLASSES, oracle=None) -> Candidates:
    rng = Rng(list(range(len(classes)))[keep])
    return search(oracle or world.oracle(), prior, noise(prior, len(classes))[keep], classes[keep], rng)


def with_guidance(search, guidance: float):
    return dataclasses.replace(search, plan=dataclasses.replace(search.plan, guidance=guidance))


class Shades(Naming):
    """A target that tells dark, middling and bright images apart; it shows labels alone."""

    queries, people = 0, 3

    def labels(self, images: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
        self.queries += len(images)
        return (images.mean((1, 2, 3)) * 3).long().clamp(0, 2)


@pytest.mark.parametrize("half", repeats(True, slow=(False,)))
def test_samples_are_of_the_class_that_is_asked_for(tmp_path, half):
    """From labels alone; the photographs, twice the prior's size, are even in their shade."""
    photographs = strangers(tmp_path, torch.linspace(0, 1, 120)[:, None, None, None].expand(-1, 1, 8, 8))
    plan = Conditional(
        questions=120, photographs=photographs, steps=150, batch=32, lr=3e-3, class_lr=5e-2, path_steps=8
    )
    target, prior = Shades(), denoising(4)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        search = plan.taught(plan.prepare(target, prior, Rng(range(plan.shared))))
    classes = torch.arange(3).repeat(20)

    def right(guidance: float) -> float:
        found = run(None, prior, with_guidance(search, guidance), classes=classes, oracle=target)
        return float((target.labels(found.images) == classes).float().mean())

    assert right(0.0) <= 0.5 and right(1.0) >= 0.7 and right(3.0) >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("labels", [False, True])
def test_people_are_seen_by_the_target_and_recovered(world, tmp_path, labels):
    """Of 60 samples two thirds are taken for their class, of unconditional ones no more than chance allows."""
    gan, people = world.prior, world.prior.decode(world.truth)
    prior = denoising(16, gan.decode(Rng(range(1000)).normal(8)), steps=300)
    plan = Conditional(
        questions=400,
        photographs=strangers(tmp_path, gan.decode(Rng(range(500, 900)).normal(8))),
        top=40,
        steps=600,
        batch=32,
        lr=1e-3,
        class_lr=5e-2,
        path_steps=8,
    )
    search = taught(world, prior, plan, Names(world) if labels else None)
    classes = CLASSES.repeat(10)

    def right(guidance: float) -> tuple[float, float]:
        found = run(world, prior, with_guidance(search, guidance), classes=classes)
        alike = F.cosine_similarity((found.images - 0.5).flatten(1)[:, None], (people - 0.5).flatten(1)[None], dim=2)
        named = world.target(found.images).argmax(1)
        return float((named == classes).float().mean()), float((alike.argmax(1) == classes).float().mean())

    (named, alike), (chance, anybody) = right(5.0), right(0.0)
    assert named >= 2 / 3 and alike >= 2 / 3
    assert chance <= 1 / 3 and anybody <= 1 / 3


@pytest.mark.parametrize("guidance", [0.0, 1.0, 3.0])
def test_before_it_learns_it_is_the_prior(world, prior, guidance):
    plan = dataclasses.replace(SHORT, steps=0, path_steps=prior.steps, guidance=guidance)
    found = run(world, prior, taught(world, prior, plan))
    with torch.no_grad():
        wanted = prior.decode(noise(prior))
    assert (found.images - wanted).abs().max() <= (0 if guidance < 2 else 1e-5)  # two at once: other roundings
    torch.testing.assert_close(prior.image(found.latents), found.images)


def test_without_guidance_no_class_makes_a_difference(world, prior):
    search = taught(world, prior, dataclasses.replace(SHORT, guidance=0.0, class_lr=1.0))
    found = run(world, prior, search)
    assert run(world, prior, search, classes=CLASSES.flip(0)).images.equal(found.images)
    steered = with_guidance(search, 2.0)
    assert (run(world, prior, steered).images - found.images).abs().max() > 1e-3


def test_guidance_leads_beyond_the_class(world, prior):
    """Ho & Salimans, eq. 6, with w = guidance - 1, step by step."""
    search = taught(world, prior, dataclasses.replace(SHORT, class_lr=0.1))
    network = prior.conditional(6)
    network.load_state_dict({name: search.learned[name] for name in network.state_dict()})
    noisy = noise(prior)
    with torch.no_grad():
        for number in range(4):
            stamps = torch.full((6,), 1000 * (1 - number / 4))
            named, without = (
                network(noisy, stamps, labels, return_dict=False)[0] for labels in (CLASSES, torch.full((6,), 6))
            )
            noisy = noisy - ((1 + 2.0) * named - 2.0 * without) / 4
    torch.testing.assert_close(run(world, prior, search).latents, noisy, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("guide", [None, Guided(steps=4, heun=True, views=Views())])
def test_six_at_once_equal_six_runs_of_one(world, prior, guide):
    search = taught(world, prior, dataclasses.replace(SHORT, guide=guide))
    together = run(world, prior, search)
    for one in range(6):
        alone = run(world, prior, search, slice(one, one + 1))
        torch.testing.assert_close(alone.images[0], together.images[one], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("guide", [None, Guided(steps=4, heun=True, transforms=2)])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("mirrored", [False, True])
def test_what_is_asked_and_evaluated_is_what_was_said(world, prior, guide, guidance, mirrored, monkeypatch):
    plan = dataclasses.replace(SHORT, guide=guide, guidance=guidance, mirrored=mirrored)
    oracle, evaluated = world.oracle(), []
    search = taught(world, prior, plan, oracle)
    assert oracle.queries == plan.shared == 60 * (1 + mirrored)
    forward = type(prior.network).forward
    monkeypatch.setattr(
        type(prior.network), "forward", lambda self, x, *a, **k: evaluated.append(len(x)) or forward(self, x, *a, **k)
    )
    oracle = world.oracle()
    run(world, prior, search, oracle=oracle)
    assert oracle.queries == 6 * plan.queries(prior) and (plan.queries(prior) > 0) == (guide is not None)
    assert sum(evaluated) == 6 * sum(plan.passes(prior))


def test_the_same_generators_teach_the_same(world, prior):
    one, other = (SHORT.prepare(world.oracle(), prior, Rng(range(SHORT.shared))) for _ in range(2))
    another = SHORT.prepare(world.oracle(), prior, Rng(range(1, SHORT.shared + 1)))
    assert all(one[name].equal(other[name]) for name in one)
    assert not one["class_embedding.weight"].equal(another["class_embedding.weight"])


def test_a_class_that_was_never_named_stays_unconditional(world, prior, tmp_path):
    class Four(Names):
        def labels(self, images, classes=None):
            return super().labels(images, classes).clamp_max(3)

    oracle, photographs = Four(world), strangers(tmp_path, world.prior.decode(Rng(range(60)).normal(8)))
    plan = dataclasses.replace(SHORT, photographs=photographs, class_lr=1.0)
    search = taught(world, prior, plan, oracle)
    assert oracle.queries == SHORT.shared
    assert search.learned["known"].tolist() == [True] * 4 + [False] * 2
    moved = search.learned["class_embedding.weight"].abs().amax(1) > 0.01
    assert moved[:4].any() and not moved[4:6].any()
    found, without = run(world, prior, search), run(world, prior, with_guidance(search, 0.0))
    torch.testing.assert_close(found.images[4:], without.images[4:], rtol=1e-4, atol=1e-4)


def test_decisions_suffice_and_nobody_may_pass(world, prior):
    class Nobody:
        queries, people = 0, 6

        def accepts(self, images, classes):
            return self.everybody(images)[:, 0]

        def everybody(self, images):
            return torch.zeros(len(images), 6, dtype=torch.bool)

    search = taught(world, prior, SHORT, Nobody())
    assert not search.learned["known"].any()
    refuse_misfit(SHORT, Nobody(), prior)


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_on_ddpms_path_the_network_is_taught_what_it_predicts(world, prior, prediction):
    """From the output that is taught the path finds the clean image again."""
    path = DiffusionPath(tuple((1 - torch.linspace(1e-4, 0.02, 50)).cumprod(0).tolist()), prediction)
    clean, draws = torch.randn(2, 3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    for time in (1 / path.timesteps, 0.5, 1.0):
        signal, level = torch.tensor(path.levels(time))
        found = path.clean(path.output(clean, draws, signal, level), signal * clean + level * draws, time)
        torch.testing.assert_close(found, clean, rtol=1e-4, atol=1e-4)
    other = DiffusionPrior(prior.network, path, steps=4)
    assert run(world, other, taught(world, other, SHORT)).images.isfinite().all()


def test_images_of_a_latent_prior_are_encoded():
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

    class Still(nn.Module):
        config = type("Config", (), {"sample_size": 4, "in_channels": 2})

    with torch.random.fork_rng():
        torch.manual_seed(0)
        kinds = (
            AutoencoderKL(in_channels=1, out_channels=1, latent_channels=2, norm_num_groups=4, block_out_channels=(4,)),
            AutoencoderTiny(
                1, 1, (4, 4), (4, 4), latent_channels=2, num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1)
            ),
        )
    for vae in kinds:
        config: Any = vae.config
        images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        found = vae.encode(images * 2 - 1, return_dict=False)[0]
        wanted = (found if isinstance(found, torch.Tensor) else found.mode()) * config.scaling_factor
        prior = DiffusionPrior(Still(), DiffusionPath((0.9,)), vae)
        torch.testing.assert_close(prior.clean(images), wanted)


def test_priors_that_cannot_learn_classes_are_refused(world, prior):
    with pytest.raises(
        GmiError, match=r"Conditional needs a DiffusionPrior as its prior \(diffusion or .*Dcgan is none"
    ):
        refuse_misfit(SHORT, world.oracle(), world.prior)

    class Other(nn.Module):
        config = prior.network.config

    oracle = world.oracle()
    with pytest.raises(GmiError, match="Other, cannot learn classes: take a prior with a UNet2DModel"):
        SHORT.prepare(oracle, DiffusionPrior(nn.Sequential(Other())[0], prior.path), Rng(range(SHORT.shared)))
    assert oracle.queries == 0


def test_gradients_are_asked_for_only_where_they_guide(world, prior):
    assert access(SHORT) == "verification"
    refuse_misfit(SHORT, Names(world), prior)
    with pytest.raises(GmiError, match=r"guided needs access: \{type: white-box\}, and this gives Names only"):
        refuse_misfit(dataclasses.replace(SHORT, guide=Guided()), Names(world), prior)


def test_it_must_learn_first_and_steps_may_be_too_large(world, prior):
    with pytest.raises(GmiError, match="must learn first"):
        run(world, prior, SHORT)
    with pytest.raises(GmiError, match=r"lower search\.lr"):
        taught(world, prior, dataclasses.replace(SHORT, lr=1e30))
