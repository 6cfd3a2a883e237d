"""StyleGAN2's critic, and the adaptive augmentation of what it sees; plain torch, which is all that is imported.

After Karras et al., StyleGAN2, CVPR 2020 (sec. 4.1, fig. 7c), and Karras et al., Training Generative Adversarial
Networks with Limited Data, NeurIPS 2020 ("ADA"; sec. 3, app. B).
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmi.priors.stylegan_network import Linear, activate, binomial, smoothed
from gmi.views import LUMA, at_least_single


class Convolution(nn.Module):
    """A convolution with an equalised learning rate and no bias.

    halve: features are smoothed first, and every second pixel is kept.
    """

    resample_filter: Tensor

    def __init__(self, before: int, after: int, kernel: int, halve: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(after, before, kernel, kernel))
        self.register_buffer("resample_filter", binomial(), persistent=False)
        self._gain = 1 / math.sqrt(before * kernel**2)
        self._edge = kernel // 2
        self._halve = halve

    def forward(self, features: Tensor) -> Tensor:
        weight = self.weight * self._gain
        if not self._halve:
            return F.conv2d(features, weight, padding=self._edge)
        if self._edge == 0:
            return F.conv2d(smoothed(features, self.resample_filter, 1, stride=2), weight)
        return halving_convolution(features, weight, self.resample_filter)


def halving_convolution(features: Tensor, weight: Tensor, taps: Tensor) -> Tensor:
    """Features (N, O, H / 2, W / 2): smoothed, convolved with weight (O, C, 3, 3), every second pixel kept."""
    return F.conv2d(smoothed(features, taps, 2), weight, stride=2)


class Activated(nn.Module):
    """A convolution with bias and activation."""

    def __init__(self, before: int, after: int, kernel: int, halve: bool = False) -> None:
        super().__init__()
        self.convolution = Convolution(before, after, kernel, halve)
        self.bias = nn.Parameter(torch.zeros(after))

    def forward(self, features: Tensor) -> Tensor:
        features = self.convolution(features)
        return activate(features + self.bias.to(features)[:, None, None])


class Residual(nn.Module):
    """Two convolutions, of which the second halves the size, and past them a third, averaged with them."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv0 = Activated(before, before, 3)
        self.conv1 = Activated(before, after, 3, halve=True)
        self.skip = Convolution(before, after, 1, halve=True)

    def forward(self, features: Tensor) -> Tensor:
        return (self.conv1(self.conv0(features)) + self.skip(features)) * math.sqrt(0.5)


class Critic(nn.Module):
    """Images (N, C, S, S) in about [-1, 1] to opinions (N,): the greater, the more like a photograph.

    Besides its weights it keeps what a training adapts: `step`, the number of its steps; `sureness`, the running mean
    of the sign of its opinions of photographs; `chance`, that of each augmentation.

    Differs from the papers: nothing.
    """

    step: Tensor
    sureness: Tensor
    chance: Tensor

    def __init__(self, channels: tuple[int, ...], colours: int) -> None:
        """channels: by resolution, 4 px first."""
        super().__init__()
        widths = tuple(reversed(channels))
        self.entry = Activated(colours, widths[0], 1)
        self.blocks = nn.Sequential(*(Residual(before, after) for before, after in pairwise(widths)))
        self.last = Activated(widths[-1] + 1, widths[-1], 3)
        self.hidden = Linear(widths[-1] * 16, widths[-1])
        self.out = Linear(widths[-1], 1)
        for name in ("step", "sureness", "chance"):
            self.register_buffer(name, torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        """Opinions (N,) of images (N, C, S, S)."""
        return self.opinions(at_least_single(self.blocks(self.entry(images))))

    def opinions(self, features: Tensor) -> Tensor:
        """Opinions (N,) of features (N, C, 4, 4)."""
        features = self.last(spread_beside(features))
        return self.out(activate(self.hidden(features.flatten(1)))).squeeze(1)

    @torch.no_grad()
    def adapt(self, opinions: Tensor, wanted: float, pace: int) -> None:
        """Moves `chance`, after one step's opinions (N,) of photographs, towards a mean sign that is as `wanted`.

        pace: images in which the chance goes from 0 to 1. ADA, sec. 3.1: the measure r_t.

        Differs from the paper: a running mean over about four steps, every step, in place of a mean of four steps.
        """
        self.sureness.lerp_(opinions.float().sign().mean(), 0.25)
        self.chance.add_(torch.sign(self.sureness - wanted) * (len(opinions) / pace)).clamp_(0, 1)
        self.step.add_(1)


def spread_beside(features: Tensor) -> Tensor:
    """Features (N, C + 1, H, W): the last is their deviation within a group of four images, averaged to one number.

    Karras et al., Progressive Growing of GANs, ICLR 2018, sec. 3: a critic that sees how much images of a batch differ
    keeps its generator from making few. Groups of three, two or one where the batch cannot be divided.
    """
    count = len(features)
    group = next(size for size in (4, 3, 2, 1) if count % size == 0)
    deviation = (features.reshape(group, count // group, -1).var(0, correction=0) + 1e-8).sqrt().mean(1)
    height, width = features.shape[2:]
    return torch.cat([features, deviation.repeat(group)[:, None, None, None].expand(-1, 1, height, width)], 1)


def augmented(images: Tensor, chance: Tensor, draws: torch.Generator | None = None) -> Tensor:
    """Images (N, C, S, S) in [-1, 1], each transformed with a chance (), transformation by transformation.

    Mirrored (half as often), moved by whole pixels (up to 1/8), scaled, turned; brightness, contrast and saturation
    changed. A generator that is judged by such images does not learn the transformations while the chance is below
    about 0.8 (ADA, sec. 3). Differentiable once; outside the image is its reflection. draws: None: torch's own
    generator.

    Differs from the paper: no quarter turns, no unequal scaling, hue or mirrored luminance, filters, noise or holes;
    pixels are interpolated between four neighbours, at the image's own resolution; one turn in place of two.
    """
    number = len(images)

    def uniform() -> Tensor:
        return torch.rand(number, generator=draws, device=images.device)

    def normal() -> Tensor:
        return torch.randn(number, generator=draws, device=images.device)

    def maybe(changed: Tensor, unchanged: float) -> Tensor:
        return torch.where(uniform() < chance, changed, torch.full_like(changed, unchanged))

    size = images.shape[-1]
    mirror = maybe(torch.where(uniform() < 0.5, -1.0, 1.0), 1.0)
    turn = maybe((uniform() * 2 - 1) * math.pi, 0.0)
    scale = maybe(torch.exp2(normal() * 0.2), 1.0)
    moves = [maybe(((uniform() * 2 - 1) * size / 8).round(), 0.0) * 2 / size for _ in range(2)]
    axis = (torch.arange(size, device=images.device) * 2 + 1) / size - 1
    across, down = axis.expand(number, size, size), axis[:, None].expand(number, size, size)
    cos, sin = (scale * turn.cos())[:, None, None], (scale * turn.sin())[:, None, None]
    right, below = (move[:, None, None] for move in moves)
    grid = torch.stack(
        [mirror[:, None, None] * (cos * across - sin * down) + right, sin * across + cos * down + below], 3
    )
    images = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)

    brightness = maybe(normal() * 0.2, 0.0)[:, None, None, None]
    contrast = maybe(torch.exp2(normal() * 0.5), 1.0)[:, None, None, None]
    saturation = maybe(torch.exp2(normal()), 1.0)[:, None, None, None]
    images = (images + brightness) * contrast
    if images.shape[1] == 1:
        return images
    luma = sum(share * images[:, channel : channel + 1] for channel, share in enumerate(LUMA))
    return luma + (images - luma) * saturation
