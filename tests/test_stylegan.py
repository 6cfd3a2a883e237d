"""StyleGAN2: the network against slow formulas, the prior's promises, and the learner in the common loop."""

import json
import sys
import zipfile
from dataclasses import asdict, replace
from io import BytesIO
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from gmi.prior_training import PriorTraining, train
from gmi.style_critic import Critic, augmented, spread_beside
from gmi.style_learner import Style
from gmi.weights import read_weights
from pydantic import ValidationError
from safetensors.torch import save_file
from scipy.signal import convolve2d, upfirdn
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from gmi import prior_training, toy
from gmi.data import PublicImages
from gmi.errors import GmiError
from gmi.metrics.distribution import frechet
from gmi.priors.stylegan import StyleGan, StyleGanPrior, StyleGanShape
from gmi.priors.stylegan_network import StyledConvolution, activate, binomial, doubled, smoothed
from gmi.protocols import Prior
from gmi.rng import Rng
from gmi.run import Run
from scripts import train_stylegan

CPU = torch.device("cpu")
SHAPE = StyleGanShape(latent=6, width=5, layers=2, channels=(8, 7, 6), size=16, colours=3)
TAPS = np.array([1.0, 3.0, 3.0, 1.0]) / 8
LEARNER = Style(latent=8, width=8, layers=2, channels=(12, 8), critic=(16, 8), every=4)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def made(shape: StyleGanShape = SHAPE, **settings) -> StyleGanPrior:
    """With random weights, a mean style that is not 0 and noise that is seen."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = shape.build()
        network.mapping.w_avg.copy_(torch.randn(shape.width))
    for name, value in network.named_parameters():
        if name.endswith("noise_strength"):
            value.data.fill_(0.3)
    return StyleGanPrior(network, shape, **settings)


def convolution(double: bool) -> tuple[StyledConvolution, Tensor, Tensor]:
    """A convolution of 4 to 5 channels, features of 3 images of 6 px, and their styles."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return StyledConvolution(4, 5, 7, 12 if double else 6, double), drawn(3, 4, 6, 6), drawn(3, 4, seed=2)


@pytest.mark.parametrize("double", [False, True])
def test_modulated_convolution_image_by_image(double):
    """StyleGAN2, eq. 1 and 3, with weights of each image's own and scipy's convolutions."""
    layer, features, styles = convolution(double)
    slow = []
    for image, style in zip(features.double().numpy(), styles.double().numpy(), strict=True):
        weight = layer.weight.detach().double().numpy() * style[None, :, None, None]
        weight = weight / np.sqrt((weight**2).sum((1, 2, 3), keepdims=True) + 1e-8)
        maps = []
        for kernels in weight:
            if double:
                total = np.zeros((12, 12))
                for channel, kernel in zip(image, kernels, strict=True):
                    sparse = np.zeros((11, 11))
                    sparse[::2, ::2] = channel
                    total += 4 * convolve2d(convolve2d(sparse, kernel), np.outer(TAPS, TAPS))[2:-2, 2:-2]
            else:  # what networks call a convolution does not turn its kernel round
                total = sum(convolve2d(c, k[::-1, ::-1], mode="same") for c, k in zip(image, kernels, strict=True))
            maps.append(total)
        slow.append(np.stack(maps))
    np.testing.assert_allclose(layer.modulated(features, styles).detach().numpy(), np.stack(slow), atol=2e-5)


def test_the_layer_adds_noise_then_bias_then_activates():
    layer, features, _ = convolution(False)
    layer.noise_strength.data.fill_(0.5)
    layer.bias.data.copy_(drawn(5))
    w = drawn(3, 7)
    inside = layer.modulated(features, layer.affine(w)) + 0.5 * layer.noise_const + layer.bias[:, None, None]
    expected = torch.where(inside > 0, inside, 0.2 * inside) * 2**0.5
    torch.testing.assert_close(layer(features, w, None), expected)
    noise = drawn(3, 1, 6, 6, seed=9)
    torch.testing.assert_close(
        layer(features, w, lambda features: noise), activate(inside + 0.5 * (noise - layer.noise_const))
    )


def test_demodulated_features_have_unit_variance():
    """In closed form: what an output pixel inside the image sums has squared weights of sum 1, whatever the style."""
    layer, features, styles = convolution(False)
    features.requires_grad_()
    out = layer.modulated(features, styles * torch.tensor([0.01, 1.0, 100.0])[:, None])
    for image, channel in product(range(3), range(5)):
        (slope,) = torch.autograd.grad(out[image, channel, 3, 3], features, retain_graph=True)
        assert float(slope.square().sum()) == pytest.approx(1.0, rel=2e-4)


def test_filters_against_scipy():
    images = drawn(2, 3, 6, 6)

    def both(up: int, down: int, gain: float) -> np.ndarray:
        rows = upfirdn(TAPS * gain, images.double().numpy(), up, down, axis=2)
        return upfirdn(TAPS * gain, rows, up, down, axis=3)

    np.testing.assert_allclose(doubled(images, binomial()), both(2, 1, 2.0)[:, :, 1:13, 1:13], atol=1e-5)
    np.testing.assert_allclose(smoothed(images, binomial(), 3), both(1, 1, 1.0), atol=1e-5)
    np.testing.assert_allclose(smoothed(images, binomial(), 3, stride=2), both(1, 2, 1.0), atol=1e-5)
    flat = doubled(torch.ones(1, 1, 8, 8), binomial())[..., 2:-2, 2:-2]
    torch.testing.assert_close(flat, torch.ones_like(flat))


def test_the_ways_of_the_fast_training_are_equal():
    layer, features, _ = convolution(True)
    joined = train_stylegan.Joined(CPU)
    up, down = train_stylegan.FILTERED
    expected = up(features, layer.weight, binomial())
    torch.testing.assert_close(joined.doubling(features, layer.weight, binomial()), expected)
    torch.testing.assert_close(joined.phases(features, layer.weight, binomial()), expected)
    torch.testing.assert_close(
        joined.halving(features, layer.weight, binomial()), down(features, layer.weight, binomial())
    )


def test_tensors_have_the_names_and_shapes_of_published_models():
    shape = replace(SHAPE, channels=(8, 7), size=8)

    def layer(name: str, before: int, after: int, size: int) -> dict[str, tuple[int, ...]]:
        return {
            f"{name}.weight": (after, before, 3, 3),
            f"{name}.bias": (after,),
            f"{name}.affine.weight": (before, 5),
            f"{name}.affine.bias": (before,),
            f"{name}.noise_const": (size, size),
            f"{name}.noise_strength": (),
        }

    def colours(name: str, before: int) -> dict[str, tuple[int, ...]]:
        affine = {f"{name}.affine.weight": (before, 5), f"{name}.affine.bias": (before,)}
        return {f"{name}.weight": (3, before, 1, 1), f"{name}.bias": (3,), **affine}

    expected = {
        "mapping.fc0.weight": (5, 6),
        "mapping.fc0.bias": (5,),
        "mapping.fc1.weight": (5, 5),
        "mapping.fc1.bias": (5,),
        "mapping.w_avg": (5,),
        "synthesis.b4.const": (8, 4, 4),
        **layer("synthesis.b4.conv1", 8, 8, 4),
        **colours("synthesis.b4.torgb", 8),
        **layer("synthesis.b8.conv0", 8, 7, 8),
        **layer("synthesis.b8.conv1", 7, 7, 8),
        **colours("synthesis.b8.torgb", 7),
    }
    assert {name: tuple(value.shape) for name, value in shape.build().state_dict().items()} == expected


def test_mapping_in_closed_form():
    network = made().network
    z = drawn(4, 6)
    values = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
    for layer in ("fc0", "fc1"):
        own = network.mapping.get_submodule(layer)
        values = values @ (own.weight.T * 0.01 / values.shape[1] ** 0.5) + own.bias * 0.01
        values = torch.where(values > 0, values, 0.2 * values) * 2**0.5
    torch.testing.assert_close(network.mapping(z), values)
    before = network.mapping.w_avg.clone()
    network.mapping.train()(z)
    torch.testing.assert_close(network.mapping.w_avg, 0.995 * before + 0.005 * values.mean(0))


def test_styles_reach_their_layers_and_mix_from_the_crossing_on():
    prior = made(space="w+")
    styles = prior.sample(Rng([4]))
    reached = []
    for layer in range(6):
        moved = styles.clone()
        moved[:, layer] += 1
        reached.append(not torch.equal(prior.decode(moved), prior.decode(styles)))
    assert styles.shape == (1, 6, 5) and all(reached)
    first, second = drawn(3, 6), drawn(3, 6, seed=1)
    mixed = prior.network.styles(first, second, torch.tensor([1, 4, 6]))
    own, others = prior.network.mapping(first), prior.network.mapping(second)
    for image, crossing in enumerate((1, 4, 6)):
        torch.testing.assert_close(mixed[image, :crossing], own[image].expand(crossing, -1))
        torch.testing.assert_close(mixed[image, crossing:], others[image].expand(6 - crossing, -1))


def test_truncation():
    assert len(made(psi=0.0).decode(made(psi=0.0).sample(Rng(range(4)))).unique(dim=0)) == 1
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
    others = [made(space="z"), made(psi=0.5), made(SHAPE), made(space="w+", cutoff=2), made(space="w+")]
    others[2].network.synthesis.get_submodule("b4.conv1").noise_const.add_(1)
    assert len({one.digest for one in (made(), *others)}) == 6 and made().digest == made().digest


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


def test_a_planted_style_is_found_by_descent():
    prior = made()
    truth = prior.sample(Rng(range(3)))
    wanted = prior.network.synthesis(prior.styles(truth))
    w = prior.network.mapping.w_avg.expand(3, -1).clone().requires_grad_()
    optimiser = torch.optim.Adam([w], lr=0.1)
    for _ in range(120):
        optimiser.zero_grad()
        (prior.network.synthesis(prior.styles(w)) - wanted).square().mean((1, 2, 3)).sum().backward()
        optimiser.step()
    start = (prior.network.mapping.w_avg - truth).norm(dim=1)
    assert ((w - truth).norm(dim=1) < 0.05 * start).all()


def written(folder, config: dict | None = None, weights: dict[str, Tensor] | None = None) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(asdict(SHAPE) if config is None else config))
    save_file(made().network.state_dict() if weights is None else weights, folder / "model.safetensors")
    return str(folder)


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
        (config | {"type": "dcgan"}, weights, "is no folder of a StyleGAN"),
        (config | {"channels": []}, weights, "is no folder of a StyleGAN"),
        (config | {"classes": 4}, weights, "is no folder of a StyleGAN"),
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
    with pytest.raises(GmiError, match="is no folder of a StyleGAN"):
        StyleGan(folder=str(tmp_path / "empty")).load(CPU)
    (tmp_path / "0" / "model.safetensors").write_bytes(b"not weights")
    (tmp_path / "0" / "config.json").write_text(json.dumps(config))
    with pytest.raises(GmiError, match="cannot be read as weights"):
        StyleGan(folder=str(tmp_path / "0")).load(CPU)
    with pytest.raises(GmiError, match=r"cutoff is 7, but this network has 6 layers"):
        StyleGan(folder=written(tmp_path / "prior"), space="w+", cutoff=7).load(CPU)
    with pytest.raises(ValidationError, match="the style of every layer"):
        StyleGan(folder="prior", cutoff=2)


def test_augmentation_at_no_chance_changes_nothing_and_moves_by_whole_pixels():
    images = drawn(16, 3, 16, 16).clamp(-1, 1)
    torch.testing.assert_close(augmented(images, torch.tensor(0.0)), images, rtol=0, atol=1e-5)
    changed = augmented(images, torch.tensor(1.0), torch.Generator().manual_seed(0))
    again = augmented(images, torch.tensor(1.0), torch.Generator().manual_seed(0))
    assert torch.equal(changed, again) and ((changed - images).abs().mean((1, 2, 3)) > 0.1).all()
    rare = augmented(drawn(400, 1, 8, 8), torch.tensor(0.1), torch.Generator().manual_seed(0))
    share = (rare == augmented(drawn(400, 1, 8, 8), torch.tensor(0.0))).flatten(1).all(1).float().mean()
    assert 0.4 < share < 0.7  # 0.95 * 0.9 ** 6 is 0.505, and a whole-pixel move may be none


def test_the_critic_sees_how_much_images_differ():
    features = drawn(8, 3, 4, 4)
    beside = spread_beside(features)
    for image in range(8):
        group = features[image % 2 :: 2].double().numpy()
        assert float(beside[image, 3, 0, 0]) == pytest.approx(group.std(0).mean(), rel=1e-5)
    assert torch.equal(beside[:, :3], features) and spread_beside(features[:7]).shape == (7, 4, 4, 4)


def test_the_chance_grows_while_the_critic_is_sure_and_shrinks_when_it_is_not():
    critic = Critic((4, 4), 1)
    chances = []
    for opinions in [torch.ones(10)] * 30 + [-torch.ones(10)] * 60:
        critic.adapt(opinions, 0.6, 1000)
        chances.append(float(critic.chance))
    assert chances[2] == 0 and 0.2 < chances[29] < 0.3 and chances[-1] == 0 and float(critic.step) == 90


def test_the_penalty_comes_every_so_many_steps_and_that_many_times_as_great():
    """With the critic's augmentation off, so that the slope can be taken image by image."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        modules = LEARNER.build(8, 1)
    images = drawn(4, 1, 8, 8).tanh()

    def loss() -> float:
        return float(LEARNER.loss("critic", modules, images, torch.Generator().manual_seed(1)).detach())

    modules["critic"].adapt = lambda *_: None
    lazy = loss()
    modules["critic"].step.fill_(1)
    plain = loss()
    step, slow = 1e-2, 0.0
    critic = modules["critic"].double()
    for image in range(4):
        for pixel in range(64):
            moved = F.one_hot(torch.tensor(pixel), 64).reshape(1, 8, 8) * step
            pair = images.double().repeat(2, 1, 1, 1)
            pair[image] += moved
            pair[4 + image] -= moved
            with torch.no_grad():
                slow += float((critic(pair[:4]).sum() - critic(pair[4:]).sum()) / (2 * step)) ** 2 / 4
    gamma = 0.0002 * 8**2 / 4
    assert lazy - plain == pytest.approx(4 * gamma / 2 * slow, rel=1e-2)


class Space:
    """In FaceNet's place, which costs seconds: coarse light and dark."""

    def __init__(self, device: torch.device, batch: int) -> None: ...

    def __call__(self, images: Tensor):
        return F.adaptive_avg_pool2d(images.float() / 255, 4).flatten(1).numpy()


def plan_of(folder, monkeypatch) -> PriorTraining:
    monkeypatch.setattr(prior_training, "FaceSpace", Space)
    (folder / "public").mkdir()
    for number, image in enumerate(toy.prior(8).decode(Rng(range(120)).normal(8))):
        to_pil_image(image).save(folder / "public" / f"{number:03d}.png")
    data = PublicImages(name="toys", folder=str(folder / "public"), terms="none", size=8, grey=True, held_out=40)
    settings = {"steps": 8, "batch": 8, "lr": 2e-3, "warmup": 3, "ema": 0.8, "look": 4, "save": 3}
    return PriorTraining(name="toy", data=data, learner=LEARNER, **settings)


def learn(plan: PriorTraining, folder, report=None) -> prior_training.Progress:
    return train(plan, *plan.data.load(), Run.open(folder, {}), Accelerator(cpu=True), report=report)


def test_the_learner_comes_nearer_to_images_never_seen(tmp_path, monkeypatch):
    plan = plan_of(tmp_path, monkeypatch)
    plan = replace(plan, steps=60, batch=8, look=30, save=60, ema=0.9)
    progress = learn(plan, tmp_path / "run")
    untrained = learn(replace(plan, steps=1), tmp_path / "untrained").history[0]["distance"]
    best = progress.history[progress.best]["distance"]
    assert best < untrained / 2
    prior = StyleGan(folder=str(tmp_path / "run" / "prior"), psi=1.0).load(CPU)
    with torch.no_grad():
        images = (prior.decode(prior.sample(Rng(range(40)))) * 255).round().byte()
    space = Space(CPU, 8)
    assert frechet(space(plan.data.load()[1].bytes), space(images)) == pytest.approx(best, rel=0.5)
    assert "| learner.type | stylegan |" in (tmp_path / "run" / "prior" / "README.md").read_text()


def test_a_kill_changes_nothing(tmp_path, monkeypatch):
    class Killed(Exception):
        pass

    def kill(step: int, loss: float) -> None:
        if step == 6:  # after the second penalty, between two writings of the state
            raise Killed

    plan = plan_of(tmp_path, monkeypatch)
    whole = learn(plan, tmp_path / "whole")
    with pytest.raises(Killed):
        learn(plan, tmp_path / "killed", kill)
    assert learn(plan, tmp_path / "killed") == whole
    first, second = (read_weights(tmp_path / run / "prior" / "model.safetensors") for run in ("whole", "killed"))
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_channels_that_do_not_fit(tmp_path):
    with pytest.raises(GmiError, match="makes 8 px, not 32"):
        LEARNER.build(32, 1)
    with pytest.raises(GmiError, match="equal lengths"):
        replace(LEARNER, critic=(8,)).build(8, 1)


def test_the_fast_training_leaves_a_prior(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        for number in range(12):
            content = BytesIO()
            to_pil_image(drawn(3, 8, 8, seed=number).sigmoid()).save(content, "png")
            archive.writestr(f"{number}.png", content.getvalue())
    arguments = {
        "images": str(tmp_path / "faces.zip"),
        "out": str(tmp_path / "out"),
        "seconds": "1",
        "snapshots": "",
        "batch": "4",
        "latent": "6",
        "width": "6",
        "layers": "2",
        "channels": "6,5",
        "critic": "6,5",
        "mode": "plain",
        "device": "cpu",
    }
    monkeypatch.setattr(sys, "argv", ["", *(word for key, value in arguments.items() for word in (f"--{key}", value))])
    train_stylegan.main()
    (weights,) = (tmp_path / "out").glob("average_*.safetensors")
    weights.rename(tmp_path / "out" / "model.safetensors")
    prior = StyleGan(folder=str(tmp_path / "out")).load(CPU)
    assert prior.decode(prior.sample(Rng([0]))).shape == (1, 3, 8, 8)
    log = json.loads((tmp_path / "out" / "log.json").read_text())
    assert log[0]["images"] == 64 and (tmp_path / "out" / "samples.png").is_file()
