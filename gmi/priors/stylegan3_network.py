"""StyleGAN3's generator in plain torch: differentiable twice, on any device, without operations of its own.

After Karras et al., Alias-Free Generative Adversarial Networks, NeurIPS 2021 ("StyleGAN3"; sec. 3, app. C and F).
Tensors have the names, shapes and scales of the published models, so that these only need to be read.

Everywhere: N images, D numbers in a style w, C channels; features are (N, C, H, W), colours (N, 3, S, S) about [-1, 1].
Frequencies are in cycles, and rates in samples, over the width of the image.

Differs from the paper: no classes; no layer is computed in half precision of its own accord; no training, so running
means stay.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from scipy.signal import firwin, kaiser_atten, kaiser_beta
from scipy.special import j1
from torch import Tensor, nn

from gmi.priors.stylegan_network import Linear, Mapping
from gmi.views import at_least_single, single

MARGIN = 10  # pixels beyond the image on each side, in all layers but the last ones
CRITICAL = 2  # last layers, whose cutoff is that of the image: without room for a soft filter
TAPS = 6  # taps of a filter for each pixel that it makes or takes
INNER = 2  # times that the rate is raised for the nonlinearity
LIMIT = 256.0  # activations are clamped here
SCALE = 0.25  # of the last layer's output to colours


@dataclass(frozen=True)
class Band:
    """What a layer's features may hold: app. C, "Flexible layer specifications"."""

    cutoff: float  # highest frequency
    stopband: float  # frequency from which on nothing passes
    rate: int  # samples over the image
    size: int  # pixels, with the margins

    @property
    def half_width(self) -> float:
        """Half of the transition's width."""
        return max(self.stopband, self.rate / 2) - self.cutoff


def bands(size: int, layers: int) -> list[Band]:
    """The bands of a network's layers, the one of colours last: they rise geometrically up to the last two."""
    steps = np.minimum(np.arange(layers + 1) / (layers - CRITICAL), 1)
    cutoffs = 2 * (size / 2 / 2) ** steps
    first, last = 2**2.1, size / 2 * 2**0.3
    stopbands = first * (last / first) ** steps
    rates = np.exp2(np.ceil(np.log2(np.minimum(2 * stopbands, size))))
    sizes = rates + 2 * MARGIN
    sizes[-2:] = size
    return [
        Band(float(c), float(s), int(r), int(n)) for c, s, r, n in zip(cutoffs, stopbands, rates, sizes, strict=True)
    ]


def lowpass(taps: int, cutoff: float, width: float, rate: float, radial: bool) -> Tensor | None:
    """A low-pass filter (taps,), or (taps, taps) if radial, with sum 1; None for a single tap.

    Kaiser's window (app. C, eq. 5), on a sinc, or on a jinc, which is the same in all directions.
    """
    if taps == 1:
        return None
    if not radial:
        return torch.as_tensor(firwin(taps, cutoff, width=width, fs=rate), dtype=torch.float32)
    places = (np.arange(taps) - (taps - 1) / 2) / rate
    radius = np.hypot(*np.meshgrid(places, places))
    jinc = j1(2 * cutoff * np.pi * radius) / (np.pi * radius)
    window = np.kaiser(taps, kaiser_beta(kaiser_atten(taps, width / (rate / 2))))
    kernel = jinc * np.outer(window, window)
    return torch.as_tensor(kernel / kernel.sum(), dtype=torch.float32)


def convolved(features: Tensor, taps: Tensor | None, gain: float = 1.0, stride: int = 1) -> Tensor:
    """Features whose channels are convolved with a symmetric filter; every stride-th pixel is kept.

    gain: factor of each direction.
    """
    if taps is None:
        return features[:, :, ::stride, ::stride]
    channels = features.shape[1]
    if taps.ndim == 2:
        return F.conv2d(features, (taps * gain**2).expand(channels, 1, -1, -1), None, stride, 0, 1, channels)
    taps = (taps * gain).expand(channels, 1, -1)
    features = F.conv2d(features, taps[:, :, None], None, (1, stride), 0, 1, channels)
    return F.conv2d(features, taps[..., None], None, (stride, 1), 0, 1, channels)


def spread(features: Tensor, times: int) -> Tensor:
    """Features (N, C, H times, W times) with zeros between the pixels, and behind the last ones."""
    if times == 1:
        return features
    count, channels, height, width = features.shape
    wide = F.pad(features[:, :, :, None, :, None], (0, times - 1, 0, 0, 0, times - 1))
    return wide.reshape(count, channels, height * times, width * times)


class Input(nn.Module):
    """Fourier features, moved and turned as the style says, of frequencies in the first layer's band (app. F)."""

    transform: Tensor
    freqs: Tensor
    phases: Tensor

    def __init__(self, width: int, channels: int, band: Band) -> None:
        super().__init__()
        directions = torch.randn(channels, 2)
        radii = directions.norm(dim=1, keepdim=True)
        # evenly over the disc of the band: the norm of normal pairs, brought to a uniform distribution of area
        directions = directions / radii * torch.sqrt(1 - torch.exp(-radii.square() / 2)) * band.cutoff
        self.weight = nn.Parameter(torch.randn(channels, channels))
        self.affine = Linear(width, 4)
        with torch.no_grad():
            self.affine.weight.zero_()
            self.affine.bias.copy_(torch.tensor([1.0, 0, 0, 0]))
        self.register_buffer("transform", torch.eye(3))  # of the image, by whoever uses the network
        self.register_buffer("freqs", directions)
        self.register_buffer("phases", torch.rand(channels) - 0.5)
        self._band = band

    def forward(self, w: Tensor) -> Tensor:
        """Features (N, C, H, H) of styles w (N, D), never in half precision: waves of a wrong place are wrong waves."""
        with single(w.device):
            return self._waves(at_least_single(w))

    def _waves(self, w: Tensor) -> Tensor:
        band = self._band
        turn = self.affine(w)  # cosine, sine, and a move
        turn = turn / turn[:, :2].norm(dim=1, keepdim=True)
        cosine, sine, x, y = turn.unbind(1)
        none, one = torch.zeros_like(cosine), torch.ones_like(cosine)
        rotation = torch.stack([cosine, -sine, none, sine, cosine, none, none, none, one], 1).view(-1, 3, 3)
        move = torch.stack([one, none, -x, none, one, -y, none, none, one], 1).view(-1, 3, 3)
        places = rotation @ move @ self.transform
        phases = self.phases + (self.freqs @ places[:, :2, 2:]).squeeze(2)  # (N, C)
        frequencies = self.freqs @ places[:, :2, :2]  # (N, C, 2)
        # frequencies that the transform brought out of the band fade away
        excess = (frequencies.norm(dim=2) - band.cutoff) / (band.rate / 2 - band.cutoff)
        amplitudes = (1 - excess).clamp(0, 1)
        half = 0.5 * band.size / band.rate
        theta = torch.tensor([[half, 0, 0], [0, half, 0]]).to(w)[None]
        grid = F.affine_grid(theta, [1, 1, band.size, band.size], align_corners=False)
        waves = torch.einsum("xyd,ncd->nxyc", grid[0], frequencies) + phases[:, None, None]
        waves = torch.sin(2 * math.pi * waves) * amplitudes[:, None, None]
        return (waves @ (self.weight / math.sqrt(len(self.weight))).T).permute(0, 3, 1, 2)


class Layer(nn.Module):
    """A convolution scaled by a style, then a leaky ReLU between two filters that keep it from aliasing (fig. 4b)."""

    magnitude_ema: Tensor
    up_filter: Tensor | None
    down_filter: Tensor | None

    def __init__(
        self, width: int, before: int, after: int, bands: tuple[Band, Band], kernel: int, radial: bool, colours: bool
    ) -> None:
        """bands: of what comes in, and of what goes out. kernel: side of the convolution. colours: the last layer."""
        super().__init__()
        entry, leave = bands
        self.weight = nn.Parameter(torch.randn(after, before, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(after))
        self.affine = Linear(width, before, bias=1.0)
        rate = max(entry.rate, leave.rate) * (1 if colours else INNER)
        self._up, self._down = rate // entry.rate, rate // leave.rate
        taps_up, taps_down = (1 if colours or times == 1 else TAPS * times for times in (self._up, self._down))
        soft = radial and leave.cutoff * 2 < leave.rate  # a critically sampled layer has no room for it
        self.register_buffer("magnitude_ema", torch.ones(()))
        self.register_buffer("up_filter", lowpass(taps_up, entry.cutoff, 2 * entry.half_width, rate, False))
        self.register_buffer("down_filter", lowpass(taps_down, leave.cutoff, 2 * leave.half_width, rate, soft))
        total = (leave.size - 1) * self._down + 1 - (entry.size + kernel - 1) * self._up + taps_up + taps_down - 2
        low = (total + self._up) // 2  # where a pixel's place would fall between two
        self._edges = (low, total - low, low, total - low)
        self._colours, self._edge = colours, kernel - 1

    def forward(self, features: Tensor, w: Tensor) -> Tensor:
        """Features (N, O, H', W') under styles w (N, D)."""
        style, weight = self.affine(w), self.weight
        if self._colours:
            style, scale = style / math.sqrt(weight[0].numel()), None
        else:  # each output channel is brought to unit variance; the first two lines change nothing but rounding
            weight = weight * torch.rsqrt(weight.square().mean((1, 2, 3), keepdim=True))
            style = style * torch.rsqrt(style.square().mean())
            scale = torch.rsqrt(F.linear(style.square(), weight.square().sum((2, 3))) + 1e-8)
        features = F.conv2d(features * style[:, :, None, None], weight, padding=self._edge)
        features = features * torch.rsqrt(self.magnitude_ema)
        features = features if scale is None else features * scale[:, :, None, None]
        features = spread(features + self.bias[:, None, None], self._up)
        features = convolved(F.pad(features, self._edges), self.up_filter, self._up)
        if not self._colours:
            features = F.leaky_relu(features, 0.2) * math.sqrt(2)
        return convolved(features.clamp(-LIMIT, LIMIT), self.down_filter, stride=self._down)


class Piece(nn.Module):
    """One layer as a piece of the network: features stand for colours until the last."""

    def __init__(self, layer: Layer | Input, scale: float) -> None:
        super().__init__()
        self._layer, self._scale = layer, scale

    def forward(self, features: Tensor | None, colours: Tensor | None, styles: Tensor) -> tuple[Tensor, Tensor]:
        made = self._layer(styles[:, 0]) if features is None else self._layer(features, styles[:, 0])
        return made, made * self._scale


class Synthesis(nn.Module):
    """Styles (N, L, D), one for each layer, to colours (N, 1 or 3, S, S)."""

    def __init__(
        self, width: int, channels: tuple[int, ...], colours: int, size: int, kernel: int, radial: bool
    ) -> None:
        """channels: of each layer's output but the last one's. kernel: side of its convolutions."""
        super().__init__()
        every = bands(size, len(channels))
        self.input = Input(width, channels[0], every[0])
        self.names = ["input"]
        outputs = (channels[0], *channels, colours)
        for number, (before, after) in enumerate(pairwise(outputs)):
            last = number == len(channels)
            pair = (every[max(number - 1, 0)], every[number])
            name = f"L{number}_{pair[1].size}_{after}"
            self.add_module(name, Layer(width, before, after, pair, 1 if last else kernel, radial, last))
            self.names.append(name)

    @property
    def layers(self) -> int:
        """L: the input, the layers, and that of colours."""
        return len(self.names)

    def blocks(self) -> list[tuple[Piece, slice]]:
        """The layers in order, each with the place of the style that it takes."""
        pieces = []
        for place, name in enumerate(self.names):
            layer = self.get_submodule(name)
            assert isinstance(layer, Layer | Input)
            pieces.append((Piece(layer, SCALE if name == self.names[-1] else 1.0), slice(place, place + 1)))
        return pieces

    def forward(self, styles: Tensor) -> Tensor:
        """Colours (N, 1 or 3, S, S)."""
        features = colours = None
        for piece, place in self.blocks():
            features, colours = piece(features, colours, styles[:, place])
        assert colours is not None
        return colours


class Generator(nn.Module):
    """The network from latents to colours: `mapping`, then `synthesis`."""

    def __init__(
        self,
        latent: int,
        width: int,
        channels: tuple[int, ...],
        colours: int,
        layers: int,
        size: int,
        kernel: int,
        radial: bool,
    ) -> None:
        super().__init__()
        self.mapping = Mapping(latent, width, layers)
        self.synthesis = Synthesis(width, channels, colours, size, kernel, radial)
