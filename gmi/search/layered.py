"""White-box search through the layers of a generator: latents first, then what its layers make of them, one by one.

Qiu et al., A Closer Look at GAN Priors: Exploiting Intermediate Features for Enhanced Model Inversion Attacks
(IF-GMI), ECCV 2024, sec. 3.2 and alg. 1: after the search of latents, the features between two layers and the latents
are optimised together, deeper and deeper; both stay within an L1 ball around where each stage begins, so that images
stay near to what the prior makes. The projection onto the ball is that of Duchi et al., ICML 2008, fig. 1.

Differs from the paper: radii are shares of the L1 length at the start of a stage, as the paper's numbers, 1,000 to
8,000, bind or do not by the size of the network; the first search has constraints of its own; losses are summed over
images, so that batches do not matter; images are those after the last stage, whose number is chosen beforehand, and no
layer is chosen by a judge.
"""

from typing import Literal

import torch
from torch import Tensor

from gmi.protocols import Candidates, Prior, Stage, StagedPrior, Trace, WhiteBoxOracle
from gmi.rng import Rng
from gmi.search.averaging import averaged
from gmi.search.gradient import Gradient
from gmi.search.signature import Passes
from gmi.settings import Count, NonNegative, Positive, Whole, settings


@settings
class Layered:
    """Gradient search of latents, and then of the features of each layer in turn."""

    type: Literal["layered"] = "layered"
    search: Gradient = Gradient()  # of the latents; its objective and views are those of the layers, too
    layers: Count = 3  # after how many layers features are optimised, from the first on
    steps: Whole = 10  # gradient steps for each layer
    lr: Positive = 0.005  # learning rate of Adam on features and latents
    betas: tuple[float, float] = (0.1, 0.1)  # Adam's betas
    reach: NonNegative = 0.1  # radius of the L1 balls, as a share of the L1 length of what they are around

    def __post_init__(self) -> None:
        if self.search.shared > 0:
            raise ValueError("search: one that learns first has nobody to teach it here: feature_weight 0")

    def queries(self, prior: Prior) -> int:
        """Queries that the search makes for each candidate."""
        return self.search.queries(prior) + self.layers * self.steps * self.search.transforms

    def passes(self, prior: Prior) -> Passes:
        """Evaluations of the prior's network for each candidate, those of its last layers alone included."""
        alone, steep = self.search.passes(prior)
        return Passes(alone + 1, steep + self.layers * self.steps)

    def parts(self, oracle: WhiteBoxOracle | None) -> list[tuple[Gradient, WhiteBoxOracle | None]]:
        """The search of the latents."""
        return [(self.search, oracle)]

    def __call__(
        self,
        oracle: WhiteBoxOracle,
        prior: StagedPrior,
        latents: Tensor,
        classes: Tensor,
        rng: Rng,
        trace: Trace | None = None,
    ) -> Candidates:
        """Candidates (N) from latents (N, ...): images of features that no latent makes, and their last latents.

        Raises GmiError where the prior has no layer left after so many.
        """
        stages = prior.stages(self.layers)
        latents = self.search(oracle, prior, latents, classes, rng, trace).latents
        features = colours = None
        for depth in range(self.layers):
            with torch.no_grad():
                features, colours = stages[depth](features, colours, latents)
            rest = stages[depth + 1 :]
            features, latents = self._optimised(oracle, rest, features, colours, latents, classes, rng)
        with torch.no_grad():
            images = _through(stages[self.layers :], features, colours, latents)
        return Candidates(images.clamp(0, 1), classes, latents)

    def _optimised(
        self,
        oracle: WhiteBoxOracle,
        rest: list[Stage],
        features: Tensor,
        colours: Tensor | None,
        latents: Tensor,
        classes: Tensor,
        rng: Rng,
    ) -> tuple[Tensor, Tensor]:
        """Features and latents after `steps` through the rest of the network."""
        starts = features.float(), latents.float()  # Adam's small steps are lost in half precision
        points = [start.detach().clone().requires_grad_() for start in starts]
        radii = [self.reach * start.flatten(1).abs().sum(1) for start in starts]
        optimiser = torch.optim.Adam(points, lr=self.lr, betas=self.betas)
        for _ in range(self.steps):
            optimiser.zero_grad()
            with torch.enable_grad():
                images = _through(rest, points[0], colours, points[1])
                _, slope = averaged(
                    images, lambda shown: self.search.loss(oracle, shown, classes, rng), self.search.transforms
                )
                images.backward(slope)
            optimiser.step()
            with torch.no_grad():
                for point, start, radius in zip(points, starts, radii, strict=True):
                    point.copy_(start + within(point - start, radius))
        return points[0].detach(), points[1].detach()


def within(values: Tensor, radius: Tensor) -> Tensor:
    """Values (N, ...), each moved to the nearest whose L1 length is at most the radius (N,)."""
    flat = values.flatten(1)
    sizes = flat.abs().sort(dim=1, descending=True).values
    ranks = torch.arange(1, flat.shape[1] + 1, device=flat.device)
    excess = (sizes.cumsum(1) - radius[:, None]) / ranks
    last = (sizes > excess).sum(1, keepdim=True).clamp_min(1) - 1
    cut = excess.gather(1, last).clamp_min(0)
    near = flat.sign() * (flat.abs() - cut).clamp_min(0)
    inside = sizes.sum(1, keepdim=True) <= radius[:, None]
    return torch.where(inside, flat, near).view_as(values)


def _through(stages: list[Stage], features: Tensor | None, colours: Tensor | None, latents: Tensor) -> Tensor:
    """The images (N, C, H, W) in [0, 1] that the last stages make."""
    for stage in stages:
        features, colours = stage(features, colours, latents)
    assert colours is not None
    return colours
