"""StyleGAN2's network against slow formulas."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from reference.stylegans import SHAPE, drawn, made
from scipy.signal import convolve2d, upfirdn
from torch import Tensor

from gmi.priors.stylegan_network import StyledConvolution, activate, binomial, doubled, noise_sizes, smoothed
from gmi.rng import Rng

TAPS = np.array([1.0, 3.0, 3.0, 1.0]) / 8


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
    torch.testing.assert_close(layer(features, w, noise), activate(inside + 0.5 * (noise - layer.noise_const)))


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


def test_noise_reaches_its_convolution():
    network = made().network
    styles = network.styles(drawn(3, 6))
    assert noise_sizes(3) == [4, 8, 8, 16, 16]
    noises = [torch.zeros(3, 1, size, size) for size in noise_sizes(3)]
    silent = network.synthesis(styles, noises)
    for number, noise in enumerate(noises):
        loud = [*noises[:number], noise + drawn(*noise.shape), *noises[number + 1 :]]
        assert not torch.equal(network.synthesis(styles, loud), silent)
