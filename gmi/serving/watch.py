"""Query auditing: an eye on who asks a target what, for traffic that looks like a search and not like photographs.

A search asks about images that are much alike one after another, or that nearly all have one answer, or that are no
photographs. Each shows in the target's own features, over a window of what one key asked last. Where the alarm lies
is learnt from real traffic. Cf. Juuti et al., PRADA, EuroS&P 2019, for model extraction; MITRE ATLAS AML.M0024.

Differs from the paper: three statistics, thresholds from real traffic; PRADA tests one distance for normality.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass as plain_dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from gmi.errors import GmiError
from gmi.rng import Rng, seed_of
from gmi.settings import Count, settings
from gmi.targets.module import Target
from gmi.views import Views

STATISTICS = ("alike one after another", "of one person", "unlike photographs")
TRAFFIC = Views(scale=(0.8, 1.0), shift=0.1, rotate=10.0, exposure=0.3)
"""How photographs of one person differ that a camera takes one after another."""

_WINDOWS = 2000  # of real traffic, for a threshold
_BATCH = 50


@settings
class Watch:
    """window: queries of one key that are looked at together. alarm: share of real windows that may be flagged.

    views: of each photograph, that make up real traffic, which is taken to be of many people: one who stands before the
        camera for a whole window is an alarm. refuse: alarms after which a key is refused; None: never.
    """

    window: Annotated[int, Field(ge=8)] = 64
    alarm: Annotated[float, Field(gt=0, lt=0.5)] = 0.01
    views: Count = 4
    refuse: Count | None = None

    def learn(self, target: Target, photographs: Tensor, seed: int = 0) -> "Watcher":
        """From photographs (M, C, H, W) in [0, 1]: half say what photographs look like, half are the traffic.

        Raises GmiError where there are too few for a window.
        """
        known, asked = photographs[::2], photographs[1::2]
        if len(asked) * self.views < 2 * self.window:
            raise GmiError(
                f"{len(photographs)} photographs make no real traffic for windows of {self.window} queries: watch a "
                "smaller window."
            )
        reference = features(target, known)[0]
        traffic = [features(target, TRAFFIC(asked, _rng(seed, round, len(asked)))) for round in range(self.views)]
        seen, named = (torch.cat(parts) for parts in zip(*traffic, strict=True))
        draws = torch.Generator().manual_seed(seed)
        found = torch.stack(
            [
                statistics(seen[rows], named[rows], reference)
                for rows in (torch.randperm(len(seen), generator=draws)[: self.window] for _ in range(_WINDOWS))
            ]
        )
        return Watcher(self, reference, found.quantile(1 - self.alarm / len(STATISTICS), dim=0))


@plain_dataclass(frozen=True)
class Watcher:
    """Knows what real traffic looks like. thresholds (3,): what it exceeds in few windows, for each of STATISTICS."""

    plan: Watch
    reference: Tensor  # (R, D) unit features of photographs
    thresholds: Tensor

    def flags(self, seen: Tensor, named: Tensor) -> tuple[str, ...]:
        """What is odd about a window of unit features (W, D) and classes (W,)."""
        found = statistics(seen, named, self.reference)
        return tuple(what for what, value, cut in zip(STATISTICS, found, self.thresholds, strict=True) if value > cut)


class Stream:
    """What one key asked last. Every window is looked at once, and half of it again with what comes after."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self._seen, self._named = torch.empty(0), torch.empty(0, dtype=torch.int64)

    def see(self, seen: Tensor, named: Tensor) -> list[tuple[str, ...]]:
        """The flags of each window that queries with these unit features (N, D) and classes (N,) complete."""
        size, found = self.watcher.plan.window, []
        self._seen = torch.cat([self._seen.reshape(-1, seen.shape[1]), seen])
        self._named = torch.cat([self._named, named])
        while len(self._seen) >= size:
            found.append(self.watcher.flags(self._seen[:size], self._named[:size]))
            self._seen, self._named = self._seen[size // 2 :], self._named[size // 2 :]
        return found


def statistics(seen: Tensor, named: Tensor, reference: Tensor) -> Tensor:
    """(3,) of unit features (W, D) and classes (W,): how alike each query is to the one before that is most like it,
    the share of the commonest class, and how far from photographs' features (R, D) the queries are.
    """
    alike = seen @ seen.T
    before = torch.ones_like(alike).tril(-1).bool()
    nearest = alike.masked_fill(~before, -1.0)[1:].amax(1).mean()
    commonest = named.bincount().max() / len(named)
    strange = 1 - (seen @ reference.T).amax(1).mean()
    return torch.stack([nearest, commonest.to(nearest), strange])


@torch.no_grad()
def features(target: Target, images: Tensor) -> tuple[Tensor, Tensor]:
    """Penultimate features (N, D) of unit length, and predicted classes (N,), on the CPU."""
    device = next(target.module.parameters()).device
    parts = [target.activations(some.to(device)) for some in images.split(_BATCH)]
    return (
        F.normalize(torch.cat([own for _, own in parts])).cpu(),
        torch.cat([logits.argmax(1) for logits, _ in parts]).cpu(),
    )


def _rng(seed: int, round: int, count: int) -> Rng:
    return Rng([seed_of(seed, "traffic", round, place) for place in range(count)])


@contextmanager
def overheard(target: Target) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Unit features (n, D) and classes (n,) of what the target is asked while this is open, call by call."""
    heard: list[tuple[Tensor, Tensor]] = []
    seen: list[Tensor] = []

    def hear(module: nn.Module, inputs: object, output: Tensor) -> None:
        logits = getattr(output, "logits", output)
        heard.append((F.normalize(seen.pop().flatten(1)).detach().cpu(), logits.argmax(1).cpu()))

    hooks = [
        target.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])),
        target.module.register_forward_hook(hear),
    ]
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()
