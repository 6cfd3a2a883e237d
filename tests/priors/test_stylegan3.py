"""StyleGAN3: layers as published, filters of the right shape, and images that move with what they are made from."""

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from scipy.signal import freqz
from torch import Tensor, nn

from gmi.errors import GmiError
from gmi.priors.stylegan import StyleGan, StyleGan3Shape, StyleGanPrior
from gmi.priors.stylegan3_network import Generator, Layer, bands, convolved, lowpass, spread
from gmi.protocols import Prior, StagedPrior
from gmi.rng import Rng

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
SHAPES = {
    "T": StyleGan3Shape(latent=6, width=5, layers=2, channels=(8,) * 8, size=32, colours=3, kernel=3, radial=False),
    "R": StyleGan3Shape(latent=6, width=5, layers=2, channels=(12,) * 8, size=32, colours=3, kernel=1, radial=True),
}


def network(shape: StyleGan3Shape, seed: int = 3) -> Generator:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = shape.build()
        made.mapping.w_avg.copy_(torch.randn(shape.width))
        for part in made.modules():
            if isinstance(part, Layer):
                part.bias.data.normal_(std=0.2)
                part.magnitude_ema.fill_(0.8)
    return made.eval().requires_grad_(False)


def test_layers_have_the_sizes_of_the_published_networks():
    """The names of the layers in the files for 1024 px (L0_36_1024, L4_84_..., L14_1024_3) and for 256 px."""
    large = [36, 36, 52, 52, 84, 148, 148, 276, 276, 532, 1044, 1044, 1044, 1024, 1024]
    assert [band.size for band in bands(1024, 14)] == large
    small = [36, 36, 36, 52, 52, 84, 84, 148, 148, 148, 276, 276, 276, 256, 256]
    assert [band.size for band in bands(256, 14)] == small
    channels = [round(min(32768 / 2 / band.cutoff, 512)) for band in bands(1024, 14)[:-1]]  # T's
    assert channels == [512] * 7 + [323, 203, 128, 81, 51, 32, 32]
    for size in (64, 256, 1024):
        every = bands(size, 14)
        assert every[0].cutoff == 2 and every[-1].cutoff == every[-3].cutoff == pytest.approx(size / 2)
        assert all(band.cutoff < band.stopband and 2 * band.cutoff <= band.rate + 1e-9 for band in every)


def test_a_filter_lets_its_band_pass_and_nothing_beyond():
    band = bands(256, 14)[3]
    taps = lowpass(12, band.cutoff, 2 * band.half_width, 2.0 * band.rate, radial=False)
    frequencies, response = freqz(taps.double().numpy(), fs=2 * band.rate, worN=2000)
    power = np.abs(response)
    assert taps.sum() == pytest.approx(1, abs=1e-6) and power[0] == pytest.approx(1, abs=1e-6)
    assert 0.4 < power[np.argmin(np.abs(frequencies - band.cutoff))] < 0.7  # about half of the amplitude
    assert power[frequencies > band.cutoff + 1.6 * band.half_width].max() < 0.02
    places = np.arange(12) - 5.5
    attenuation = 2.285 * 11 * np.pi * 2 * band.half_width / band.rate + 7.95  # eq. 5
    assert attenuation > 50
    beta = 0.1102 * (attenuation - 8.7)  # Kaiser's, for that much
    slow = np.sinc(2 * band.cutoff / (2 * band.rate) * places) * np.kaiser(12, beta)
    np.testing.assert_allclose(taps, slow / slow.sum(), atol=1e-6)
    assert lowpass(1, 2, 1, 16, radial=False) is None
    turned = lowpass(12, band.cutoff, 2 * band.half_width, 2.0 * band.rate, radial=True)
    assert turned.sum() == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(turned, turned.T)
    torch.testing.assert_close(turned, turned.flip(0))


def test_resampling_is_the_slow_formula():
    features = torch.randn(2, 3, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    taps = lowpass(8, 2.0, 3.0, 16.0, radial=False).double()
    wide = spread(features, 2)
    assert wide.shape == (2, 3, 10, 12) and wide[:, :, ::2, ::2].equal(features) and wide[:, :, 1::2].abs().sum() == 0
    got = convolved(F.pad(wide, (4, 3, 4, 3)), taps, gain=2.0, stride=2)
    padded, plane = F.pad(wide, (4, 3, 4, 3)), torch.outer(taps, taps) * 4
    for row in range(got.shape[2]):
        for column in range(got.shape[3]):
            patch = padded[:, :, 2 * row : 2 * row + 8, 2 * column : 2 * column + 8]
            torch.testing.assert_close(got[:, :, row, column], (patch * plane).sum((2, 3)))
    torch.testing.assert_close(convolved(F.pad(wide, (4, 3, 4, 3)), torch.outer(taps, taps), 2.0, 2), got)


def moved(network: Generator, styles: Tensor, transform: Tensor) -> Tensor:
    before = network.synthesis.input.transform.clone()
    network.synthesis.input.transform.copy_(transform)
    images = network.synthesis(styles)
    network.synthesis.input.transform.copy_(before)
    return images


def decibels(left: Tensor, right: Tensor, edge: int) -> float:
    """Peak signal to noise (app. E), with the images' own spread in place of a range."""
    inner = (..., slice(edge, -edge), slice(edge, -edge))
    return 10 * math.log10(4 * right.var().item() / (left[inner] - right[inner]).square().mean().item())


@pytest.mark.parametrize("name", SHAPES)
def test_images_move_with_their_input(name):
    """Equivariance (fig. 3, EQ-T): features moved by a pixel make an image that is moved by a pixel."""
    made = network(SHAPES[name])
    styles = made.mapping(Rng(range(3)).normal(6))[:, None].expand(-1, made.synthesis.layers, -1)
    still = made.synthesis(styles)
    for pixels in (1, 3):
        transform = torch.eye(3)
        transform[0, 2] = pixels / 32
        assert decibels(moved(made, styles, transform), still.roll(-pixels, 3), 6) > 40
    # without filters there is no such thing
    for part in made.synthesis.modules():
        if isinstance(part, Layer) and part.down_filter is not None:
            part.down_filter = F.pad(torch.ones_like(part.down_filter[..., :1]), (0, part.down_filter.shape[-1] - 1))
            if part.down_filter.ndim == 2:
                part.down_filter[1:] = 0
    assert decibels(moved(made, styles, transform), made.synthesis(styles).roll(-3, 3), 6) < 38


def test_images_turn_with_their_input_where_nothing_has_a_direction():
    quarter = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    turned = {}
    for name, shape in SHAPES.items():
        made = network(shape)
        styles = made.mapping(Rng(range(3)).normal(6))[:, None].expand(-1, made.synthesis.layers, -1)
        turned[name] = decibels(moved(made, styles, quarter), made.synthesis(styles).rot90(1, (2, 3)), 2)
    assert turned["R"] > 80 > 30 > turned["T"]  # a convolution of 3 x 3 has directions


def test_the_style_turns_and_moves_the_input():
    """App. F: the affine layer's cosine, sine and move are those of the image's transform, its length is nothing."""
    made = network(SHAPES["T"])
    entry = made.synthesis.input
    w = torch.zeros(1, 5)
    entry.affine.bias.data = torch.tensor([0.0, 2.0, 0.5, -0.25])  # twice a quarter turn, with a move
    got = entry(w)
    entry.affine.bias.data = torch.tensor([1.0, 0.0, 0.0, 0.0])
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    move = torch.tensor([[1.0, 0, -0.25], [0, 1, 0.125], [0, 0, 1]])
    entry.transform.copy_(turn @ move)
    torch.testing.assert_close(got, entry(w), atol=1e-5, rtol=1e-5)


def test_the_protocol_folders_and_stages(tmp_path):
    shape = SHAPES["T"]
    made = network(shape)
    (tmp_path / "config.json").write_text(json.dumps(asdict(shape)))
    save_file({name: value.contiguous() for name, value in made.state_dict().items()}, tmp_path / "model.safetensors")
    prior = StyleGan(folder=str(tmp_path), space="w+", psi=0.7, cutoff=4).load(CPU)
    assert isinstance(prior, Prior) and isinstance(prior, StagedPrior) and isinstance(prior, StyleGanPrior)
    latents = prior.sample(Rng(range(2)))
    assert latents.shape == (2, 10, 5)
    images = prior.decode(latents)
    assert images.shape == (2, 3, 32, 32) and 0 <= images.min() < images.max() <= 1
    torch.testing.assert_close(images, ((made.synthesis(latents) + 1) / 2).clamp(0, 1))
    features = colours = None
    for stage in prior.stages(3):
        features, colours = stage(features, colours, latents)
    torch.testing.assert_close(colours, images)
    with pytest.raises(GmiError, match=r"has 10 layers: set search\.layers to 9"):
        prior.stages(10)
    assert replace(shape, radial=True) != shape and prior.digest != StyleGanPrior(network(shape, 4), shape, "w+").digest


def test_gradients_reach_the_latents():
    made = StyleGanPrior(network(SHAPES["T"]), SHAPES["T"], "w")
    latents = made.sample(Rng(range(2))).double().requires_grad_(True)
    made.network.double()
    slope = torch.autograd.grad(made.decode(latents).square().sum(), latents)[0]
    step = torch.zeros_like(latents)
    step[0, 1] = 1e-5
    with torch.no_grad():
        rise = made.decode(latents + step).square().sum() - made.decode(latents - step).square().sum()
    assert slope[0, 1].item() == pytest.approx(rise.item() / 2e-5, rel=1e-3)


def test_waves_are_never_made_in_half_precision():
    made = network(SHAPES["T"])
    w = made.mapping(Rng(range(2)).normal(6))
    with torch.autocast("cpu", torch.bfloat16):
        assert made.synthesis.input(w).dtype == torch.float32
        assert made.synthesis.input(w.bfloat16()).dtype == torch.float32
        inside = made.synthesis.input(w)
    assert inside.equal(made.synthesis.input(w))


def test_sizes_are_powers_of_two():
    with pytest.raises(ValueError, match="48 is no power of 2"):
        replace(SHAPES["T"], size=48)


def test_demodulation_is_by_image_and_nothing_of_the_batch_stays():
    made = network(SHAPES["T"])
    styles = made.mapping(Rng(range(4)).normal(6))[:, None].expand(-1, made.synthesis.layers, -1)
    torch.testing.assert_close(made.synthesis(styles)[:1], made.synthesis(styles[:1]), atol=1e-5, rtol=1e-4)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in made.modules())
