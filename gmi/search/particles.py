"""Score-only search with a diffusion or flow prior: particles that look promising multiply, others die out.

Feynman-Kac steering (Singhal et al., A General Framework for Inference-time Scaling and Steering of Diffusion Models,
ICML 2025, alg. 1, difference potential) with the target's log-probability at the predicted clean image as reward: no
gradients, forward queries only. Copies part ways because every step puts some fresh noise in place of the old
(Song et al., DDIM, ICLR 2021, eq. 12 and 16; for flow matching the same between its levels).

Differs from the paper: systematic resampling instead of multinomial, which has less variance; the reward is averaged
over views; the target is asked neither about the first steps nor about the final image; before the last question a
class is resampled only where its effective number of particles has fallen below half, at the last one always, so that
what comes out counts alike.
"""

import math
from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from gmi.protocols import Candidates, Denoiser, ScoreOracle, Trace
from gmi.rng import Rng
from gmi.search.signature import Passes
from gmi.settings import Count, Positive, Share, settings
from gmi.views import Views


@settings
class Particles:
    """From noise (N, C, H, W) to images. The candidates of one class, `selection.candidates`, are its particles.

    steps: of the path. every: steps between two questions to the target. warmth: the reward is log p / warmth; smaller
    is stricter. fresh: eta of DDIM, 1 being DDPM's own sampling; without it copies stay the same. With 1, flow
    matching's first step replaces all the noise that a candidate was selected for.
    """

    type: Literal["particles"] = "particles"
    steps: Annotated[int, Field(ge=3)] = 50
    every: Count = 5
    warmth: Positive = 1.0
    fresh: Share = 1.0
    views: Views | None = Views()
    transforms: Count = 1

    def queries(self, prior: Denoiser) -> int:
        """For each candidate: forward only."""
        return len(self._asked()) * self.transforms

    def passes(self, prior: Denoiser) -> Passes:
        return Passes(self.steps, 0)

    @torch.no_grad()
    def __call__(
        self,
        oracle: ScoreOracle,
        prior: Denoiser,
        latents: Tensor,
        classes: Tensor,
        rng: Rng,
        trace: Trace | None = None,
    ) -> Candidates:
        """From noise (N, C, H, W) to candidates, whose latents are the clean ones: `prior.image` shows them."""
        whose = classes.cpu()
        groups = [(whose == one).nonzero().squeeze(1) for one in dict.fromkeys(whose.tolist())]
        noisy, path = latents, prior.path
        before, weights = torch.zeros(len(classes)), torch.zeros(len(classes))  # rewards; log-weights since resampling
        for number, (now, after) in enumerate(pairwise(path.times(self.steps))):
            clean = prior.denoise(noisy, now)
            if number in self._asked():
                reward = self._reward(oracle, prior.image(clean), classes, rng)
                weights, before = weights + reward - before, reward
                last = number == self._asked()[-1]
                chosen, weights = _resampled(weights, groups, rng, 1.0 if last else 0.5)
                noisy, clean, before = noisy[chosen.to(noisy.device)], clean[chosen.to(noisy.device)], before[chosen]
            noisy = self._stirred(prior, noisy, clean, now, after, rng)
            if trace is not None:
                trace(number, -before)
        return Candidates(prior.image(noisy), classes, noisy)

    def _asked(self) -> range:
        """The steps before which the target is asked. Not the first, where the clean image is anyone's, nor the last,
        after which copies would stay the same.
        """
        return range(min(self.every, self.steps - 2), self.steps - 1, self.every)

    def _reward(self, oracle: ScoreOracle, images: Tensor, classes: Tensor, rng: Rng) -> Tensor:
        """(N,) on the CPU."""
        total = torch.zeros(len(classes))
        for _ in range(self.transforms):
            views = images if self.views is None else self.views(images, rng)
            total += oracle.scores(views, classes).gather(1, classes[:, None]).squeeze(1).float().cpu()
        return total / self.transforms / self.warmth

    def _stirred(self, prior: Denoiser, noisy: Tensor, clean: Tensor, now: float, after: float, rng: Rng) -> Tensor:
        """One step along the path, with part of the noise replaced: DDIM's eq. 12, sigma as in eq. 16."""
        (signal, level), (then, rest) = prior.path.levels(now), prior.path.levels(after)
        noise = (noisy - signal * clean) / level
        kept = signal * rest / (then * level)  # of the noise by a step of DDPM (eta 1), which replaces the others
        sigma = self.fresh * rest * math.sqrt(max(0.0, 1 - kept**2))
        fresh = rng.normal(*noisy.shape[1:]).to(noisy)
        return then * clean + math.sqrt(rest**2 - sigma**2) * noise + sigma * fresh


def _resampled(weights: Tensor, groups: list[Tensor], rng: Rng, share: float) -> tuple[Tensor, Tensor]:
    """Which particle takes each place (N,), and the log-weights after that. A class draws by its first generator.

    A class is left alone whose effective number of particles exceeds that share of them.
    """
    chosen, left = torch.arange(len(weights)), weights.clone()
    draws = rng.uniform(1).squeeze(1)
    for own in groups:
        shares = weights[own].double().softmax(0)
        if 1 / shares.square().sum() > share * len(own):
            continue
        places = (draws[own[0]].double() + torch.arange(len(own))) / len(own)
        chosen[own] = own[torch.searchsorted(shares.cumsum(0), places).clamp_max(len(own) - 1)]
        left[own] = 0
    return chosen, left
