"""Paths from noise to a clean image: flow matching's, which is straight, DDPM's, which preserves variance, and EDM's.

At `time` 1 there is only noise, at 0 only the clean image: noisy = signal * clean + level * noise. From a network's
prediction of the noise, the clean image or their difference the others follow, so a path is all that searches and
samplers need to know. Times are plain numbers here: all candidates are at the same time.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gmi.errors import GmiError
from gmi.protocols import NoisePath

Field = Callable[[Tensor, float], Tensor]
"""The direction (N, ...) for `NoisePath.advance`, as a function of noisy images (N, ...) and their time."""


@dataclass(frozen=True)
class FlowPath:
    """Flow matching: noisy = (1 - time) * clean + time * noise; the network predicts noise - clean.

    Lipman et al., Flow Matching, ICLR 2023; Esser et al., Stable Diffusion 3, ICML 2024 (`shift`: sec. 5.3.2, eq. 23).
    """

    shift: float = 1.0  # above 1: more of the steps at high levels of noise
    span: int = 1000  # the network takes time * span

    @property
    def timesteps(self) -> int:
        return self.span

    def times(self, steps: int) -> list[float]:
        even = (1 - step / steps for step in range(steps + 1))
        return [self.shift * time / (1 + (self.shift - 1) * time) for time in even]

    def levels(self, time: float) -> tuple[float, float]:
        return 1 - time, time

    def stamp(self, time: float) -> float:
        return time * self.span

    def clean(self, output: Tensor, noisy: Tensor, time: float) -> Tensor:
        return noisy - time * output

    def gain(self, time: float) -> float:
        return 1.0

    def output(self, clean: Tensor, noise: Tensor, signal: Tensor, level: Tensor) -> Tensor:
        return noise - clean

    def direction(self, noisy: Tensor, clean: Tensor, time: float) -> Tensor:
        return (noisy - clean) / time

    def advance(self, noisy: Tensor, direction: Tensor, now: float, after: float) -> Tensor:
        return noisy + (after - now) * direction


@dataclass(frozen=True)
class DiffusionPath:
    """DDPM: noisy = sqrt(a) * clean + sqrt(1 - a) * noise, with a table of a by timestep.

    Ho et al., DDPM, NeurIPS 2020, eq. 4. Steps are those of Song et al., DDIM, ICLR 2021, eq. 13: Euler's method for
    noisy / signal as a function of level / signal. "v_prediction": Salimans & Ho, Progressive Distillation, ICLR 2022,
    app. D.
    """

    kept: tuple[float, ...]  # a by timestep, descending: (T,)
    prediction: str = "epsilon"  # output of the network: epsilon, sample or v_prediction
    limit: float | None = None  # clean images are clipped to [-limit, limit]; gradients ignore it; None: not clipped

    def __post_init__(self) -> None:
        if self.prediction not in ("epsilon", "sample", "v_prediction"):
            raise GmiError(f"The scheduler's prediction_type is {self.prediction}: epsilon, sample, v_prediction work.")
        if self.kept[-1] <= 0:
            raise GmiError("The scheduler ends in pure noise (rescale_betas_zero_snr), which DDIM's step cannot leave.")

    @property
    def timesteps(self) -> int:
        return len(self.kept)

    def times(self, steps: int) -> list[float]:
        if steps > len(self.kept):
            raise GmiError(f"{steps} steps are more than the {len(self.kept)} timesteps that the prior was trained on.")
        return [1 - step / steps for step in range(steps + 1)]

    def levels(self, time: float) -> tuple[float, float]:
        kept = self.kept[self._index(time)] if self._index(time) >= 0 else 1.0
        return math.sqrt(kept), math.sqrt(1 - kept)

    def stamp(self, time: float) -> float:
        return float(self._index(time))

    def clean(self, output: Tensor, noisy: Tensor, time: float) -> Tensor:
        signal, level = self.levels(time)
        if self.prediction == "sample":
            clean = output
        elif self.prediction == "v_prediction":
            clean = signal * noisy - level * output
        else:
            clean = (noisy - level * output) / signal  # where there is little signal, errors in `output` grow large
        if self.limit is None:
            return clean
        return clean + (clean.clamp(-self.limit, self.limit) - clean).detach()

    def gain(self, time: float) -> float:
        return 1.0

    def output(self, clean: Tensor, noise: Tensor, signal: Tensor, level: Tensor) -> Tensor:
        if self.prediction == "sample":
            return clean
        return signal * noise - level * clean if self.prediction == "v_prediction" else noise

    def direction(self, noisy: Tensor, clean: Tensor, time: float) -> Tensor:
        signal, level = self.levels(time)
        return (noisy - signal * clean) / level

    def advance(self, noisy: Tensor, direction: Tensor, now: float, after: float) -> Tensor:
        return _along(self, noisy, direction, now, after)

    def _index(self, time: float) -> int:
        """The timestep, T - 1 at time 1; -1 means the clean image."""
        return round(time * len(self.kept)) - 1


@dataclass(frozen=True)
class EdmPath:
    """EDM: image + s * noise, with s up to 80, at unit variance here: noisy = (image + s * noise) / sqrt(1 + s^2).

    Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models, NeurIPS 2022: preconditioning of
    the network by table 1, steps by eq. 5, Euler's method by alg. 1. A step of `advance` is one of theirs.
    """

    least: float = 0.002  # s of the last step before 0
    most: float = 80.0  # s at time 1
    rho: float = 7.0  # times are s^(1 / rho), as a share of that at time 1
    spread: float = 0.5  # sigma_data, the standard deviation of images
    timesteps: int = 1000

    def times(self, steps: int) -> list[float]:
        low = (self.least / self.most) ** (1 / self.rho)
        return [*(1 + step / max(1, steps - 1) * (low - 1) for step in range(steps)), 0.0]

    def levels(self, time: float) -> tuple[float, float]:
        return 1 / math.hypot(1, self._scale(time)), self._scale(time) / math.hypot(1, self._scale(time))

    def stamp(self, time: float) -> float:
        return math.log(self._scale(time)) / 4

    def gain(self, time: float) -> float:
        return math.hypot(1, self._scale(time)) / math.hypot(self.spread, self._scale(time))

    def clean(self, output: Tensor, noisy: Tensor, time: float) -> Tensor:
        scale = self._scale(time)
        both = math.hypot(self.spread, scale)
        return (self.spread / both) ** 2 * math.hypot(1, scale) * noisy + scale * self.spread / both * output

    def output(self, clean: Tensor, noise: Tensor, signal: Tensor, level: Tensor) -> Tensor:
        scale = level / signal
        both = (scale.square() + self.spread**2).sqrt()
        return (clean - (self.spread / both) ** 2 * (clean + scale * noise)) * both / (scale * self.spread)

    def direction(self, noisy: Tensor, clean: Tensor, time: float) -> Tensor:
        signal, level = self.levels(time)
        return (noisy - signal * clean) / level

    def advance(self, noisy: Tensor, direction: Tensor, now: float, after: float) -> Tensor:
        return _along(self, noisy, direction, now, after)

    def _scale(self, time: float) -> float:
        """The paper's sigma."""
        return self.most * time**self.rho


def _along(path: NoisePath, noisy: Tensor, direction: Tensor, now: float, after: float) -> Tensor:
    """Straight on for noisy / signal as a function of level / signal."""
    (signal, level), (then, rest) = path.levels(now), path.levels(after)
    return then * (noisy / signal + (rest / then - level / signal) * direction)


def step(path: NoisePath, field: Field, noisy: Tensor, now: float, after: float, heun: bool) -> Tensor:
    """Noisy images (N, ...) after one step of Euler's or Heun's method.

    Heun's takes the mean of the directions at both ends (Karras et al., EDM, NeurIPS 2022, alg. 1). The last step, to
    the clean image, is always Euler's, because no direction is defined there.
    """
    slope = field(noisy, now)
    ahead = path.advance(noisy, slope, now, after)
    if not heun or after == 0:
        return ahead
    return path.advance(noisy, (slope + field(ahead, after)) / 2, now, after)


def stamps(path: NoisePath, time: float, like: Tensor) -> Tensor:
    """The path's stamp for a batch: (N,), on the device of `like` (N, ...)."""
    return torch.full((len(like),), path.stamp(time), device=like.device)
