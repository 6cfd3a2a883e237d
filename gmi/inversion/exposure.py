"""How a judge takes an attack's images, and what the attack has over adversaries without the target."""

from dataclasses import dataclass

import numpy as np

from gmi.metrics.lookalikes import Within
from gmi.metrics.rates import TAIL
from gmi.metrics.statistics import Array, Failed, Outcome, attempt, difference

METRIC = "auc"

NAMES = {
    "search": "the search",
    "best_of_n": "the best of the prior's samples by the target's scores",
    "public": "public images chosen by the target's scores",
}
"""Attacks: whatever asks the target. Any of them that shows a leak shows it."""


@dataclass(frozen=True)
class Matches:
    """Who is matched at one false match rate, and what chance does."""

    fmr: float
    matched: Array  # (S, A), 1 where any of her images of a draw matches, else 0
    usual: float  # share of the prior's samples that match somebody, of one image
    once: float  # share of people whom any of a draw's images would match by chance
    ever: float  # the same of all draws' images


@dataclass(frozen=True)
class Exposure:
    """How one judge takes one attack's images."""

    auc: Array  # (S, A) of each draw and attacked person, among everybody enrolled
    nobody: tuple[Array, ...]  # (A,) of each kind of images that are made or chosen without the target
    rates: tuple[Matches, ...]  # at each of the audit's false match rates, the greatest first
    within: tuple[Within, ...]  # among look-alikes by the judge, and among those of her group where groups are known

    @property
    def leaks(self) -> tuple[Array, ...]:
        """What the attack's images have (S, A) over each kind of images that know nothing of the target."""
        return tuple(self.auc - values for values in self.nobody)

    @property
    def leak(self) -> Array:
        """The least of them on the whole (S, A)."""
        return min(self.leaks, key=np.mean)

    @property
    def beyond(self) -> tuple[Array, ...]:
        """What they have (S, A) among each kind of look-alikes over images that cannot know who is who."""
        return tuple(values for among in self.within for values in among.beyond)


@dataclass(frozen=True)
class Ceiling:
    """How one judge takes the oracle projection: what the search shows with the prior where it is given photographs."""

    auc: Array  # (S, A)
    matched: Array  # (S, A), share that match their person at the audit's greatest FMR


@dataclass(frozen=True)
class Advantage:
    """What one attack has over adversaries without the target, in AUC."""

    attack: str
    leak: Outcome  # over images that know nothing of the target
    bound: float | None  # the most that it may be, with 95 % confidence
    # the most that its match rate, by one draw or any of several, may have over the prior's samples: 95 % confidence
    matches: float | None
    identity: Outcome  # the same among look-alikes, over the strongest of their controls


def advantage(name: str, exposure: Exposure) -> Advantage:
    beyond = min(exposure.beyond, key=np.mean)
    leak = attempt(lambda: difference(exposure.leak, np.zeros(exposure.leak.shape[1])))
    bound = None if isinstance(leak, Failed) else max(map(_bound, exposure.leaks))
    most = exposure.rates[0]
    found = ((most.matched, most.once), (most.matched.max(0, keepdims=True), most.ever))
    matches = None if isinstance(leak, Failed) else max(_beyond(each, chance, most.usual) for each, chance in found)
    return Advantage(name, leak, bound, matches, attempt(lambda: difference(beyond, np.zeros(beyond.shape[1]))))


def _beyond(matched: Array, chance: float, usual: float) -> float:
    """The most by which people may match (S, A) beyond a chance of several images, of which one has the usual one.

    Who is found by one of the images would have matched by another in chance's share of cases, and is seen in the rest:
    E[matched] - chance = found (1 - chance) / (1 - usual).
    """
    return _bound(matched - chance) * (1 - usual) / max(1 - chance, 1e-9)


def _bound(values: Array) -> float:
    return difference(values, np.zeros(values.shape[1]), tail=2 * TAIL).high


def signed(outcome: Outcome) -> str:
    if isinstance(outcome, Failed):
        return outcome.failed
    return f"{outcome.value:+.2f} [{outcome.low:+.2f}, {outcome.high:+.2f}]"
