"""Two ways to sample a generative model: as it is, and led along its path to one of the clusters of its own samples.

Classifier guidance (Dhariwal & Nichol, Diffusion Models Beat GANs on Image Synthesis, NeurIPS 2021, alg. 2), in the
form that `gmi.search.guided` has without `normalise`: by Tweedie's formula the clean image is (noisy + level^2 score) /
signal, so a gradient that is added to the score moves it by level^2 / signal times as much, on either path. With the
exact classifier of noisy images and a weight of 1, samples are those of the model that lie in the cluster.

Both start from the same noise: sample by sample they differ in the guidance alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from gmi.priors.path import Field, step
from gmi.protocols import Denoiser, Prior
from gmi.rng import Rng, seed_of

Classifier = Callable[[Tensor, float], Tensor]
"""Log-probabilities (N, K) of clusters, of noisy latents (N, ...) at a time in (0, 1]; differentiable."""


class Sampler(Protocol):
    """A way to sample a model."""

    @property
    def mend(self) -> str:
        """What helps where samples are not finite, for a sentence."""
        ...

    def draw(self, numbers: Sequence[int], seed: int) -> Tensor:
        """The samples (N, C, H, W) in [0, 1] of these numbers."""
        ...


@dataclass(frozen=True)
class Plain:
    """Samples of a model as it makes them."""

    prior: Prior
    mend: str = "such a model cannot be audited; train it again"

    def draw(self, numbers: Sequence[int], seed: int) -> Tensor:
        return self.prior.decode(noise(self.prior, numbers, seed)).clamp(0, 1)


@dataclass(frozen=True)
class Towards:
    """Samples that are led to clusters, to each of them in turn."""

    prior: Denoiser
    classifier: Classifier
    clusters: Tensor  # (M,), those that are led to
    weight: float  # of the guidance: 1 is the cluster's share of the model; above: more typical of the cluster
    mend: str = "take a smaller guided.weight"

    def draw(self, numbers: Sequence[int], seed: int) -> Tensor:
        start = noise(self.prior, numbers, seed)
        wanted = self.clusters[torch.tensor(numbers) % len(self.clusters)].to(start.device)
        return self.prior.image(follow(self.prior, start, self._field(wanted))).clamp(0, 1)

    def _field(self, wanted: Tensor) -> Field:
        """The direction that leads to the wanted clusters (N,)."""

        def field(noisy: Tensor, time: float) -> Tensor:
            signal, level = self.prior.path.levels(time)
            with torch.enable_grad():
                noisy = noisy.detach().requires_grad_()
                likely = self.classifier(noisy, time).gather(1, wanted[:, None]).sum()
                (slope,) = torch.autograd.grad(likely, noisy)
            noisy = noisy.detach()
            factor = level**2 / signal if signal > 0 else 0.0  # without signal there is no cluster yet
            return self.prior.path.direction(
                noisy, self.prior.denoise(noisy, time) + self.weight * factor * slope, time
            )

        return field


def noise(prior: Prior, numbers: Sequence[int], seed: int) -> Tensor:
    """The latents (N, ...) from which the samples of these numbers start."""
    return prior.sample(Rng([seed_of(seed, "sample", number) for number in numbers]))


def follow(prior: Denoiser, latents: Tensor, field: Field | None = None) -> Tensor:
    """Clean latents (N, ...) at the end of the path from noise (N, ...), in the steps of a `decode`.

    field: the direction; None: the model's own.
    """

    def own(noisy: Tensor, time: float) -> Tensor:
        return prior.path.direction(noisy, prior.denoise(noisy, time), time)

    for now, after in pairwise(prior.path.times(prior.evaluations)):
        latents = step(prior.path, field or own, latents, now, after, heun=False)
    return latents
