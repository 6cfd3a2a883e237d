"""Controls: an adversary without the target, and one with the person's own photographs.

Controls are the attack with something left out or put in its place: no selection and no search (`random`), no search
(`Unmoved`, best of N), public photographs in place of the prior's samples, or the enrolment photographs in place of the
target (`Enrolled`, the oracle projection). Everything else stays: pool, views, selection, budget, release.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from gmi.oracles.local import Naming
from gmi.protocols import Candidates, Prior, Trace, VerificationOracle
from gmi.rng import Rng
from gmi.search.signature import Passes
from gmi.settings import settings
from gmi.targets.module import ModuleTarget, Target
from gmi.views import single

_SCALE = 16.0  # of the cosine, so that a softmax over people has a usual temperature


@settings
class Controls:
    """The control that may be left out, the oracle projection.

    The others always run: random prior, best of N, permuted people and, where there is a public set, public images.
    """

    oracle: bool = True  # project the enrolment photographs; without it nothing is known of what the prior can express
    # network whose features compare a sample with the photographs, and which must not judge; None: the target's own
    guide: ModuleTarget | None = None


@dataclass(frozen=True)
class Unmoved:
    """A search that stays where it starts: best-of-N selection, no optimisation (control C1)."""

    type: Literal["none"] = "none"

    def queries(self, prior: Prior) -> int:
        """No queries: it only decodes."""
        return 0

    def passes(self, prior: Prior) -> Passes:
        """Evaluations of one decode."""
        return Passes(prior.evaluations, 0)

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
        """Candidates (N) from latents (N, ...), as they are; no queries."""
        return Candidates(prior.decode(latents, classes).clamp(0, 1), classes, latents)


class Enrolled(Naming):
    """A `WhiteBoxOracle` that recognises people by their enrolment photographs: the control C7, oracle projection.

    Its logits are 16 times the cosine between the guide's features of an image and each person's mean feature, so the
    same search, given it in the target's place, shows how near to the people the prior can come. Reconstructions that
    fall short of it leave something to a better search; where it does no better than the random prior, the prior cannot
    express these people.

    Differs from the protocol's search oracle: features only, no LPIPS term, as a person's photographs differ in pose.
    """

    def __init__(self, guide: Target, photographs: Tensor, people: Tensor, batch: int = 32) -> None:
        """An oracle from a guide and photographs.

        Args:
            guide: the network whose features are compared.
            photographs: (M, C, H, W).
            people: (M,), the class of each photograph, from 0; every class needs a photograph.
            batch: photographs at once.
        """
        self._guide, self._photographs, self._whose, self._batch = guide, photographs, people, batch
        self.queries = 0
        self.people = int(people.max()) + 1

    @cached_property
    def _means(self) -> Tensor:
        """Mean features (K, D) of length 1; not before they are needed, as a finished audit is only read."""
        with torch.no_grad(), single(self._photographs.device):
            chunks = [self._guide.activations(batch)[1] for batch in self._photographs.split(self._batch)]
        features = F.normalize(torch.cat(chunks))
        sums = torch.zeros(self.people, features.shape[1], device=features.device)
        return F.normalize(sums.index_add_(0, self._whose.to(features.device), features))

    def logits(self, images: Tensor) -> Tensor:
        """Logits (N, K), differentiable."""
        return self.activations(images)[0]

    def activations(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, K) and the guide's features (N, D), differentiable."""
        self.queries += len(images)
        features = self._guide.activations(images)[1]
        return _SCALE * F.normalize(features) @ self._means.T, features

    @torch.no_grad()
    def scores(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Log-probabilities (N, K), no graph."""
        return self.logits(images).log_softmax(1)

    def labels(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Predicted classes (N,)."""
        return self.scores(images).argmax(1)


class EnrolledSimilarities(Enrolled):
    """The same in place of a recogniser, whose scores are similarities: cosines with each person's mean feature."""

    def similarities(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Cosines (N, K), none hidden."""
        return self.scores(images)

    @torch.no_grad()
    def scores(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Cosines (N, K), no graph."""
        return self.logits(images) / _SCALE


@torch.no_grad()
def random_prior(prior: Prior, classes: Tensor, rng: Rng) -> Candidates:
    """Samples of the prior that know nothing of the target (control C0)."""
    latents = prior.sample(rng)
    return Candidates(prior.decode(latents, classes).clamp(0, 1), classes, latents)
