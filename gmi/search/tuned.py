"""White-box search in two rounds: the generator is tuned on what the first one finds of a class, and searched again.

Peng et al., Pseudo-Private Data Guided Model Inversion Attacks (PPDG-MI), NeurIPS 2024: the finds stand in for the
private images, which a prior of other people hardly makes; the generator is tuned until latents around each find make
it, too, so that the second round has more of the class within reach.

Differs from the paper: each candidate has finds and a generator of its own, so that it depends on no other; images are
compared by pixels and by the target's features, of length 1, where the paper takes LPIPS, which judges here; a
neighbour of a find lies a share of the way to another latent of the prior; generators of images alone are tuned, GANs:
a diffusion prior learns from the target in `conditional`; the paper's variants that match distributions (MMD and
conditional transport) are not made; of what the second round finds from each find the target's favourite is taken.
"""

import copy
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from gmi.protocols import Candidates, Prior, Trace, TunablePrior, WhiteBoxOracle
from gmi.rng import Rng, seed_of, sent
from gmi.search.gradient import Gradient
from gmi.search.selection import opinion
from gmi.search.signature import Passes
from gmi.settings import Count, NonNegative, Positive, Share, Whole, settings
from gmi.training.precision import learning


@settings
class Tuned:
    """Gradient search, a generator tuned on its finds, and gradient search from there."""

    type: Literal["tuned"] = "tuned"
    search: Gradient = Gradient()  # the search of both rounds
    finds: Count = 5  # images that the first round finds for each candidate, from as many starts
    steps: Whole = 150  # updates of the generator's weights
    lr: Positive = 3e-4  # learning rate of Adam on them
    reach: Share = 0.1  # share of the way from a find's latent to another one within which neighbours are drawn
    feature_weight: NonNegative = 0.1  # weight of the features' squared distance beside that of the pixels

    def __post_init__(self) -> None:
        if self.search.shared > 0:
            raise ValueError("search: one that learns first has nobody to teach it here: feature_weight 0")

    def queries(self, prior: Prior) -> int:
        """Queries that the search makes for each candidate."""
        shown = self.steps + 1 if self.steps and self.feature_weight else 0
        return self.finds * (2 * self.search.queries(prior) + shown + (self.finds > 1))

    def passes(self, prior: Prior) -> Passes:
        """Evaluations of the prior's network for each candidate."""
        alone, steep = self.search.passes(prior)
        return Passes(self.finds * 2 * alone, self.finds * (2 * steep + self.steps * prior.evaluations))

    def parts(self, oracle: WhiteBoxOracle | None) -> list[tuple[Gradient, WhiteBoxOracle | None]]:
        """The search of both rounds."""
        return [(self.search, oracle)]

    def __call__(
        self,
        oracle: WhiteBoxOracle,
        prior: TunablePrior,
        latents: Tensor,
        classes: Tensor,
        rng: Rng,
        trace: Trace | None = None,
    ) -> Candidates:
        """Candidates (N) from latents (N, D), one after the other; the prior stays as it is.

        Their images are those of their own generators, which are not kept. `trace` sees the second rounds.
        """
        found = [
            self._find(oracle, prior, latents[one : one + 1], classes[one : one + 1], rng[one : one + 1], trace)
            for one in range(len(latents))
        ]
        return Candidates(torch.cat([one.images for one in found]), classes, torch.cat([one.latents for one in found]))

    def _find(
        self,
        oracle: WhiteBoxOracle,
        prior: TunablePrior,
        start: Tensor,
        person: Tensor,
        rng: Rng,
        trace: Trace | None,
    ) -> Candidates:
        """The candidate (1) of one start and of others that its generator draws."""
        seed = int(rng.uniform(1)[0, 0] * 2**24)
        streams = Rng([seed_of(seed, "find", number) for number in range(self.finds)])
        starts = torch.cat([start, prior.sample(streams)[1:]])
        classes = person.expand(self.finds)
        first = self.search(oracle, prior, starts, classes, streams)
        own = copy.deepcopy(prior)
        with learning(start.device):
            self._tune(own, oracle, first, streams)
        second = self.search(oracle, own, first.latents, classes, streams, trace)
        if self.finds == 1:
            return second
        with torch.no_grad():
            best = opinion(oracle, second.images, classes)[:, person].argmax(0)
        return second[best]

    def _tune(self, prior: TunablePrior, oracle: WhiteBoxOracle, finds: Candidates, rng: Rng) -> None:
        """Trains the prior's generator to make each find (F) at its latent's neighbours, too."""
        weights = list(prior.parameters())
        optimiser = torch.optim.Adam(weights, lr=self.lr)
        for value in weights:
            value.requires_grad_()
        compared = self.feature_weight > 0 and self.steps > 0
        wanted = _features(oracle, finds.images).detach() if compared else None
        for _ in range(self.steps):
            way = self.reach * sent(rng.uniform(*[1] * (finds.latents.ndim - 1)), finds.latents)
            images = prior.decode(finds.latents.lerp(prior.sample(rng), way), finds.classes)
            loss = F.mse_loss(images, finds.images)
            if wanted is not None:
                apart = (_features(oracle, images) - wanted).square().sum(1).mean()
                loss = loss + self.feature_weight * apart
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        for value in weights:
            value.requires_grad_(False)


def _features(oracle: WhiteBoxOracle, images: Tensor) -> Tensor:
    """The target's features (F, D) of images, of length 1."""
    return F.normalize(oracle.activations(images)[1], dim=1)
