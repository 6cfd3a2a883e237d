"""Score-only search by a genetic algorithm on a prior's latents, one population for each candidate.

An et al., MIRROR: Model Inversion for Deep Learning Network with High Fidelity, NDSS 2022, black-box variant: the best
individuals are kept, parents are drawn by their scores, a child takes each coordinate from one of its two parents, more
often from the fitter one, and noise moves some coordinates.

Differs from the paper: the first population is one start from the pool and noise around it, where the paper takes the
pool's best samples; parents are drawn by a softmax of ranks, not of scores, whose scale differs between targets;
individuals are evaluated on random views of their own, so the ones that are kept are evaluated again in each
generation.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from gmi.protocols import Candidates, Prior, ScoreOracle, Trace
from gmi.rng import Rng, sent
from gmi.search.constraint import Constraint, constrained
from gmi.search.fitness import losses
from gmi.search.signature import Passes
from gmi.settings import Count, Positive, Share, settings
from gmi.views import Views


@settings
class Genetic:
    """MIRROR's genetic algorithm: `generations` of `population` individuals, each of which costs one query."""

    type: Literal["genetic"] = "genetic"
    generations: Count = 25  # populations, the first one included
    population: Annotated[int, Field(ge=4)] = 20  # individuals in a generation
    elite: Count = 4  # individuals that pass unchanged into the next generation; fewer than population
    mutation: Share = 0.1  # share of a child's coordinates that noise moves
    sigma: Positive = 0.5  # standard deviation of the first population and of mutations, in the prior's latent space
    pressure: Positive = 2.0  # selection pressure: the best is exp(pressure) times likelier a parent than the worst
    # loss of an individual; None: max_margin, and of similarities the similarity itself
    objective: Literal["cross_entropy", "max_margin", "logit"] | None = None
    constraint: Constraint = "sphere"  # set onto which individuals are projected before they are decoded
    radius: Positive | None = None  # of sphere or ball; half a box's side; None: sqrt(D), a normal latent's norm
    views: Views | None = Views()  # random view on which an individual is evaluated; None: the image as it is

    def __post_init__(self) -> None:
        if self.elite >= self.population:
            raise ValueError("elite must be smaller than population")

    def queries(self, prior: Prior) -> int:
        """Queries that the search makes for each candidate."""
        return self.generations * self.population

    def passes(self, prior: Prior) -> Passes:
        """Evaluations of the prior's network for each candidate."""
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
        """Candidates (N) from latents (N, ...): the fittest individual of each last population."""
        starts = latents.flatten(1)
        born = starts[:, None] + self.sigma * rng.normal(self.population - 1, starts.shape[1]).to(starts)
        individuals = torch.cat([starts[:, None], born], 1)
        best = starts
        for generation in range(self.generations):
            placed = constrained(individuals.flatten(0, 1), self.constraint, self.radius)
            shaped = placed.reshape(*individuals.shape[:2], *latents.shape[1:])
            loss = losses(oracle, prior, shaped, classes, rng, self.views, self.objective)
            order = loss.sort(dim=1, stable=True).indices[:, :, None]
            ranked = individuals.gather(1, order.expand_as(individuals))  # fittest first
            best = ranked[:, 0]
            individuals = torch.cat([ranked[:, : self.elite], self._children(ranked, rng)], 1)
            if trace is not None:
                trace(generation, loss.mean(1))
        end = constrained(best.reshape(latents.shape), self.constraint, self.radius)
        return Candidates(prior.decode(end, classes).clamp(0, 1), classes, end)

    def _children(self, ranked: Tensor, rng: Rng) -> Tensor:
        """Children (N, population - elite, D) of individuals (N, population, D) that are ranked fittest first."""
        count, size = self.population - self.elite, ranked.shape[2]
        chances = (-self.pressure * torch.linspace(0, 1, self.population)).softmax(0).cumsum(0).to(ranked)
        lots = sent(rng.uniform(count, 2), ranked)
        parents = torch.searchsorted(chances, lots.contiguous()).clamp_max(self.population - 1).sort(2).values
        fitter, other = (ranked.gather(1, parents[:, :, parent, None].expand(-1, -1, size)) for parent in (0, 1))
        ranks = parents.to(ranked) + 1
        share = (ranks[:, :, 1] / ranks.sum(2))[:, :, None]  # of coordinates that come from the fitter parent
        draws = sent(rng.uniform(count, size, 2), ranked)
        child = torch.where(draws[..., 0] < share, fitter, other)
        noise = self.sigma * sent(rng.normal(count, size), ranked)
        return child + torch.where(draws[..., 1] < self.mutation, noise, 0.0)
