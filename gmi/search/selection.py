"""Choosing candidates by what the adversary sees of the target, before and after a search. No judge takes part."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gmi.oracles.shape import filled
from gmi.protocols import ComparingOracle, LabelOracle, ScoreOracle, VerificationOracle
from gmi.rng import Rng
from gmi.search.signature import OfflineSearch, shared_queries
from gmi.settings import Count, settings
from gmi.views import Views

_UNSURE = 1e-6  # probability that labels alone leave open
FINAL_VIEWS = Views(scale=(0.8, 1.0), shift=0.1, rotate=5.0)


@settings
class Selection:
    """Numbers of samples and candidates that are taken at each stage."""

    pool: Count = 1000  # samples of the prior that every class chooses its starts from
    candidates: Count = 3  # searches for each class
    views: Count = 8  # random views by which a class's candidates are compared
    keep: Count = 1  # images released for each class

    def __post_init__(self) -> None:
        if not self.keep <= self.candidates <= self.pool:
            raise ValueError("keep must not exceed candidates, nor candidates the pool")

    def asked(self, search: Any, prior: Any, claims: int = 1) -> tuple[int, int]:
        """Queries of an attack by that search of that prior, selections included: once for everybody; for a person.

        claims: queries for an image that is asked about for everybody.
        """
        each = self.candidates * (search.queries(prior) + self.views_of(search))
        return claims * (shared_queries(search) + self.pool_of(search)), each

    def pool_of(self, search: Any) -> int:
        """Images of the pool, mirror images included, that the target is asked about for a search."""
        return 0 if isinstance(search, OfflineSearch) else 2 * self.pool

    def views_of(self, search: Any) -> int:
        """Views by which the target compares candidates of a search: none where the search compares them itself."""
        return 0 if isinstance(search, OfflineSearch) else self.final_views

    @property
    def final_views(self) -> int:
        """Views by which candidates are compared: none where as many are kept as there are."""
        return self.views if self.keep < self.candidates else 0


def opinion(oracle: VerificationOracle, images: Tensor, classes: Tensor | None = None) -> Tensor:
    """Log-probabilities, or similarities (N, K), as far as the oracle tells: of labels, nearly 0 and nearly nothing.

    Where it answers claims, without `classes` each image is asked about for each of K people.
    """
    if isinstance(oracle, ScoreOracle):
        return oracle.scores(images, classes)
    if isinstance(oracle, ComparingOracle):
        return filled(oracle.similarities(images, classes))
    if isinstance(oracle, LabelOracle):
        sure = F.one_hot(oracle.labels(images, classes), oracle.people).float()
    elif classes is None:
        sure = oracle.everybody(images).float()
    else:
        return decision(oracle, images, classes)
    return sure.clamp(_UNSURE, 1 - _UNSURE).log()


def decision(oracle: VerificationOracle, images: Tensor, classes: Tensor) -> Tensor:
    """Log-probabilities (N, K) of what is accepted as these people (N,), whatever else is shown: a query an image."""
    sure = F.one_hot(classes, oracle.people).float() * oracle.accepts(images, classes)[:, None]
    return sure.clamp(_UNSURE, 1 - _UNSURE).log()


@torch.no_grad()
def pool_scores(oracle: VerificationOracle, images: Tensor) -> Tensor:
    """Log-probabilities (N, K) of images and their mirror images, averaged as probabilities. PPA, ICML 2022, sec. 4.1.

    Costs 2 queries an image; one pool serves every class.
    """
    both = opinion(oracle, torch.cat([images, images.flip(-1)]))
    return torch.logaddexp(*both.chunk(2)) - torch.log(torch.tensor(2.0))


def preselect(scores: Tensor, classes: Tensor, count: int) -> Tensor:
    """The `count` rows of pool scores (N, K) that rank each of the classes (M,) highest: (M, count), best first."""
    return scores[:, classes].sort(dim=0, descending=True, stable=True).indices[:count].T  # labels alone make ties


@torch.no_grad()
def robust_scores(oracle: VerificationOracle, images: Tensor, classes: Tensor, rng: Rng, views: int) -> Tensor:
    """Mean log-probability (N,) of each image's class over random views. PPA, ICML 2022, sec. 4.3.

    Differs from the paper: the mean is of log-probabilities, which tell candidates apart where probabilities saturate;
    crops are square, of .8 to 1 of the side, shifted and turned, where the paper's have .5 to .9 of the area and sides
    of a ratio of .8 to 1.2.
    Costs `views` queries an image; without any, all are equal.
    """
    total = torch.zeros(len(images), device=images.device)
    for _ in range(views):
        total += opinion(oracle, FINAL_VIEWS(images, rng), classes).gather(1, classes[:, None]).squeeze(1)
    return total / max(1, views)


def keep_best(scores: Tensor, classes: Tensor, keep: int) -> Tensor:
    """Indices of the `keep` best of each class, classes in order of first appearance, best first."""
    chosen = []
    for person in dict.fromkeys(classes.tolist()):
        rows = (classes == person).nonzero().squeeze(1)
        chosen.append(rows[scores[rows].argsort(descending=True, stable=True)[:keep]])
    return torch.cat(chosen)
