"""Score-only search with a diffusion or flow prior: promising particles multiply, the others die out.

Feynman-Kac steering (Singhal et al., A General Framework for Inference-time Scaling and Steering of Diffusion Models,
ICML 2025, alg. 1, difference potential) with the target's log-probability at the predicted clean image as reward. It
needs forward queries only, no gradients. Copies of a particle diverge because every step replaces part of the noise
(Song et al., DDIM, ICLR 2021, eq. 12 and 16; the same between the levels of flow matching).

Of a recogniser's interface, the similarity is the reward, in units of its spread among a class's candidates when they
are first compared: recognisers have scales of their own.

Differs from the paper: systematic resampling instead of multinomial, because it has less variance; the reward is
averaged over views; the target is not queried before the first steps are done, nor about the final image; a class is
resampled only when its effective number of particles has fallen below half, but always after the last query, so that
all resulting particles have the same weight.
"""

import math
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from gmi.protocols import Candidates, Denoiser, ScoreOracle, SimilarityOracle, Trace
from gmi.rng import Rng, sent
from gmi.search.signature import Passes
from gmi.settings import Count, Positive, Share, settings
from gmi.views import Views


@settings
class Particles:
    """Steered sampling from noise (N, C, H, W) to images.

    The candidates of one class, of which there are `selection.candidates`, are its particles: take a dozen or more.
    """

    type: Literal["particles"] = "particles"
    joint: ClassVar[bool] = True
    steps: Annotated[int, Field(ge=3)] = 50  # steps along the prior's path
    every: Count = 5  # steps between two queries to the target
    # the reward is log p, or a similarity in units of its spread, over warmth: the smaller, the stricter the selection
    warmth: Positive = 1.0
    # eta of DDIM from the first query on: 1 is DDPM's sampling; 0 adds no fresh noise, so copies stay equal. Before it,
    # none is added: that would replace the noise for which a candidate was chosen, with flow matching all of it at once
    fresh: Share = 1.0
    views: Views | None = Views()  # random views through which the target is shown an image; None: the image as it is
    transforms: Count = 1  # views over which a reward is averaged

    def queries(self, prior: Denoiser) -> int:
        """Queries that the search makes for each candidate; all are forward passes."""
        return len(self._query_steps()) * self.transforms

    def passes(self, prior: Denoiser) -> Passes:
        """Evaluations of the prior's network for each candidate."""
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
        """Candidates (N) from noise (N, C, H, W); their latents are clean, so `prior.image` decodes them."""
        labels = classes.cpu()
        groups = [(labels == label).nonzero().squeeze(1) for label in dict.fromkeys(labels.tolist())]
        noisy, path = latents, prior.path
        unit = torch.ones(len(classes))
        before, weights = torch.zeros(len(classes)), torch.zeros(len(classes))  # rewards; log-weights since resampling
        for number, (now, after) in enumerate(pairwise(path.times(self.steps))):
            clean = prior.denoise(noisy, now, classes)
            if number in self._query_steps():
                reward = self._reward(oracle, prior.image(clean), classes, rng)
                if isinstance(oracle, SimilarityOracle):
                    unit = _spreads(reward, groups) if number == self._query_steps().start else unit
                    reward = reward / unit
                weights, before = weights + reward - before, reward
                last = number == self._query_steps()[-1]
                chosen, weights = _resampled(weights, groups, rng, 1.0 if last else 0.5)
                noisy, clean, before = noisy[chosen.to(noisy.device)], clean[chosen.to(noisy.device)], before[chosen]
            fresh = self.fresh if number >= self._query_steps().start else 0.0
            noisy = self._step(prior, noisy, clean, now, after, rng, fresh)
            if trace is not None:
                trace(number, -before)
        return Candidates(prior.image(noisy), classes, noisy)

    def _query_steps(self) -> range:
        """Numbers of the steps before which the target is queried.

        The first is left out, since its clean image does not depend on the class yet; so is the last, since copies
        made there would stay equal.
        """
        return range(min(self.every, self.steps - 2), self.steps - 1, self.every)

    def _reward(self, oracle: ScoreOracle, images: Tensor, classes: Tensor, rng: Rng) -> Tensor:
        """Rewards (N,) on the CPU."""
        total = torch.zeros(len(classes))
        for _ in range(self.transforms):
            views = images if self.views is None else self.views(images, rng)
            total += oracle.scores(views, classes).gather(1, classes[:, None]).squeeze(1).float().cpu()
        return total / self.transforms / self.warmth

    @staticmethod
    def _step(prior: Denoiser, noisy: Tensor, clean: Tensor, now: float, after: float, rng: Rng, eta: float) -> Tensor:
        """One step along the path, with part of the noise replaced: DDIM's eq. 12, sigma as in eq. 16."""
        (signal, level), (then, rest) = prior.path.levels(now), prior.path.levels(after)
        noise = (noisy - signal * clean) / level
        kept = signal * rest / (then * level)  # share of the noise that a step of DDPM (eta 1) keeps
        sigma = eta * rest * math.sqrt(max(0.0, 1 - kept**2))
        fresh = sent(rng.normal(*noisy.shape[1:]), noisy)
        return then * clean + math.sqrt(rest**2 - sigma**2) * noise + sigma * fresh


def _spreads(rewards: Tensor, groups: list[Tensor]) -> Tensor:
    """The standard deviation (N,) of rewards (N,) within each class; 1 where there is none."""
    spreads = torch.ones_like(rewards)
    for group in groups:
        apart = float(rewards[group].std()) if len(group) > 1 else 0.0
        spreads[group] = apart if apart > 0 else 1.0
    return spreads


def _resampled(weights: Tensor, groups: list[Tensor], rng: Rng, share: float) -> tuple[Tensor, Tensor]:
    """Systematic resampling within each class: the particle to continue from (N,), and the new log-weights (N,).

    Each class draws from the generator of its first particle. A class stays as it is while its effective number of
    particles exceeds this share of their number.
    """
    chosen, remaining = torch.arange(len(weights)), weights.clone()
    draws = rng.uniform(1).squeeze(1)
    for group in groups:
        shares = weights[group].double().softmax(0)
        if 1 / shares.square().sum() > share * len(group):
            continue
        positions = (draws[group[0]].double() + torch.arange(len(group))) / len(group)
        chosen[group] = group[torch.searchsorted(shares.cumsum(0), positions).clamp_max(len(group) - 1)]
        remaining[group] = 0
    return chosen, remaining
