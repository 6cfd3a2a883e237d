"""Score-only search by evolution: CMA-ES on a prior's latents, one strategy for each candidate.

Hansen, The CMA Evolution Strategy: A Tutorial, arXiv:1604.00772, fig. 6, in its separable form where `diagonal` is set
(Ros & Hansen, PPSN 2008), in its author's implementation, pycma. It is the field's honest black-box baseline at equal
queries: RLB-MI (Han et al., CVPR 2023), whose episodes have one step, is a slower search of the same kind.

Differs from the papers: each individual is evaluated on random views of its own, which makes the fitness noisy;
therefore the result is the mean of the last distribution, not the best individual.
"""

from importlib.util import find_spec
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from gmi.errors import GmiError
from gmi.protocols import Candidates, Prior, ScoreOracle, Trace
from gmi.rng import Rng
from gmi.search.constraint import Constraint, constrained
from gmi.search.fitness import losses
from gmi.search.signature import Passes
from gmi.settings import Count, Positive, settings
from gmi.views import Views


@settings
class Evolution:
    """CMA-ES around each start: `generations` of `population` individuals, each of which costs one query."""

    type: Literal["evolution"] = "evolution"
    generations: Count = 25  # updates of the distribution
    population: Annotated[int, Field(ge=4)] = 20  # individuals in a generation
    sigma: Positive = 0.5  # standard deviation of the first generation, in the prior's latent space
    diagonal: bool = True  # keep the covariance matrix diagonal: separable CMA-ES, for many dimensions
    # loss of an individual; None: max_margin, and of similarities the similarity itself
    objective: Literal["cross_entropy", "max_margin", "logit"] | None = None
    constraint: Constraint = "sphere"  # set onto which individuals are projected before they are decoded
    radius: Positive | None = None  # of sphere or ball; half a box's side; None: sqrt(D), a normal latent's norm
    views: Views | None = Views()  # random view on which an individual is evaluated; None: the image as it is

    def refuse_missing(self) -> None:
        """Raises GmiError where pycma is not installed."""
        if find_spec("cma") is None:
            raise GmiError("Evolution needs pycma: pip install cma.")

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
        """Candidates (N) from latents (N, ...): for each, the mean of its last distribution.

        Raises GmiError as `refuse_missing`.
        """
        self.refuse_missing()
        seeds = (rng.uniform(2).double() * 2**24).long().tolist()  # all the bits of two draws
        strategies = [self._strategy(start, seed) for start, seed in zip(latents.flatten(1), seeds, strict=True)]
        for generation in range(self.generations):
            populations = [strategy.ask() for strategy in strategies]
            individuals = torch.from_numpy(np.array(populations)).to(latents)  # (N, population, D)
            individuals = constrained(individuals.flatten(0, 1), self.constraint, self.radius)
            individuals = individuals.reshape(len(latents), self.population, *latents.shape[1:])
            loss = losses(oracle, prior, individuals, classes, rng, self.views, self.objective)
            for strategy, population, row in zip(strategies, populations, loss.cpu().double().tolist(), strict=True):
                strategy.tell(population, row)
            if trace is not None:
                trace(generation, loss.mean(1))
        means = torch.from_numpy(np.array([strategy.mean for strategy in strategies])).to(latents)
        end = constrained(means.reshape(latents.shape), self.constraint, self.radius)
        return Candidates(prior.decode(end, classes).clamp(0, 1), classes, end)

    def _strategy(self, start: Tensor, seed: list[int]) -> Any:
        import cma

        draws = np.random.default_rng(seed)
        options = {
            "popsize": self.population,
            "CMA_diagonal": self.diagonal,
            "randn": lambda *shape: draws.standard_normal(shape),
            "seed": float("nan"),  # leaves numpy's global generator alone
            "verbose": -9,
        }
        return cma.CMAEvolutionStrategy(start.double().cpu().numpy(), self.sigma, options)
