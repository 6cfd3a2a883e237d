"""White-box search for a distribution over latents: the mean and the spread of a Gaussian are learnt, not one latent.

One loop covers two papers by its settings:
- KED-MI: Chen et al., Knowledge-Enriched Distributional Model Inversion Attacks, ICCV 2021, sec. 3.3. `start="origin"`,
  a spread of e^.5 (a log-variance of 1), one draw a step, `kl_weight=0`, 2,400 steps.
- VMI: Wang et al., Variational Model Inversion Attacks, NeurIPS 2021, eq. 4-6, whose loss is
  E_q[-log p(y | G(z))] + gamma KL(q || N(0, I)). `kl_weight` is gamma.
Differs from the papers: there is a distribution for each candidate, not for each class, and it may start at the
candidate's latent; it is a Gaussian with a variance for each dimension (VMI takes flows, too); no discriminator's term
(KED-MI), since a prior folder holds a generator only; the target is shown random views; of the draws at the end the
target's favourite is taken, where the papers judge each of them; losses are summed over candidates, never averaged.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from gmi.protocols import Candidates, Prior, Trace, WhiteBoxOracle
from gmi.rng import Rng, sent
from gmi.search.objectives import OBJECTIVES
from gmi.search.signature import Passes
from gmi.settings import Count, NonNegative, Positive, Whole, settings
from gmi.views import Views


@settings
class Variational:
    """Adam on the means and log-variances of Gaussians over latents (N, ...), by draws from them."""

    type: Literal["variational"] = "variational"
    steps: Whole = 200  # gradient steps
    lr: Positive = 0.02  # learning rate of means and log-variances
    draws: Count = 1  # latents of each candidate in each step, over which the loss is averaged; each sees its own view
    start: Literal["latent", "origin"] = "latent"  # where the mean starts: the candidate's latent, or 0
    spread: Positive = 0.5  # initial standard deviation, in the prior's latent space
    kl_weight: NonNegative = 0.01  # gamma of KL(q || N(0, I)); 0 where latents are not normal, as StyleGAN's w are not
    objective: Literal["cross_entropy", "max_margin", "logit", "poincare"] = "cross_entropy"  # loss that is minimised
    views: Views | None = Views()  # random views through which the target is shown an image; None: the image as it is
    finals: Whole = 5  # draws at the end, of which the target's favourite is taken; 0: the mean of the distribution

    def queries(self, prior: Prior) -> int:
        """Queries that the search makes for each candidate; there is nothing to ask about a single draw."""
        return self.steps * self.draws + (self.finals if self.finals > 1 else 0)

    def passes(self, prior: Prior) -> Passes:
        """Evaluations of the prior's network for each candidate."""
        return Passes(max(1, self.finals) * prior.evaluations, self.steps * self.draws * prior.evaluations)

    def __call__(
        self,
        oracle: WhiteBoxOracle,
        prior: Prior,
        latents: Tensor,
        classes: Tensor,
        rng: Rng,
        trace: Trace | None = None,
    ) -> Candidates:
        """Candidates (N) from latents (N, ...) for classes (N,)."""
        mean, log_variance = self.fit(oracle, prior, latents, classes, rng, trace)
        with torch.no_grad():
            best = _candidates(prior, drawn(mean, log_variance, rng) if self.finals else mean, classes)
            highest = self._opinions(oracle, best) if self.finals > 1 else latents.new_zeros(len(classes))
            for _ in range(self.finals - 1):
                other = _candidates(prior, drawn(mean, log_variance, rng), classes)
                opinions = self._opinions(oracle, other)
                better = opinions > highest
                best = Candidates(
                    torch.where(_shaped(better, best.images), other.images, best.images),
                    classes,
                    torch.where(_shaped(better, best.latents), other.latents, best.latents),
                )
                highest = torch.where(better, opinions, highest)
        return best

    def fit(
        self,
        oracle: WhiteBoxOracle,
        prior: Prior,
        latents: Tensor,
        classes: Tensor,
        rng: Rng,
        trace: Trace | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The means and the log-variances, (N, ...) as the latents, after `steps` x `draws` queries for each."""
        start = latents.detach().clone() if self.start == "latent" else torch.zeros_like(latents)
        mean = start.requires_grad_()
        log_variance = torch.full_like(latents, 2 * math.log(self.spread)).requires_grad_()
        optimiser = torch.optim.Adam([mean, log_variance], lr=self.lr)
        for step in range(self.steps):
            optimiser.zero_grad()
            loss = self.kl_weight * divergence(mean, log_variance)
            loss.sum().backward()
            total = loss.detach()
            for _ in range(self.draws):  # one after the other, in the memory of one
                images = prior.decode(drawn(mean, log_variance, rng), classes)
                loss = self._loss(oracle, images, classes, rng) / self.draws
                loss.sum().backward()
                total = total + loss.detach()
            optimiser.step()
            if trace is not None:
                trace(step, total)
        return mean.detach(), log_variance.detach()

    def _loss(self, oracle: WhiteBoxOracle, images: Tensor, classes: Tensor, rng: Rng) -> Tensor:
        """Losses (N,) of one view of each image."""
        if self.views is not None:
            images = self.views(images, rng)
        return OBJECTIVES[self.objective](oracle.logits(images), classes)

    @staticmethod
    def _opinions(oracle: WhiteBoxOracle, found: Candidates) -> Tensor:
        """The target's log-probabilities (N,) of the candidates' classes."""
        return oracle.scores(found.images, found.classes).gather(1, found.classes[:, None]).squeeze(1)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(q || N(0, I)) (N,) of Gaussians q with these means and log-variances (N, ...)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).sum(1)


def drawn(mean: Tensor, log_variance: Tensor, rng: Rng) -> Tensor:
    """Latents (N, ...), one from each Gaussian, differentiable: mean + standard deviation x noise."""
    return mean + (0.5 * log_variance).exp() * sent(rng.normal(*mean.shape[1:]), mean)


def _candidates(prior: Prior, latents: Tensor, classes: Tensor) -> Candidates:
    return Candidates(prior.decode(latents, classes).clamp(0, 1), classes, latents)


def _shaped(rows: Tensor, like: Tensor) -> Tensor:
    """Flags (N,) as (N, 1, ...)."""
    return rows.reshape(-1, *[1] * (like.ndim - 1))
