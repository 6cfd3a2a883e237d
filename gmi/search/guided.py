"""White-box search along a prior's path from noise to image: the target's gradient bends every step.

Flow-guided inversion with normalised gradients (SFMI): while the image forms, the gradient of the loss at the predicted
clean image is added to the path's direction. It is scaled to the direction's length times a weight, which is larger
while little of the image is decided. On DDPM's path this is the DDIM form of classifier guidance (Dhariwal & Nichol,
NeurIPS 2021, alg. 2), evaluated at the clean image as in universal guidance (Bansal et al., ICLR 2024, eq. 6).
`through="clean"` is MPGD (He et al., ICLR 2024, alg. 1): no gradient passes through the prior. Without `normalise` it
is classifier guidance proper on either path: the noise that the prior sees grows by the gradient times the noise level,
and if the loss is -log p and linear in a Gaussian's latents, the samples follow the posterior.

Differs from the papers: progress is measured by the share of signal, signal / (signal + noise), which is SFMI's time
for flow matching and means the same for DDPM; the clean image is derived from whatever the folder's network predicts.
The defaults find more than SFMI's settings do: 50 steps of Heun's method, strength 0.3, hold 0.3, fall 0.7, max_margin.
"""

import math
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from gmi.priors.path import step
from gmi.protocols import Candidates, Denoiser, Trace, WhiteBoxOracle
from gmi.rng import Rng
from gmi.search.averaging import averaged
from gmi.search.objectives import OBJECTIVES
from gmi.search.signature import Passes
from gmi.settings import Count, NonNegative, Share, settings
from gmi.views import Views


@settings
class Guided:
    """Guided sampling from noise (N, C, H, W) to images.

    The guidance rises to `strength`, holds, falls as half a cosine and ends; once it is 0 the target is not queried.
    """

    type: Literal["guided"] = "guided"
    steps: Count = 36  # steps along the prior's path
    heun: bool = False  # Heun's method, which evaluates the prior twice per step; False: Euler's
    strength: NonNegative = 1.0  # length of the guidance at its height, as a share of the direction's length
    rise: Share = 0.1  # share of the path over which the guidance grows from 0
    hold: Share = 0.7  # share of the path up to which it keeps its full strength; not below rise
    fall: Share = 1.0  # share of the path at which it has fallen to 0; not below hold
    through: Literal["prior", "clean"] = "prior"  # clean: the gradient stops at the clean image (MPGD)
    objective: Literal["cross_entropy", "max_margin", "logit", "poincare"] = "logit"  # loss that guides
    normalise: bool = True  # False: the gradient keeps its length, times strength; only through the prior
    views: Views | None = Views()  # random views through which the target is shown an image; None: the image as it is
    transforms: Count = 1  # views whose losses are averaged in each evaluation

    def __post_init__(self) -> None:
        if not self.rise <= self.hold <= self.fall:
            raise ValueError("rise must not exceed hold, nor hold fall")
        if self.through == "clean" and not self.normalise:
            raise ValueError("through clean needs normalise: there the gradient has no length of its own to go by")

    def queries(self, prior: Denoiser) -> int:
        """Queries that the search makes for each candidate; there are none while the guidance is 0."""
        return sum(self._guides(prior)) * self.transforms

    def passes(self, prior: Denoiser) -> Passes:
        """Evaluations of the prior's network for each candidate."""
        guides = self._guides(prior)
        steep = sum(guides) if self.through == "prior" else 0
        return Passes(len(guides) - steep, steep)

    def _guides(self, prior: Denoiser) -> list[bool]:
        """One entry per evaluation of the prior: True where the target is queried."""
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
        """Candidates (N) from noise (N, C, H, W); their latents are clean, so `prior.image` decodes them."""
        losses = [latents.new_zeros(len(latents))]

        def field(noisy: Tensor, time: float) -> Tensor:
            weight = self.weight(*prior.path.levels(time))
            if weight == 0:
                with torch.no_grad():
                    return prior.path.direction(noisy, prior.denoise(noisy, time, classes), time)
            clean, slope, losses[0] = self._slope(oracle, prior, noisy, time, classes, rng)
            direction = prior.path.direction(noisy, clean, time)
            if self.normalise:
                return direction + weight * (slope * (_length(direction) / _length(slope).clamp_min(1e-12)))
            signal, level = prior.path.levels(time)  # Tweedie: the clean image is (noisy + level^2 score) / signal
            factor = level**2 / signal if signal > 0 else 0.0  # without signal the gradient says nothing of the class
            return prior.path.direction(noisy, clean - weight * factor * slope, time)

        noisy = latents.detach()
        for number, (now, after) in enumerate(pairwise(prior.path.times(self.steps))):
            noisy = step(prior.path, field, noisy, now, after, self.heun)
            if trace is not None:
                trace(number, losses[0])
        with torch.no_grad():
            return Candidates(prior.image(noisy), classes, noisy)

    def weight(self, signal: float, level: float) -> float:
        """Weight of the guidance, in [0, strength], at these levels of signal and noise: SFMI's schedule."""
        progress = signal / (signal + level)
        if progress >= self.fall:
            return 0.0
        if progress <= self.rise:
            return self.strength * (progress / self.rise if self.rise else 1.0)
        if progress <= self.hold:
            return self.strength
        return self.strength * 0.5 * (1 + math.cos(math.pi * (progress - self.hold) / (self.fall - self.hold)))

    def _slope(
        self, oracle: WhiteBoxOracle, prior: Denoiser, noisy: Tensor, time: float, classes: Tensor, rng: Rng
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The predicted clean latents (N, C, H, W), the gradient (N, C, H, W) and the losses (N,)."""
        if self.through == "prior":
            noisy = noisy.detach().requires_grad_()
            clean = prior.denoise(noisy, time, classes)
            variable = noisy
        else:
            with torch.no_grad():
                clean = prior.denoise(noisy, time, classes)
            variable = clean = clean.requires_grad_()
        images = prior.image(clean)
        loss, slope = averaged(images, lambda shown: self._loss(oracle, shown, classes, rng), self.transforms)
        (slope,) = torch.autograd.grad(images, variable, slope)
        return clean.detach(), slope, loss

    def _loss(self, oracle: WhiteBoxOracle, images: Tensor, classes: Tensor, rng: Rng) -> Tensor:
        """Losses (N,) of one view of each image."""
        if self.views is not None:
            images = self.views(images, rng)
        return OBJECTIVES[self.objective](oracle.logits(images), classes)


def _length(vectors: Tensor) -> Tensor:
    """Norms (N, 1, 1, 1)."""
    return vectors.flatten(1).norm(dim=1)[:, None, None, None]
