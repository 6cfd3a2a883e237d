"""StyleGAN2's generator in plain torch: differentiable twice, on any device.

After Karras et al., Analyzing and Improving the Image Quality of StyleGAN, CVPR 2020 ("StyleGAN2"; sec. 2.2, 4.1 and
fig. 2, 7), with the settings of Karras et al., Training Generative Adversarial Networks with Limited Data, NeurIPS 2020
("ADA"). Tensors have the names, shapes and scales of the models published with ADA, so that these only need renaming
(a file of theirs also holds each layer's filter, which is a constant here).

Everywhere: N images, D numbers in a style w, C channels; features are (N, C, H, W), colours (N, 1 or 3, H, W) about
[-1, 1].

Differs from the papers: no classes; nothing is computed in half precision, so activations are not clamped at 256.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmi.views import at_least_single, single

Noises = Sequence[Tensor]
"""For each 3x3 convolution, in order, noise (N, 1, H, W) of unit variance."""

FOLLOW = 0.005  # share of a batch's mean in the running mean of styles; ADA: 1 - 0.995


def activate(features: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.2, times sqrt(2), which keeps the mean square of normal features about the same."""
    return F.leaky_relu(features, 0.2) * math.sqrt(2)


def binomial() -> Tensor:
    """Taps (4,) of the low-pass filter [1, 3, 3, 1], with sum 1, for both directions in turn."""
    return torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8


def smoothed(features: Tensor, taps: Tensor, edge: int, gain: float = 1.0, stride: int = 1) -> Tensor:
    """Features whose channels are convolved with symmetric taps (4,) in both directions; every stride-th pixel is kept.

    edge: zeros on every side before that. gain: factor of each direction.
    """
    channels = features.shape[1]
    taps = (taps * gain).to(features).expand(channels, 1, 4)
    features = F.conv2d(features, taps[:, :, None], None, (1, stride), (0, edge), 1, channels)
    return F.conv2d(features, taps[..., None], None, (stride, 1), (edge, 0), 1, channels)


def doubled(images: Tensor, taps: Tensor) -> Tensor:
    """Images (N, C, H, W) at (2 H, 2 W): zeros put between the pixels and smoothed, with a gain of 4 for the zeros."""
    channels = images.shape[1]
    taps = (taps * 2).to(images).expand(channels, 1, 4)
    images = F.conv_transpose2d(images, taps[:, :, None], None, (1, 2), (0, 1), 0, channels)
    return F.conv_transpose2d(images, taps[..., None], None, (2, 1), (1, 0), 0, channels)


def doubling_convolution(features: Tensor, weight: Tensor, taps: Tensor) -> Tensor:
    """Features (N, O, 2 H, 2 W): zeros put between the pixels, convolved with weight (O, C, 3, 3), smoothed."""
    return smoothed(F.conv_transpose2d(features, weight.transpose(0, 1), stride=2), taps, 1, 2.0)


class Linear(nn.Module):
    """A fully connected layer with an equalised learning rate: weights have unit variance and are scaled when used.

    Karras et al., Progressive Growing of GANs, ICLR 2018, sec. 4.1. rate: factor on the learning rate.
    """

    def __init__(self, before: int, after: int, bias: float = 0.0, rate: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(after, before) / rate)
        self.bias = nn.Parameter(torch.full((after,), bias))
        self._rate, self._gain = rate, rate / math.sqrt(before)

    def forward(self, values: Tensor) -> Tensor:
        return F.linear(values, self.weight * self._gain, self.bias * self._rate)


class Mapping(nn.Module):
    """Latents z (N, Z) to styles w (N, D). `w_avg` (D,) follows the mean of styles while the module is in training."""

    w_avg: Tensor

    def __init__(self, latent: int, width: int, layers: int) -> None:
        super().__init__()
        self.layers = layers
        for layer, (before, after) in enumerate(pairwise((latent, *[width] * layers))):
            self.add_module(f"fc{layer}", Linear(before, after, rate=0.01))
        self.register_buffer("w_avg", torch.zeros(width))

    def forward(self, latents: Tensor) -> Tensor:
        """Styles, never in half precision: what searches start from, and climb in, are latents."""
        with single(latents.device):
            values = at_least_single(latents)
            values = values * torch.rsqrt(values.square().mean(1, keepdim=True) + 1e-8)
            for layer in range(self.layers):
                values = activate(self.get_submodule(f"fc{layer}")(values))
        if self.training:
            self.w_avg.lerp_(values.detach().mean(0), FOLLOW)
        return values


class StyledConvolution(nn.Module):
    """A 3x3 convolution whose weights a style scales by input channel, each output channel brought to unit variance.

    StyleGAN2, eq. 1 and 3. The weights are the same for all images: their scaling moves to the features before and
    after, which is equal and needs no weights by image. Noise comes after it, then bias and activation.
    """

    noise_const: Tensor
    resample_filter: Tensor

    def __init__(self, before: int, after: int, width: int, size: int, double: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(after, before, 3, 3))
        self.bias = nn.Parameter(torch.zeros(after))
        self.affine = Linear(width, before, bias=1.0)
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise_const", torch.randn(size, size))
        self.register_buffer("resample_filter", binomial(), persistent=False)
        self._double = double

    def modulated(self, features: Tensor, style: Tensor) -> Tensor:
        """Features convolved under the scales (N, C) that `affine` makes of w."""
        energy = F.linear(style.square(), self.weight.square().sum((2, 3)))
        features = features * style[:, :, None, None]
        if self._double:
            features = doubling_convolution(features, self.weight, self.resample_filter)
        else:
            features = F.conv2d(features, self.weight, padding=1)
        return features * torch.rsqrt(energy + 1e-8).to(features)[:, :, None, None]

    def forward(self, features: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        """Features (N, O, H, W) under styles w (N, D). noise: (N, 1, H, W); None: the constant noise."""
        features = self.modulated(features, self.affine(w))
        noise = self.noise_const if noise is None else noise
        return activate(features + (noise * self.noise_strength).to(features) + self.bias.to(features)[:, None, None])


class Colours(nn.Module):
    """Features to colours: a 1x1 convolution scaled by a style, without anything that normalises."""

    def __init__(self, before: int, colours: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(colours, before, 1, 1))
        self.bias = nn.Parameter(torch.zeros(colours))
        self.affine = Linear(width, before, bias=1.0)
        self._gain = 1 / math.sqrt(before)

    def forward(self, features: Tensor, w: Tensor) -> Tensor:
        style = self.affine(w) * self._gain
        return F.conv2d(features * style[:, :, None, None], self.weight, self.bias)


class Block(nn.Module):
    """One resolution: two convolutions, of which the first doubles the size (or one, of a learnt constant), then
    colours that are added to those of the resolution below (skips; StyleGAN2, fig. 7b)."""

    resample_filter: Tensor

    def __init__(self, before: int | None, after: int, width: int, size: int, colours: int) -> None:
        """before: channels of the resolution below; None: there is none."""
        super().__init__()
        if before is None:
            self.const = nn.Parameter(torch.randn(after, size, size))
        else:
            self.conv0 = StyledConvolution(before, after, width, size, double=True)
        self.conv1 = StyledConvolution(after, after, width, size, double=False)
        self.torgb = Colours(after, colours, width)
        self.register_buffer("resample_filter", binomial(), persistent=False)
        self.lowest = before is None

    def forward(
        self, features: Tensor | None, colours: Tensor | None, styles: Tensor, noises: Noises | None = None
    ) -> tuple[Tensor, Tensor]:
        """Features and colours of this resolution, from those of the one below, which are None at the lowest.

        styles: (N, 3, D), one for each layer; at the lowest resolution (N, 2, D). noises: as many as convolutions;
        None: the constant ones.
        """
        ws = styles.unbind(1)
        first, last = (None, None) if noises is None else (noises[0], noises[-1])
        if features is None or colours is None:
            mixed = self.conv1(self.const.expand(len(styles), -1, -1, -1), ws[0], last)
            return mixed, at_least_single(self.torgb(mixed, ws[1]))
        mixed = self.conv1(self.conv0(features, ws[0], first), ws[1], last)
        return mixed, doubled(colours, self.resample_filter) + at_least_single(self.torgb(mixed, ws[2]))


class Synthesis(nn.Module):
    """Styles (N, L, D), one for each layer, to colours (N, 1 or 3, S, S): blocks b4, b8, ... up to the size S."""

    def __init__(self, width: int, channels: tuple[int, ...], colours: int) -> None:
        super().__init__()
        self.sizes = tuple(4 * 2**level for level in range(len(channels)))
        for size, before, after in zip(self.sizes, (None, *channels), channels, strict=False):
            self.add_module(f"b{size}", Block(before, after, width, size, colours))

    @property
    def layers(self) -> int:
        """L: the convolutions, and the last layer of colours; others share the style of the convolution after them."""
        return 2 * len(self.sizes)

    def blocks(self) -> list[tuple[Block, slice]]:
        """The blocks in order, each with the layers whose styles it takes."""
        blocks = []
        for level, size in enumerate(self.sizes):
            block = self.get_submodule(f"b{size}")
            assert isinstance(block, Block)
            blocks.append((block, slice(max(2 * level - 1, 0), 2 * level + 2)))
        return blocks

    def forward(self, styles: Tensor, noises: Noises | None = None) -> Tensor:
        """Colours (N, 1 or 3, S, S). noises: None: the constant ones."""
        features = colours = None
        for block, layers in self.blocks():
            drawn = None if noises is None else noises[layers.start : layers.stop - 1]
            features, colours = block(features, colours, styles[:, layers], drawn)
        assert colours is not None
        return colours


def noise_sizes(resolutions: int) -> list[int]:
    """Heights and widths of the noises: of one convolution at 4 px, and of two at each higher resolution."""
    return [4 * 2**level for level in range(resolutions) for _ in range(2 if level else 1)]


class Generator(nn.Module):
    """The network from latents to colours: `mapping`, then `synthesis`.

    channels: by resolution, 4 px first, each next one twice as large.
    """

    def __init__(self, latent: int, width: int, channels: tuple[int, ...], colours: int, layers: int) -> None:
        super().__init__()
        self.mapping = Mapping(latent, width, layers)
        self.synthesis = Synthesis(width, channels, colours)

    def forward(
        self,
        latents: Tensor,
        others: Tensor | None = None,
        crossing: Tensor | None = None,
        noises: Noises | None = None,
    ) -> Tensor:
        """Colours (N, 1 or 3, S, S) of latents z (N, Z), as they are trained; others, crossing: as in `styles`."""
        return self.synthesis(self.styles(latents, others, crossing), noises)

    def styles(self, latents: Tensor, others: Tensor | None = None, crossing: Tensor | None = None) -> Tensor:
        """Styles (N, L, D) of latents z (N, Z).

        others: latents (N, Z) whose styles take over from layer `crossing` (N,) on: StyleGAN's mixing. None: nothing
        is mixed.
        """
        styles = self.mapping(latents)[:, None].expand(-1, self.synthesis.layers, -1)
        if others is None or crossing is None:
            return styles
        late = torch.arange(self.synthesis.layers, device=latents.device) >= crossing[:, None]
        return torch.where(late[:, :, None], self.mapping(others)[:, None], styles)
