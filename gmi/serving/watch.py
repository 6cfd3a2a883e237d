"""Query auditing: looks for traffic that resembles a search and not photographs.

A search sends images that are very similar to each other, or that nearly all get the same answer, or that are not
photographs. All three show in the target's own features, over a window of one key's latest queries. The thresholds of
an alarm are learnt from real traffic. Cf. Juuti et al., PRADA, EuroS&P 2019, on model extraction; MITRE ATLAS
AML.M0024.

Differs from the paper: three statistics, with thresholds from real traffic; PRADA tests one distance for normality.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
"""Differences between photographs that a camera takes of one person in succession."""

_WINDOWS = 2000  # windows of real traffic on which a threshold rests
_BATCH = 50


@settings
class Watch:
    """The settings of query auditing.

    Real traffic is taken to be of many people: a single person in front of the camera for a whole window is an alarm.
    """

    window: Annotated[int, Field(ge=8)] = 64  # queries of one key that are examined together
    alarm: Annotated[float, Field(gt=0, lt=0.5)] = 0.01  # share of real windows that may be flagged
    views: Count = 4  # random views of each photograph that make up real traffic
    refuse: Count | None = None  # alarms after which a key is refused; None: never

    def learn(self, target: Target, photographs: Tensor, seed: int = 0) -> "Watcher":
        """A watcher that has learnt from photographs (M, C, H, W) in [0, 1].

        One half serves as reference for what photographs look like, the other half as traffic. Raises GmiError if they
        are too few for a window.
        """
        self.refuse_few(len(photographs))
        references, queries = photographs[::2], photographs[1::2]
        reference = features(target, references)[0]
        traffic = [features(target, TRAFFIC(queries, _rng(seed, round, len(queries)))) for round in range(self.views)]
        unit, labels = (torch.cat(parts) for parts in zip(*traffic, strict=True))
        draws = torch.Generator().manual_seed(seed)
        windows = (torch.randperm(len(unit), generator=draws)[: self.window] for _ in range(_WINDOWS))
        values = torch.stack([statistics(unit[rows], labels[rows], reference) for rows in windows])
        return Watcher(self, reference, values.quantile(1 - self.alarm / len(STATISTICS), dim=0))

    def refuse_few(self, photographs: int) -> None:
        """Raises GmiError where so many photographs are too few to learn from."""
        if photographs // 2 * self.views < 2 * self.window:
            raise GmiError(
                f"{photographs} photographs make no real traffic for windows of {self.window} queries: watch a "
                "smaller window."
            )


@dataclass(frozen=True)
class Watcher:
    """A test of windows of queries against real traffic, from which it has learnt."""

    plan: Watch
    reference: Tensor  # unit features (R, D) of photographs
    thresholds: Tensor  # (3,), one for each of STATISTICS: few windows of real traffic exceed them

    def flags(self, unit: Tensor, labels: Tensor) -> tuple[str, ...]:
        """Those of STATISTICS that exceed their thresholds in a window of unit features (W, D) and classes (W,)."""
        values = statistics(unit, labels, self.reference)
        return tuple(name for name, value, cut in zip(STATISTICS, values, self.thresholds, strict=True) if value > cut)


class Stream:
    """A sliding window over one key's queries; windows overlap by half."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self._unit, self._labels = torch.empty(0), torch.empty(0, dtype=torch.int64)

    def see(self, unit: Tensor, labels: Tensor) -> list[tuple[str, ...]]:
        """The flags of each window that queries with these unit features (N, D) and classes (N,) complete."""
        size, flags = self.watcher.plan.window, []
        self._unit = torch.cat([self._unit.reshape(-1, unit.shape[1]), unit])
        self._labels = torch.cat([self._labels, labels])
        while len(self._unit) >= size:
            flags.append(self.watcher.flags(self._unit[:size], self._labels[:size]))
            self._unit, self._labels = self._unit[size // 2 :], self._labels[size // 2 :]
        return flags


def statistics(unit: Tensor, labels: Tensor, reference: Tensor) -> Tensor:
    """The three STATISTICS (3,) of a window with unit features (W, D) and classes (W,).

    They are the mean similarity of each query to the most similar one before it, the share of the commonest class, and
    the mean distance of the queries from photographs with features (R, D).
    """
    alike = unit @ unit.T
    before = torch.ones_like(alike).tril(-1).bool()
    nearest = alike.masked_fill(~before, -1.0)[1:].amax(1).mean()
    commonest = labels.bincount().max() / len(labels)
    distance = 1 - (unit @ reference.T).amax(1).mean()
    return torch.stack([nearest, commonest.to(nearest), distance])


@torch.no_grad()
def features(target: Target, images: Tensor) -> tuple[Tensor, Tensor]:
    """Penultimate features (N, D) of unit length, and predicted classes (N,), on the CPU."""
    device = target.device
    parts = [target.activations(batch.to(device)) for batch in images.split(_BATCH)]
    return (
        F.normalize(torch.cat([penultimate for _, penultimate in parts])).cpu(),
        torch.cat([logits.argmax(1) for logits, _ in parts]).cpu(),
    )


def _rng(seed: int, round: int, count: int) -> Rng:
    return Rng([seed_of(seed, "traffic", round, index) for index in range(count)])


@contextmanager
def overheard(target: Target) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """A context that collects the unit features (n, D) and classes (n,) of every query to the target."""
    queries: list[tuple[Tensor, Tensor]] = []
    inputs_of_head: list[Tensor] = []

    def collect(module: nn.Module, inputs: object, output: Tensor) -> None:
        logits = getattr(output, "logits", output)
        queries.append((F.normalize(inputs_of_head.pop().flatten(1)).detach().cpu(), logits.argmax(1).cpu()))

    hooks = [
        target.head.register_forward_pre_hook(lambda _, inputs: inputs_of_head.append(inputs[0])),
        target.module.register_forward_hook(collect),
    ]
    try:
        yield queries
    finally:
        for hook in hooks:
            hook.remove()
