"""Label-only search: walk away from the boundary of a class, in ever larger spheres that still lie inside it.

Kahla et al., Label-Only Model Inversion Attacks via Boundary Repulsion (BREP-MI), CVPR 2022, alg. 1: points on a sphere
around the latent are labelled; those outside the class push the latent away; where nearly all are inside, the sphere
grows. A latent with more of its class around it lies nearer to the middle of what the target takes for the person.

Differs from the paper: a fixed number of iterations, so that the budget is known, and the query that accepts a step is
counted; the sphere grows at `inside` of its points, .75 as in the authors' code, where the paper has all; the start
comes from the pool; one that is not of its class moves only by a step that leads into it.
"""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from gmi.protocols import Candidates, LabelOracle, Prior, Trace
from gmi.rng import Rng
from gmi.search.signature import Passes
from gmi.settings import Count, Positive, Rate, settings


@settings
class Boundary:
    """`iterations` of `points` labels and one more each. Radii and steps are in units of the latents' own.

    radius: of the first sphere. growth: of the radius. step: share of the radius that the latent moves at most.
    box: latents are clamped to this, either way; None: they are not.
    """

    type: Literal["boundary"] = "boundary"
    iterations: Count = 50
    points: Annotated[int, Field(ge=2)] = 32
    radius: Positive = 2.0
    growth: Annotated[float, Field(gt=1)] = 1.3
    inside: Rate = 0.75
    step: Positive = 1 / 3
    longest: Positive = 3.0
    box: Positive | None = 1.5

    def queries(self, prior: Prior) -> int:
        """For each candidate."""
        return self.iterations * (self.points + 1)

    def passes(self, prior: Prior) -> Passes:
        return Passes((self.queries(prior) + 1) * prior.evaluations, 0)

    @torch.no_grad()
    def __call__(
        self,
        oracle: LabelOracle,
        prior: Prior,
        latents: Tensor,
        classes: Tensor,
        rng: Rng,
        trace: Trace | None = None,
    ) -> Candidates:
        """From latents (N, ...) to candidates (N): the last latents at which their spheres grew."""
        here = self._clamped(latents.flatten(1))
        found, radius = here, here.new_full((len(here), 1), self.radius)
        for iteration in range(self.iterations):
            directions = F.normalize(rng.normal(self.points, here.shape[1]).to(here), dim=2)  # (N, points, D)
            around = here[:, None] + radius[:, None] * directions
            belongs = self._belong(oracle, prior, around, latents.shape, classes)  # (N, points)
            grows = belongs.float().mean(1, keepdim=True) > self.inside  # (N, 1)
            found = torch.where(grows, here, found)
            radius = torch.where(grows, radius * self.growth, radius)
            away = -((~belongs).float()[:, :, None] * directions).mean(1)
            moved = self._clamped(here + (radius * self.step).clamp_max(self.longest) * away)
            accepted = self._belong(oracle, prior, moved[:, None], latents.shape, classes)  # (N, 1)
            here = torch.where(accepted, moved, here)
            if trace is not None:
                trace(iteration, 1 - belongs.float().mean(1))
        found = found.reshape(latents.shape)
        return Candidates(prior.decode(found, classes).clamp(0, 1), classes, found)

    def _belong(self, oracle: LabelOracle, prior: Prior, flat: Tensor, shape: torch.Size, classes: Tensor) -> Tensor:
        """Whether the images of latents (N, M, D) are of their classes (N, M); decoded N at a time, asked at once."""
        images = torch.cat([prior.decode(some.reshape(shape), classes).clamp(0, 1) for some in flat.unbind(1)])
        everybody = classes.repeat(flat.shape[1])
        return (oracle.labels(images, everybody) == everybody).reshape(flat.shape[1], -1).T

    def _clamped(self, latents: Tensor) -> Tensor:
        return latents if self.box is None else latents.clamp(-self.box, self.box)
