"""Traffic of photographs: people at a camera, and the photographs among which an adversary hides queries."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from gmi.data.people import People
from gmi.rng import Rng, seed_of
from gmi.serving.watch import TRAFFIC, features
from gmi.targets.module import Target
from gmi.watching.findings import ROUNDS

Queries = Sequence[tuple[Tensor, Tensor]]
"""Unit features (n, D) and predicted classes (n,) of queries, in the order in which they came."""


def strangers(people: People) -> Tensor | None:
    """Photographs (M, C, H, W) of people whom the target does not know, drawn from all there are; None: there are none.

    They are as many as those of the target's own people, where there are so many.
    """
    groups = [group for group in (people.distractors, people.strangers) if group is not None]
    if not groups:
        return None
    places = [(group, number) for group in range(len(groups)) for number in range(len(groups[group]))]
    drawn = torch.randperm(len(places), generator=torch.Generator().manual_seed(0))[: len(people.enrolment)]
    chosen = [places[place] for place in drawn.tolist()]
    return torch.cat(
        [group[[number for of, number in chosen if of == index]].pixels for index, group in enumerate(groups)]
    )


def camera(target: Target, photographs: Tensor) -> Queries:
    """Real traffic of photographs (M, C, H, W) from which the watcher has not learnt."""
    parts = []
    for round in range(ROUNDS):
        order = torch.randperm(len(photographs), generator=torch.Generator().manual_seed(round))
        rng = Rng([seed_of("camera", round, index) for index in range(len(order))])
        parts.append(features(target, TRAFFIC(photographs[order], rng).clamp(0, 1)))
    return parts


def disguised(queries: Queries, photographs: Queries, share: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Queries with photographs evenly between them, which are this share of the whole and come again and again."""
    crowd = [torch.cat(parts) for parts in zip(*photographs, strict=True)]
    asked = sent = 0  # queries and photographs so far
    for unit, labels in queries:
        numbers = asked + 1 + torch.arange(len(labels), dtype=torch.float64)
        before = (numbers * share / (1 - share) + 1e-9).long()  # photographs before each query
        fresh = torch.arange(sent, int(before[-1]))
        order = torch.cat([before.double(), fresh.double() + 0.5]).argsort(stable=True)
        rows = fresh % len(crowd[1])
        yield torch.cat([unit, crowd[0][rows]])[order], torch.cat([labels, crowd[1][rows]])[order]
        asked, sent = asked + len(labels), int(before[-1])
