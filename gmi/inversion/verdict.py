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

from gmi.inversion import acquittal
from gmi.inversion.exposure import NAMES, Advantage, Ceiling, Exposure, advantage, signed
from gmi.metrics.conclusion import FEWEST
from gmi.metrics.power import detectable, people_needed
from gmi.metrics.rates import TAIL
from gmi.metrics.repeats import in_words
from gmi.metrics.statistics import Array, Estimate, Failed, Outcome, attempt, difference

Finding = Literal["evidence of identity leakage", "evidence of trait leakage", "no evidence", "inconclusive"]


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
    advantages = tuple(advantage(name, exposure) for name, exposure in exposures.items())
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
            f"AUC {signed(figures[best].leak)} {sample}."
        )
        among = f"Among each person's look-alikes they have AUC {signed(figures[best].identity)} over images of others"
        if identified:
            return say("evidence of identity leakage", leak, f"{among}: it is the person that shows, not traits alone.")
        return say(
            "evidence of trait leakage",
            leak,
            f"{among}: that it is more than what look-alikes share (sex, age, skin) is not shown.",
        )
    reasons = [*acquittal.doubts(figures, exposures, ceiling, notable, needed), *doubts]
    if isinstance(optimising, Estimate) and optimising.high < 0:
        reasons.append("The search finds less than the best of the prior's samples: it works against its people.")
    tie = f"No attack is shown to find more than images that know nothing of the target ({sample})."
    if reasons:
        return say("inconclusive", tie, *reasons)
    bound = max(each.bound for each in advantages if each.bound is not None)
    found = max(each.matches for each in advantages if each.matches is not None)
    found /= acquittal.shown(ceiling, search)
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
