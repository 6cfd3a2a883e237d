"""Score-only search by evolution: CMA-ES on a prior's latents, one strategy for each candidate.

Hansen, The CMA Evolution Strategy: A Tutorial, arXiv:1604.00772, fig. 6, in its separable form where `diagonal` is set
(Ros & Hansen, PPSN 2008), as written by its author in pycma. The honest black-box baseline of the field at equal
queries: RLB-MI (Han et al., CVPR 2023), whose episodes have one step, is a slower search of the same kind.

Differs from the papers: each individual is seen through views of its own, a noisy fitness, so that what comes out is
the mean of the last distribution, not the best individual.
"""

from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from gmi.errors import GmiError
from gmi.protocols import Candidates, Prior, ScoreOracle, Trace
from gmi.rng import Rng
from gmi.search.fitness import losses, on_sphere
from gmi.search.signature import Passes
from gmi.settings import Count, Positive, settings
from gmi.views import Views


@settings
class Evolution:
    """`generations` of `population` individuals around each start; every individual costs a query.

    sigma: spread of the first generation, in units of the latents' own. radius: individuals are put on the sphere of
    this radius before they are decoded; None: they stay where they are.
    """

    type: Literal["evolution"] = "evolution"
    generations: Count = 25
    population: Annotated[int, Field(ge=4)] = 20
    sigma: Positive = 0.5
    diagonal: bool = True
    objective: Literal["cross_entropy", "max_margin"] = "max_margin"
    radius: Positive | None = None
    views: Views | None = Views()

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
        """From latents (N, ...) to candidates (N)."""
        seeds = (rng.uniform(2).double() * 2**24).long().tolist()  # all the bits of two draws
        strategies = [self._strategy(start, seed) for start, seed in zip(latents.flatten(1), seeds, strict=True)]
        for generation in range(self.generations):
            asked = [strategy.ask() for strategy in strategies]
            born = torch.from_numpy(np.array(asked)).to(latents)  # (N, population, D)
            born = born.reshape(len(latents), self.population, *latents.shape[1:])
            found = losses(oracle, prior, born, classes, rng, self.views, self.objective, self.radius)
            for strategy, individuals, own in zip(strategies, asked, found.cpu().double().tolist(), strict=True):
                strategy.tell(individuals, own)
            if trace is not None:
                trace(generation, found.mean(1))
        means = torch.from_numpy(np.array([one.mean for one in strategies])).to(latents)
        end = on_sphere(means.reshape(latents.shape), self.radius)
        return Candidates(prior.decode(end, classes).clamp(0, 1), classes, end)

    def _strategy(self, start: Tensor, seed: list[int]) -> Any:
        try:
            import cma
        except ImportError as error:
            raise GmiError("Evolution needs pycma: pip install -e '.[blackbox]'.") from error
        draws = np.random.default_rng(seed)
        options = {
            "popsize": self.population,
            "CMA_diagonal": self.diagonal,
            "randn": lambda *shape: draws.standard_normal(shape),
            "seed": float("nan"),  # leaves numpy's global generator alone
            "verbose": -9,
        }
        return cma.CMAEvolutionStrategy(start.double().cpu().numpy(), self.sigma, options)
