"""Score-only search by a genetic algorithm on a prior's latents, one population for each candidate.

An et al., MIRROR: Model Inversion for Deep Learning Network with High Fidelity, NDSS 2022, black-box variant: the best
are kept, parents are drawn by their scores, a child takes each coordinate from one of its two parents, the fitter one
more often, and some coordinates are moved by noise.

Differs from the paper: the first population is noise around one start that the pool gave, where the paper takes the
pool's best samples; parents are drawn by a softmax of ranks, not of scores, whose scale differs between targets;
individuals are seen through views of their own, so that those that are kept are asked about again.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from gmi.protocols import Candidates, Prior, ScoreOracle, Trace
from gmi.rng import Rng
from gmi.search.fitness import losses, on_sphere
from gmi.search.signature import Passes
from gmi.settings import Count, Positive, Share, settings
from gmi.views import Views


@settings
class Genetic:
    """`generations` of `population` individuals; every individual costs a query.

    sigma: spread of the first population and of mutations, in units of the latents' own. elite: kept as they are.
    mutation: share of coordinates that are moved. radius: of the sphere that individuals are put on; None: none.
    """

    type: Literal["genetic"] = "genetic"
    generations: Count = 25
    population: Annotated[int, Field(ge=4)] = 20
    elite: Count = 4
    mutation: Share = 0.1
    sigma: Positive = 0.5
    pressure: Positive = 2.0  # of selection: the best is e to the power of this likelier a parent than the worst
    objective: Literal["cross_entropy", "max_margin"] = "max_margin"
    radius: Positive | None = None
    views: Views | None = Views()

    def __post_init__(self) -> None:
        if self.elite >= self.population:
            raise ValueError("elite must be smaller than population")

    def queries(self, prior: Prior) -> int:
        """For each candidate."""
        return self.generations * self.population

    def passes(self, prior: Prior) -> Passes:
        return Passes((self.queries(prior) + 1) * prior.evaluations, 0)

    @torch.no_grad()
    def __call__(
        self,
        oracle: ScoreOracle,
        prior: Prior,
        latents: Tensor,
        classes: Tensor,
        rng: Rng,
        trace: Trace | None = None,
    ) -> Candidates:
        """From latents (N, ...) to candidates (N): the fittest of the last population."""
        starts = latents.flatten(1)
        born = starts[:, None] + self.sigma * rng.normal(self.population, starts.shape[1]).to(starts)
        best = starts
        for generation in range(self.generations):
            shaped = born.reshape(*born.shape[:2], *latents.shape[1:])
            found = losses(oracle, prior, shaped, classes, rng, self.views, self.objective, self.radius)
            order = found.sort(dim=1, stable=True).indices[:, :, None]
            ranked = born.gather(1, order.expand_as(born))  # fittest first
            best = ranked[:, 0]
            born = torch.cat([ranked[:, : self.elite], self._children(ranked, rng)], 1)
            if trace is not None:
                trace(generation, found.mean(1))
        end = on_sphere(best.reshape(latents.shape), self.radius)
        return Candidates(prior.decode(end, classes).clamp(0, 1), classes, end)

    def _children(self, ranked: Tensor, rng: Rng) -> Tensor:
        """(N, population - elite, D) of individuals (N, population, D), fittest first."""
        count, size = self.population - self.elite, ranked.shape[2]
        worth = (-self.pressure * torch.linspace(0, 1, self.population)).softmax(0).cumsum(0).to(ranked)
        drawn = rng.uniform(count, 2).to(ranked)
        parents = torch.searchsorted(worth, drawn.contiguous()).clamp_max(self.population - 1).sort(2).values
        fitter, other = (ranked.gather(1, parents[:, :, place, None].expand(-1, -1, size)) for place in (0, 1))
        ranks = parents.to(ranked) + 1
        share = (ranks[:, :, 1] / ranks.sum(2))[:, :, None]  # of coordinates from the fitter one
        draws = rng.uniform(count, size, 2).to(ranked)
        child = torch.where(draws[..., 0] < share, fitter, other)
        moved = self.sigma * rng.normal(count, size).to(ranked)
        return child + torch.where(draws[..., 1] < self.mutation, moved, 0.0)
