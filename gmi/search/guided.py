"""White-box search along a prior's path from noise to image: the target's gradient bends every step.

Flow-guided inversion with normalised gradients (SFMI; constants of its reference settings): while the image forms, the
direction of the path gets a share of the gradient of max-margin at the predicted clean image, as long as the direction
itself, more while little is decided. On DDPM's path this is the DDIM form of classifier guidance (Dhariwal & Nichol,
NeurIPS 2021, alg. 2) asked at the clean image, as in universal guidance (Bansal et al., ICLR 2024, eq. 6).
`through="clean"` is MPGD's (He et al., ICLR 2024, alg. 1): no way back through the prior. Without `normalise` it is
classifier guidance proper on either path: the noise that the prior sees grows by the gradient times the noise level,
and where the loss is -log p and linear in a Gaussian's latents, the samples are those of the posterior.

Differs from the papers: progress is measured by the share of signal, signal / (signal + noise), which is SFMI's time
for flow matching and means the same for DDPM; the clean image is told from whatever the folder's network predicts.
"""

import math
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from gmi.priors.path import step
from gmi.protocols import Candidates, Denoiser, Trace, WhiteBoxOracle
from gmi.rng import Rng
from gmi.search.objectives import OBJECTIVES
from gmi.search.signature import Passes
from gmi.settings import Count, NonNegative, Share, settings
from gmi.views import Views


@settings
class Guided:
    """From noise (N, C, H, W) to images, in `steps`; Heun's method evaluates the prior twice a step.

    strength: length of the guidance, as a share of the direction's own. It grows until `rise` of the way is gone, holds
    until `hold`, falls as half a cosine until `fall`, and is 0 from there on: then no query is made.
    normalise: False: the gradient's own length times `strength`, and through the prior only.
    """

    type: Literal["guided"] = "guided"
    steps: Count = 50
    heun: bool = True
    strength: NonNegative = 0.3
    rise: Share = 0.1
    hold: Share = 0.3
    fall: Share = 0.7
    through: Literal["prior", "clean"] = "prior"
    objective: Literal["cross_entropy", "max_margin", "logit", "poincare"] = "max_margin"
    normalise: bool = True
    views: Views | None = Views()
    transforms: Count = 1  # views whose losses are averaged

    def __post_init__(self) -> None:
        if not self.rise <= self.hold <= self.fall:
            raise ValueError("rise must not exceed hold, nor hold fall")
        if self.through == "clean" and not self.normalise:
            raise ValueError("through clean needs normalise: there the gradient has no length of its own to go by")

    def queries(self, prior: Denoiser) -> int:
        """For each candidate: none are made where the guidance is 0."""
        return sum(self._guides(prior)) * self.transforms

    def passes(self, prior: Denoiser) -> Passes:
        guides = self._guides(prior)
        steep = sum(guides) if self.through == "prior" else 0
        return Passes(len(guides) - steep, steep)

    def _guides(self, prior: Denoiser) -> list[bool]:
        """For each evaluation of the prior whether the target is asked."""
        times = prior.path.times(self.steps)
        evaluated = times[:-1] + (times[1:-1] if self.heun else [])
        return [self.weight(*prior.path.levels(time)) > 0 for time in evaluated]

    def __call__(
        self,
        oracle: WhiteBoxOracle,
        prior: Denoiser,
        latents: Tensor,
        classes: Tensor,
        rng: Rng,
        trace: Trace | None = None,
    ) -> Candidates:
        """From noise (N, C, H, W) to candidates, whose latents are the clean ones: `prior.image` shows them."""
        losses = [latents.new_zeros(len(latents))]

        def field(noisy: Tensor, time: float) -> Tensor:
            weight = self.weight(*prior.path.levels(time))
            if weight == 0:
                with torch.no_grad():
                    return prior.path.direction(noisy, prior.denoise(noisy, time), time)
            clean, slope, losses[0] = self._slope(oracle, prior, noisy, time, classes, rng)
            direction = prior.path.direction(noisy, clean, time)
            if self.normalise:
                return direction + weight * (slope * (_length(direction) / _length(slope).clamp_min(1e-12)))
            signal, level = prior.path.levels(time)  # Tweedie: the clean image is (noisy + level^2 score) / signal
            moved = level**2 / signal if signal > 0 else 0.0  # without signal the image, and the slope, are anyone's
            return prior.path.direction(noisy, clean - weight * moved * slope, time)

        noisy = latents.detach()
        for number, (now, after) in enumerate(pairwise(prior.path.times(self.steps))):
            noisy = step(prior.path, field, noisy, now, after, self.heun)
            if trace is not None:
                trace(number, losses[0])
        with torch.no_grad():
            return Candidates(prior.image(noisy), classes, noisy)

    def weight(self, signal: float, level: float) -> float:
        """Of the guidance where signal and noise have these levels. SFMI's schedule."""
        gone = signal / (signal + level)
        if gone >= self.fall:
            return 0.0
        if gone <= self.rise:
            return self.strength * (gone / self.rise if self.rise else 1.0)
        if gone <= self.hold:
            return self.strength
        return self.strength * 0.5 * (1 + math.cos(math.pi * (gone - self.hold) / (self.fall - self.hold)))

    def _slope(
        self, oracle: WhiteBoxOracle, prior: Denoiser, noisy: Tensor, time: float, classes: Tensor, rng: Rng
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The predicted clean latents, the gradient (N, C, H, W) and the losses (N,)."""
        if self.through == "prior":
            noisy = noisy.detach().requires_grad_()
            clean = prior.denoise(noisy, time)
            moved = noisy
        else:
            with torch.no_grad():
                clean = prior.denoise(noisy, time)
            moved = clean = clean.requires_grad_()
        images = prior.image(clean)
        loss = torch.stack([self._loss(oracle, images, classes, rng) for _ in range(self.transforms)]).mean(0)
        (slope,) = torch.autograd.grad(loss.sum(), moved)
        return clean.detach(), slope, loss.detach()

    def _loss(self, oracle: WhiteBoxOracle, images: Tensor, classes: Tensor, rng: Rng) -> Tensor:
        if self.views is not None:
            images = self.views(images, rng)
        return OBJECTIVES[self.objective](oracle.logits(images), classes)


def _length(vectors: Tensor) -> Tensor:
    """Norms (N, 1, 1, 1)."""
    return vectors.flatten(1).norm(dim=1)[:, None, None, None]
