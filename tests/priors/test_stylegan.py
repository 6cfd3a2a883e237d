"""StyleGAN priors: what they promise, their folders, and a search that recovers planted people."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from reference.stylegans import SHAPE, drawn, made, written
from torch import Tensor, nn

from gmi.errors import GmiError
from gmi.oracles.local import WhiteBox
from gmi.priors import AnyPrior
from gmi.priors.diffusion import Diffusion
from gmi.priors.gan import Gan
from gmi.priors.stylegan import StyleGan, StyleGanPrior
from gmi.protocols import Prior
from gmi.rng import Rng
from gmi.search.gradient import Gradient
from gmi.search.selection import pool_scores, preselect
from gmi.settings import parse
from gmi.targets.module import Input, Target
from gmi.views import Views

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_truncation():
    same = made(psi=0.0).decode(made(psi=0.0).sample(Rng(range(4))))
    torch.testing.assert_close(same, same[:1].expand_as(same))
    whole = made().sample(Rng(range(4)))
    torch.testing.assert_close(whole, made().network.mapping(Rng(range(4)).normal(6)))
    half, mean = made(psi=0.5).sample(Rng(range(4))), made().network.mapping.w_avg
    torch.testing.assert_close(half, (whole + mean) / 2)
    styles = made(psi=0.5, cutoff=2, space="w+").sample(Rng(range(4)))
    torch.testing.assert_close(styles[:, :2], half[:, None].expand(-1, 2, -1))
    torch.testing.assert_close(styles[:, 2:], whole[:, None].expand(-1, 4, -1))
    z = made(psi=0.5, cutoff=2, space="z")
    torch.testing.assert_close(
        z.decode(z.sample(Rng(range(4)))), made(psi=0.5, cutoff=2, space="w+").decode(styles), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("space", ["z", "w", "w+"])
def test_the_protocol(space):
    prior = made(space=space, psi=0.7)
    assert isinstance(prior, Prior) and prior.evaluations == 1
    latents = prior.sample(Rng(range(6)))
    assert latents.shape == {"z": (6, 6), "w": (6, 5), "w+": (6, 6, 5)}[space]
    images = prior.decode(latents)
    assert images.shape == (6, 3, 16, 16) and images.min() >= 0 and images.max() <= 1
    assert torch.equal(images, prior.decode(prior.sample(Rng(range(6)))))
    alone = torch.cat([prior.decode(prior.sample(Rng([seed]))) for seed in range(6)])
    torch.testing.assert_close(alone, images, rtol=0, atol=1e-5)
    features = seen = None
    stages = prior.stages()
    for size, stage in zip((4, 8, 16), stages, strict=True):
        features, seen = stage(features, seen, latents)
        assert features.shape[-1] == seen.shape[-1] == size
    torch.testing.assert_close(seen, images, rtol=0, atol=0)


def test_the_digest_tells_weights_spaces_and_truncations_apart():
    priors = [made(), made(space="z"), made(psi=0.5), made(space="w+", cutoff=2), made(space="w+"), made()]
    priors[-1].network.synthesis.get_submodule("b4.conv1").noise_const.add_(1)
    assert len({prior.digest for prior in priors}) == 6 and made().digest == made().digest


def test_gradients_reach_the_latents_twice():
    shape = replace(SHAPE, channels=(4, 3), size=8)
    prior = made(shape)
    prior.network.double()
    w = drawn(1, 5).double().requires_grad_()

    def colours(w: Tensor) -> Tensor:
        return prior.network.synthesis(prior.styles(w))[:, :, ::4, ::4].tanh()

    assert torch.autograd.gradcheck(colours, w) and torch.autograd.gradgradcheck(colours, w)
    (slope,) = torch.autograd.grad(made().decode(w := made().sample(Rng([1])).requires_grad_()).sum(), w)
    assert slope.abs().min() > 0


def test_descent_recovers_a_planted_style():
    prior = made()
    truth = prior.sample(Rng(range(2)))
    wanted = prior.network.synthesis(prior.styles(truth))
    w = prior.network.mapping.w_avg.expand(2, -1).clone().requires_grad_()
    optimiser = torch.optim.Adam([w], lr=0.2)
    for _ in range(60):
        optimiser.zero_grad()
        (prior.network.synthesis(prior.styles(w)) - wanted).square().mean((1, 2, 3)).sum().backward()
        optimiser.step()
    start = (prior.network.mapping.w_avg - truth).norm(dim=1)
    assert ((w - truth).norm(dim=1) < 0.05 * start).all()


@pytest.mark.parametrize("space", ["z", "w", "w+"])
def test_styles_are_never_made_in_half_precision(space):
    """Under bf16 a truncated prior's samples are what they are without it, and its images nearly so."""
    prior = made(space=space, psi=0.7)
    latents = prior.sample(Rng(range(4)))
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert prior.sample(Rng(range(4))).equal(latents)
        styles, images = prior.styles(latents), prior.decode(latents)
    assert styles.equal(prior.styles(latents))
    torch.testing.assert_close(images.float(), prior.decode(latents), rtol=0, atol=0.05)


def test_a_gradient_search_recovers_planted_people(tmp_path):
    """As an audit does it: the prior by its block, the best samples of a pool, then the search on the sphere of z."""
    block = f"{{type: stylegan, space: z, folder: {written(tmp_path / 'prior')}}}"
    prior = parse(block, AnyPrior, "prior").load(CPU)
    truth = F.normalize(Rng(range(200, 206)).normal(6)) * 6**0.5
    oracle, people, pool = knowing(prior, truth), torch.arange(6), prior.sample(Rng(range(60)))
    starts = pool[preselect(pool_scores(oracle, prior.decode(pool)), people, 1).flatten()]
    search = Gradient(steps=40, views=Views(scale=(0.95, 1.0), shift=0.02, flip=False))
    latents = search(oracle, prior, starts, people, Rng(range(6))).latents
    assert oracle.queries == 2 * 60 + 6 * search.queries(prior)
    recovered, selected, unsearched = (
        F.cosine_similarity(points[:, None], truth[None], dim=2) for points in (latents, starts, pool[:6])
    )
    assert (recovered.argmax(1) == people).sum() >= 5 and (unsearched.argmax(1) == people).sum() <= 3
    assert recovered.diagonal().mean() > 0.65 > selected.diagonal().mean() + 0.03


def knowing(prior: StyleGanPrior, truth: Tensor) -> WhiteBox:
    """A model that learnt to tell people with latents (6, Z) apart, from 24 images of each."""
    near = truth.repeat_interleave(24, 0) + 0.25 * Rng(range(1000, 1144)).normal(6)
    images, classes = prior.decode(near), torch.arange(6).repeat_interleave(24)
    module = nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), 64), nn.Tanh(), nn.Linear(64, 6))
    generator = torch.Generator().manual_seed(5)
    for value in module.parameters():
        nn.init.normal_(value, std=0.05, generator=generator)
    optimiser = torch.optim.Adam(module.parameters(), lr=0.01, weight_decay=1e-3)
    for _ in range(100):
        optimiser.zero_grad()
        F.cross_entropy(module(images), classes).backward()
        optimiser.step()
    return WhiteBox(Target(module, Input(size=(16, 16), mean=(0.5,)), tuple("abcdef")))


def test_round_trip_through_the_folder(tmp_path):
    prior = StyleGan(folder=written(tmp_path / "prior"), space="w+", psi=0.7, cutoff=3).load(CPU)
    expected = made(space="w+", psi=0.7, cutoff=3)
    assert prior.digest == expected.digest
    assert torch.equal(prior.decode(prior.sample(Rng([1, 2]))), expected.decode(expected.sample(Rng([1, 2]))))


def test_bad_folders_are_one_sentence(tmp_path):
    config, weights = asdict(SHAPE), made().network.state_dict()
    lost = {name: value for name, value in weights.items() if name != "mapping.w_avg"}
    cases = [
        (config | {"size": 32}, weights, "channels for 3 resolutions makes 16 px, not 32"),
        (config | {"type": "stylegan3"}, weights, "is no prior folder of a StyleGAN"),
        (config | {"channels": []}, weights, "is no prior folder of a StyleGAN"),
        (config | {"classes": 4}, weights, "is no prior folder of a StyleGAN"),
        (config | {"width": 6}, weights, "does not fit Generator"),
        (config, lost, "does not fit Generator"),
        (config, weights | {"mapping.w_avg": torch.full((5,), torch.nan)}, "mapping.w_avg holds NaN"),
    ]
    for number, (bad, own, words) in enumerate(cases):
        with pytest.raises(GmiError, match=words):
            StyleGan(folder=written(tmp_path / str(number), bad, own)).load(CPU)
    with pytest.raises(GmiError, match="no prior folder"):
        StyleGan(folder=str(tmp_path / "absent")).load(CPU)
    (tmp_path / "empty").mkdir()
    with pytest.raises(GmiError, match="is no prior folder of a StyleGAN"):
        StyleGan(folder=str(tmp_path / "empty")).load(CPU)
    (tmp_path / "0" / "model.safetensors").write_bytes(b"not weights")
    (tmp_path / "0" / "config.json").write_text(json.dumps(config))
    with pytest.raises(GmiError, match="cannot be read as weights"):
        StyleGan(folder=str(tmp_path / "0")).load(CPU)
    with pytest.raises(GmiError, match=r"cutoff is 7, but this network has 6 layers"):
        StyleGan(folder=written(tmp_path / "prior"), space="w+", cutoff=7).load(CPU)
    with pytest.raises(ValidationError, match="the style of every layer"):
        StyleGan(folder="prior", space="w", cutoff=2)


def test_a_folder_of_another_kind_names_its_type(tmp_path):
    dcgan, stylegan = written(tmp_path / "dcgan", {"type": "dcgan"}), written(tmp_path / "stylegan")
    flow = str(ROOT / "priors" / "flow48")
    cases = [(Gan, stylegan, "stylegan"), (Diffusion, stylegan, "stylegan"), (StyleGan, dcgan, "gan")]
    for prior, folder, needed in [*cases, (Gan, flow, "diffusion"), (StyleGan, flow, "diffusion")]:
        with pytest.raises(GmiError, match=rf"is no prior of type \w+: it needs prior\.type {needed}\.$"):
            prior(folder=folder).load(CPU)


def test_the_shipped_prior_makes_faces():
    prior = StyleGan(folder=str(ROOT / "priors" / "stylegan64")).load(CPU)
    assert prior.space == "w"  # where the default search recovers more than in z
    with torch.no_grad():
        images = prior.decode(prior.sample(Rng(range(4))))
    assert images.shape == (4, 3, 64, 64) and images.isfinite().all() and images.min() >= 0 and images.max() <= 1
    left, right = images[..., :-1].flatten(), images[..., 1:].flatten()
    assert torch.corrcoef(torch.stack([left, right]))[0, 1] > 0.9  # in noise, neighbours are not alike
    assert "non-commercial research only" in (ROOT / "priors" / "stylegan64" / "README.md").read_text()
