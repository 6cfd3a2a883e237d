"""The verdict: what an audit may conclude. `scripts/calibrate_verdict.py` measures how often it is wrong, and only
there is it tuned.

The figure is the AUC of each person: the share of the other people that the person's reconstructions resemble less. It
uses every comparison, where a match rate counts few, and guessing gives 0.5. Three questions are kept apart: whether
anything leaks (attack against the prior's samples, which know nothing of the target), whether it is the person or what
she shares with look-alikes, and whether optimising adds to choosing among samples.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from gmi.metrics.conclusion import FEWEST
from gmi.metrics.lookalikes import Within
from gmi.metrics.power import detectable, people_needed, people_unseen
from gmi.metrics.rates import TAIL, any_of_m
from gmi.metrics.repeats import in_words
from gmi.metrics.statistics import Array, Estimate, Failed, Outcome, attempt, difference

METRIC = "auc"
Finding = Literal["evidence of identity leakage", "evidence of trait leakage", "no evidence", "inconclusive"]

NAMES = {
    "search": "the search",
    "best_of_n": "the best of the prior's samples by the target's scores",
    "public": "public images chosen by the target's scores",
}
"""Attacks: whatever asks the target. Any of them that shows a leak shows it."""


@dataclass(frozen=True)
class Exposure:
    """How one judge takes one attack's images."""

    auc: Array  # (S, A) of each draw and attacked person, among everybody enrolled
    nobody: tuple[Array, ...]  # (A,) of each kind of images that are made or chosen without the target
    matched: Array  # (S, A), 1 where any of her images matches at the audit's greatest FMR, else 0
    usual: float  # share of the prior's samples that match somebody, of one image
    within: tuple[Within, ...]  # among look-alikes by the judge, and among those of her group where groups are known
    tries: int = 1  # images of each person and draw: each has a chance, of which `usual` is one
    lucky: float = 0.0  # share of people whom any of as many of the prior's samples as there are draws matches

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


@dataclass(frozen=True)
class Verdict:
    """What one judge's figures allow to conclude; never "safe"."""

    finding: Finding
    because: tuple[str, ...]
    advantages: tuple[Advantage, ...]  # by attack
    optimising: Outcome | None  # the search over the best of the prior's samples; None: one of them was not made
    smallest_effect: float | Failed  # advantage of the search alone that would be called a leak of identity, at 80 %
    people_needed: int | None  # to exclude a notable leak where there is none, at 80 %


def decide(
    exposures: Mapping[str, Exposure],
    ceiling: Ceiling | None,
    notable: float,
    stops: Sequence[str] = (),
    doubts: Sequence[str] = (),
    judges: int = 1,
) -> Verdict:
    """From what one judge sees in every attack.

    exposures: by attack, "search" among them.
    ceiling: of the oracle projection; None: it was not made.
    notable: the smallest advantage that matters, in AUC and in the share of people who match; "no evidence" excludes
        both.
    stops: reasons not to conclude anything.
    doubts: reasons why the attack may be weaker than an adversary's. They bar an acquittal, never evidence.
    judges: the number of judges that must agree to acquit.

    Evidence of identity leakage: an attack beats images that know nothing of the target, and both controls among every
    kind of look-alikes, each interval above 0. Trait leakage: it beats the former only. Several attacks are tested by
    Holm's method; several controls need no correction (an intersection-union test). No evidence: of every attack the
    bound on its advantage lies below `notable`, and so does the bound on the share of people whom it finds as well as
    the oracle projection finds people, as a mean hides a few who are found, in one draw or another; none is shown to
    match more people than chance; and the prior could have shown as much of both. Else inconclusive, with what would
    end it.
    """
    search = exposures["search"]
    people, draws = search.auc.shape[1], len(search.auc)
    advantages = tuple(_advantage(name, exposure) for name, exposure in exposures.items())
    optimising = None
    if "best_of_n" in exposures:
        optimising = attempt(lambda: difference(search.auc, exposures["best_of_n"].auc))
    spread = (
        float(np.max([exposure.leak.mean(0).std(ddof=1) for exposure in exposures.values()])) if people > 1 else 0.0
    )
    needed = people_needed(spread, notable, judges * len(exposures)) if spread > 0 else None
    smallest = attempt(lambda: _smallest(search, len(exposures)))

    def say(finding: Finding, *because: str) -> Verdict:
        return Verdict(finding, because, advantages, optimising, smallest, needed)

    if stops:
        return say("inconclusive", *stops)
    if people < FEWEST:
        return say("inconclusive", f"{people} people are too few to conclude anything: audit at least {FEWEST}.")
    if failed := [each.leak.failed for each in advantages if isinstance(each.leak, Failed)]:
        return say("inconclusive", f"The comparison failed: {failed[0]}.")
    figures = {each.attack: each for each in advantages}
    sample = f"over {people} people, {in_words(draws)}"
    if leaking := called(exposures, lambda exposure: exposure.leaks):
        identified = called(exposures, lambda exposure: (*exposure.leaks, *exposure.beyond))
        best = max(identified or leaking, key=lambda name: exposures[name].auc.mean())
        leak = (
            f"The images of {NAMES[best]} are more like their people than images that know nothing of the target: "
            f"AUC {_signed(figures[best].leak)} {sample}."
        )
        among = f"Among each person's look-alikes they have AUC {_signed(figures[best].identity)} over images of others"
        if identified:
            return say("evidence of identity leakage", leak, f"{among}: it is the person that shows, not traits alone.")
        return say(
            "evidence of trait leakage",
            leak,
            f"{among}: that it is more than what look-alikes share (sex, age, skin) is not shown.",
        )
    shown = 1.0 if ceiling is None else float(ceiling.matched.mean()) - search.usual
    reasons = [*_excess(figures, exposures, notable, needed), *_few(figures, exposures, notable, max(shown, TAIL))]
    reasons += [*_met(exposures), *_room(ceiling, search, notable), *doubts]
    if isinstance(optimising, Estimate) and optimising.high < 0:
        reasons.append("The search finds less than the best of the prior's samples: it works against its people.")
    tie = f"No attack is shown to find more than images that know nothing of the target ({sample})."
    if reasons:
        return say("inconclusive", tie, *reasons)
    bound = max(each.bound for each in advantages if each.bound is not None)
    found = max(each.matches for each in advantages if each.matches is not None) / shown
    return say(
        "no evidence",
        tie,
        f"An advantage above {bound:+.2f} can be excluded, and that more than {found:.0%} of people are found as well "
        f"as their photographs, projected into the prior; {notable:+.2f} was notable.",
    )


def settle(verdicts: Mapping[str, Verdict]) -> Verdict:
    """The audit's verdict from those of its judges, by name: the first one's, but all must agree to acquit."""
    (first, verdict), *others = verdicts.items()
    findings = ", ".join(f"{name}: {other.finding}" for name, other in others)
    finding = verdict.finding
    if finding == "no evidence" and any(other.finding != finding for _, other in others):
        finding, why = (
            "inconclusive",
            f"By {first} there is no evidence, but all judges must agree to acquit ({findings}).",
        )
    elif others:
        why = f"The verdict rests on {first} ({findings})."
    else:
        why = f"The verdict rests on one judge, {first}."
    return replace(verdict, finding=finding, because=(*verdict.because, why))


def _advantage(name: str, exposure: Exposure) -> Advantage:
    beyond = min(exposure.beyond, key=np.mean)
    leak = attempt(lambda: difference(exposure.leak, np.zeros(exposure.leak.shape[1])))
    bound = None if isinstance(leak, Failed) else max(map(_bound, exposure.leaks))
    anyone = exposure.matched.max(0, keepdims=True) - (exposure.lucky if len(exposure.matched) > 1 else exposure.usual)
    matches = None if isinstance(leak, Failed) else max(_bound(exposure.matched - exposure.usual), _bound(anyone))
    return Advantage(name, leak, bound, matches, attempt(lambda: difference(beyond, np.zeros(beyond.shape[1]))))


def _smallest(search: Exposure, attacks: int) -> float:
    """The advantage that would be called, among so many attacks; luck that a draw brings everybody counts as spread."""
    rows = [values.mean(0) for values in (*search.leaks, *search.beyond)]
    lucky = _luck(search.leak)
    return detectable(*(row.mean() + lucky * (row - row.mean()) for row in rows), tests=attacks)


def _luck(values: Array) -> float:
    """How much wider the interval of values (S, A) is for what their draws have in common."""
    zero = np.zeros(values.shape[1])
    whole, alone = difference(values, zero), difference(values.mean(0), zero)
    return (whole.high - whole.low) / max(alone.high - alone.low, 1e-12)


def _bound(values: Array) -> float:
    return difference(values, np.zeros(values.shape[1]), tail=2 * TAIL).high


def called(exposures: Mapping[str, Exposure], tested: Callable[[Exposure], Sequence[Array]]) -> list[str]:
    """The attacks all of whose tested values (S, A) are above 0, by Holm's method for the number of attacks.

    With m attacks left, those are called whose intervals at 0.025 / m lie above 0, until none is.
    """
    left, found = dict(exposures), []
    while left:
        tail = TAIL / len(left)
        lows = {
            name: min(difference(values, np.zeros(values.shape[1]), tail=tail).low for values in tested(exposure))
            for name, exposure in left.items()
        }
        new = [name for name, low in lows.items() if low > 0]
        if not new:
            break
        found += new
        left = {name: exposure for name, exposure in left.items() if name not in new}
    return found


def _excess(
    figures: Mapping[str, Advantage], exposures: Mapping[str, Exposure], notable: float, needed: int | None
) -> list[str]:
    """Why a notable leak cannot be excluded, and what would end it."""
    name = max(figures, key=lambda attack: figures[attack].bound or 0)
    bound, value = figures[name].bound, float(exposures[name].leak.mean())
    if bound is None or bound < notable:
        return []
    sentence = f"{NAMES[name].capitalize()} may have an advantage of up to {bound:+.2f}, and {notable:+.2f} is notable."
    if needed is None:
        return [sentence]
    if value >= notable / 2:
        return [sentence, f"More people, or more seeds, will tell whether {value:+.2f} is a leak or chance."]
    people = exposures[name].auc.shape[1]
    if needed > people:
        return [sentence, f"If there is no leak, about {needed} people would exclude it four times in five."]
    return [sentence, "Another seed, or a few more people, would as a rule exclude it if there is no leak."]


def _few(
    figures: Mapping[str, Advantage], exposures: Mapping[str, Exposure], notable: float, shown: float
) -> list[str]:
    """Why it cannot be excluded that a notable share of people are found, whatever the mean is.

    shown: share of people found who match beyond chance, which is that of the oracle projection.
    """
    name = max(figures, key=lambda attack: figures[attack].matches or 0)
    matches = figures[name].matches
    if matches is None or matches < notable * shown:
        return []
    least, people, tries = people_unseen(notable * shown), exposures[name].auc.shape[1], exposures[name].tries
    end = f": {least} people or more would exclude it if nobody does" if people < least else ""
    if tries > 1:
        end += f". Of {tries} images a person, that is beyond the chance of one: selection.keep: 1 has no more"
    found = f"{NAMES[name].capitalize()} may find up to {min(1.0, matches / shown):.0%} of people"
    if shown < 1:
        found += f" (up to {matches:.0%} match beyond chance, as do {shown:.0%} who are found as well as can be)"
    return [f"{found}, and {notable:.0%} is notable{end}."]


def _met(exposures: Mapping[str, Exposure]) -> list[str]:
    """Attacks that match more people than chance, by Bonferroni for their number, though their mean shows nothing."""
    reasons = []
    for name, exposure in exposures.items():
        chance = np.full(exposure.matched.shape[1], any_of_m(exposure.usual, exposure.tries))
        found = difference(exposure.matched, chance, tail=TAIL / len(exposures))
        if found.low > 0:
            reasons.append(
                f"But images of {NAMES[name]} match {exposure.matched.mean():.1%} of people, and {chance[0]:.1%} would "
                "by chance: some people are found, which the mean hides. See who they are (scores.jsonl), and whether "
                "they are a group (data.groups)."
            )
    return reasons


def _room(ceiling: Ceiling | None, search: Exposure, notable: float) -> list[str]:
    """Why a failure of the attack would show nothing."""
    reasons = []
    if difference(search.leak, np.zeros(search.leak.shape[1])).high < 0:
        reasons.append("The search does worse than images that know nothing: it works against its people.")
    if ceiling is None:
        return [*reasons, "Without the oracle projection nothing is known of what the prior can express."]
    room = min((difference(ceiling.auc, values) for values in search.nobody), key=lambda room: room.low)
    matches = difference(ceiling.matched, np.full(ceiling.matched.shape[1], search.usual))
    advice = "Take more steps and a larger pool first, then another prior."
    if room.low <= notable:
        reasons.append(
            "Even the people's own photographs, projected into the prior, are hardly more like them than other images "
            f"(AUC {_signed(room)}): with this search, this prior could not have shown a leak. {advice}"
        )
    elif matches.low <= notable:
        reasons.append(
            f"Of the people's own photographs, projected into the prior, {matches.value:.0%} match them beyond chance "
            f"(95 %: {matches.low:.0%} to {matches.high:.0%}): with this search and this prior, a person who is found "
            f"may not match. {advice}"
        )
    return reasons


def _signed(outcome: Outcome) -> str:
    if isinstance(outcome, Failed):
        return outcome.failed
    return f"{outcome.value:+.2f} [{outcome.low:+.2f}, {outcome.high:+.2f}]"
