"""Label-only search: walk away from a class's boundary, testing ever larger spheres that still lie inside the class.

Kahla et al., Label-Only Model Inversion Attacks via Boundary Repulsion (BREP-MI), CVPR 2022, alg. 1: points on a sphere
around the latent are labelled; those outside the class push the latent away; when nearly all are inside, the sphere
grows. The larger the sphere of its class around a latent, the nearer it is to the middle of what the target takes for
the person.

Differs from the paper: a fixed number of iterations, so that the budget is known in advance, and the query that accepts
a step is counted; the sphere grows when more than the share `inside` of its points is in the class (.875 as in the
authors' code, whose sum of +1 and -1 exceeds .75 of the points; the paper requires all); lengths are shares of
sqrt(D), a normal latent's length, so that they fit priors of any size (in the paper D is 100); the start comes from the
pool, in the box already; one outside its class moves only by a step that leads into the class; until the sphere has
grown, the latest step in the class is what is found.
"""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from gmi.protocols import Candidates, Prior, Trace, VerificationOracle
from gmi.rng import Rng, sent
from gmi.search.signature import Passes
from gmi.settings import Count, Positive, Rate, settings


@settings
class Boundary:
    """BREP-MI: each iteration asks for the labels of `points` points on a sphere, and for one more to accept the step.

    Radii and steps are shares of sqrt(D), the length of a normal latent.
    """

    type: Literal["boundary"] = "boundary"
    iterations: Count = 50  # steps of the walk; each makes points + 1 queries
    points: Annotated[int, Field(ge=2)] = 32  # labels asked for on each sphere
    radius: Positive = 0.2  # radius of the first sphere
    growth: Annotated[float, Field(gt=1)] = 1.3  # factor by which a sphere grows
    inside: Rate = 0.875  # a sphere grows when more than this share of its points is in the class
    step: Positive = 1 / 3  # the latent moves by at most this share of the radius
    longest: Positive = 0.3  # upper limit on the length of a step
    box: Positive | None = 1.5  # latents are clamped to [-box, box]; None: no clamping

    def queries(self, prior: Prior) -> int:
        """Queries that the search makes for each candidate."""
        return self.iterations * (self.points + 1)

    def passes(self, prior: Prior) -> Passes:
        """Evaluations of the prior's network for each candidate."""
        return Passes((self.queries(prior) + 1) * prior.evaluations, 0)

    @torch.no_grad()
    def __call__(
        self,
        oracle: VerificationOracle,
        prior: Prior,
        latents: Tensor,
        classes: Tensor,
        rng: Rng,
        trace: Trace | None = None,
    ) -> Candidates:
        """Candidates (N) from latents (N, ...): for each, the last latents at which its sphere grew.

        Where none did, the last that were in the class; where there are none either, the start: a failure, which counts
        as an image of nobody in every figure, and which the target's own opinion in the report counts.
        """
        current = self.confine(latents).flatten(1)
        unit = current.shape[1] ** 0.5
        best, radius = current, current.new_full((len(current), 1), self.radius * unit)
        grown = torch.zeros_like(radius, dtype=torch.bool)
        for iteration in range(self.iterations):
            directions = F.normalize(sent(rng.normal(self.points, current.shape[1]), current), dim=2)  # (N, points, D)
            sphere = current[:, None] + radius[:, None] * directions
            belongs = self._belong(oracle, prior, sphere, latents.shape, classes)  # (N, points)
            grows = belongs.float().mean(1, keepdim=True) > self.inside  # (N, 1)
            best = torch.where(grows, current, best)
            radius, grown = torch.where(grows, radius * self.growth, radius), grown | grows
            repulsion = -((~belongs).float()[:, :, None] * directions).mean(1)
            moved = self.confine(current + (radius * self.step).clamp_max(self.longest * unit) * repulsion)
            accepted = self._belong(oracle, prior, moved[:, None], latents.shape, classes)  # (N, 1)
            current = torch.where(accepted, moved, current)
            best = torch.where(accepted & ~grown, moved, best)
            if trace is not None:
                trace(iteration, 1 - belongs.float().mean(1))
        best = best.reshape(latents.shape)
        return Candidates(prior.decode(best, classes).clamp(0, 1), classes, best)

    def _belong(
        self, oracle: VerificationOracle, prior: Prior, flat: Tensor, shape: torch.Size, classes: Tensor
    ) -> Tensor:
        """True (N, M) where the target puts the images of latents (N, M, D) into their classes (N,).

        N images are decoded at a time; all N x M go to the oracle in one call.
        """
        images = torch.cat([prior.decode(batch.reshape(shape), classes).clamp(0, 1) for batch in flat.unbind(1)])
        wanted = classes.repeat(flat.shape[1])
        return oracle.accepts(images, wanted).reshape(flat.shape[1], -1).T

    def confine(self, latents: Tensor) -> Tensor:
        """Latents (N, ...) in the box."""
        return latents if self.box is None else latents.clamp(-self.box, self.box)
