"""White-box search: descend an objective of the target's logits through a prior's latents.

One loop covers three papers by its settings:
- GMI: Zhang et al., The Secret Revealer, CVPR 2020, alg. of sec. 3.2. `optimiser="momentum"`, cross-entropy, box of
  radius 1, views off.
- PPA: Struppek et al., Plug & Play Attacks, ICML 2022, sec. 4. Adam with betas (.1, .1), Poincare, random crops.
- LOMMA: Nguyen et al., Re-thinking Model Inversion, CVPR 2023, eq. 3-5. `objective="logit"` and `feature_weight`.
Differs from the papers: no discriminator term (GMI), since a prior folder holds a generator only; one model instead of
LOMMA's averaged surrogates; gradients may be averaged over several views (AlignMI, NeurIPS 2025); losses are summed
over candidates, never averaged, so that a candidate's path does not depend on its batch.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from gmi.errors import GmiError
from gmi.protocols import Candidates, Prior, Trace, WhiteBoxOracle
from gmi.rng import Rng, sent
from gmi.search.averaging import averaged
from gmi.search.constraint import Constraint, constrained
from gmi.search.objectives import OBJECTIVES, cross_entropy
from gmi.search.signature import Passes
from gmi.settings import Count, NonNegative, Positive, Whole, settings
from gmi.views import Views

_SAMPLES = 128  # samples of the prior over which the mean of the features is taken


@settings
class Gradient:
    """Gradient descent (Adam or momentum) on latents (N, D), which are projected onto `constraint` after every step."""

    type: Literal["gradient"] = "gradient"
    steps: Whole = 50  # gradient steps
    lr: Positive = 0.1  # learning rate
    optimiser: Literal["adam", "momentum"] = "adam"  # momentum: Nesterov's, as in GMI's released code
    betas: tuple[float, float] = (0.9, 0.999)  # Adam's betas; momentum uses the first
    decay: Literal["none", "cosine"] = "none"  # cosine: the learning rate falls to zero
    objective: Literal["cross_entropy", "max_margin", "logit", "poincare"] = "logit"  # loss that is minimised
    confidence: Annotated[float, Field(gt=0, le=1)] = 1.0  # probability of the class that cross_entropy aims at
    feature_weight: NonNegative = 0.0  # lambda of LOMMA's regulariser ||f - f_reg||^2
    feature_mean: tuple[float, ...] | None = None  # f_reg (D,); None: `prepare` measures it over prior samples
    views: Views | None = Views()  # random views through which the target is shown an image; None: the image as it is
    transforms: Count = 1  # views whose gradients are averaged in each step
    constraint: Constraint = "sphere"  # set onto which latents are projected
    radius: Positive | None = None  # of sphere or ball; half a box's side; None: sqrt(D), a normal latent's norm

    def __post_init__(self) -> None:
        if self.confidence < 1 and self.objective != "cross_entropy":
            raise ValueError("confidence: only the objective cross_entropy aims at one")

    def queries(self, prior: Prior) -> int:
        """Queries that the search makes for each candidate."""
        return self.steps * self.transforms

    def passes(self, prior: Prior) -> Passes:
        """Evaluations of the prior's network for each candidate."""
        return Passes(prior.evaluations, self.steps * prior.evaluations)

    @property
    def shared(self) -> int:
        """Queries of `prepare`, which all classes share; `prepare` needs as many generators."""
        return 0 if self.feature_weight == 0 or self.feature_mean is not None else _SAMPLES

    @torch.no_grad()
    def prepare(self, oracle: WhiteBoxOracle, prior: Prior, rng: Rng) -> dict[str, Tensor]:
        """The tensor `feature_mean` (D,), measured on one prior sample per generator."""
        _, features = oracle.activations(prior.decode(prior.sample(rng)))
        return {"feature_mean": features.mean(0)}

    def taught(self, learned: Mapping[str, Tensor]) -> "Gradient":
        """The same search with the `feature_mean` that `prepare` measured."""
        return replace(self, feature_mean=tuple(learned["feature_mean"].tolist()))

    def __call__(
        self,
        oracle: WhiteBoxOracle,
        prior: Prior,
        latents: Tensor,
        classes: Tensor,
        rng: Rng,
        trace: Trace | None = None,
    ) -> Candidates:
        """Candidates (N) from latents (N, D), with `steps` x `transforms` queries for each.

        Raises GmiError when `feature_mean` is needed and missing, or has another length than the target's features.
        """
        latents = self._confined(latents.detach().clone()).requires_grad_()
        optimiser = self._optimiser(latents)
        for step in range(self.steps):
            self._set_rate(optimiser, step)
            optimiser.zero_grad()
            images = prior.decode(latents, classes)
            loss, slope = averaged(images, lambda shown: self.loss(oracle, shown, classes, rng), self.transforms)
            images.backward(slope)
            optimiser.step()
            with torch.no_grad():
                latents.copy_(self._confined(latents))
            if trace is not None:
                trace(step, loss)
        with torch.no_grad():
            return Candidates(prior.decode(latents, classes).clamp(0, 1), classes, latents.detach())

    def loss(self, oracle: WhiteBoxOracle, images: Tensor, classes: Tensor, rng: Rng) -> Tensor:
        """Losses (N,) of one view of each image."""
        if self.views is not None:
            images = self.views(images, rng)
        objective = OBJECTIVES[self.objective]
        if self.confidence < 1:
            objective = partial(cross_entropy, confidence=self.confidence)
        if self.feature_weight == 0:
            return objective(oracle.logits(images), classes)
        logits, features = oracle.activations(images)
        if self.feature_mean is None or len(self.feature_mean) != features.shape[1]:
            raise GmiError(f"search.feature_mean must have {features.shape[1]} numbers, or be measured by `prepare`.")
        deviation = features - sent(torch.tensor(self.feature_mean), features)
        return objective(logits, classes) + self.feature_weight * deviation.square().sum(1)

    def _optimiser(self, latents: Tensor) -> torch.optim.Optimizer:
        if self.optimiser == "adam":
            return torch.optim.Adam([latents], lr=self.lr, betas=self.betas)
        return torch.optim.SGD([latents], lr=self.lr, momentum=self.betas[0], nesterov=True)

    def _set_rate(self, optimiser: torch.optim.Optimizer, step: int) -> None:
        if self.decay == "cosine":
            share = 0.5 * (1 + math.cos(math.pi * step / self.steps))
            optimiser.param_groups[0]["lr"] = self.lr * share

    def _confined(self, latents: Tensor) -> Tensor:
        return constrained(latents, self.constraint, self.radius)
