"""The verdict: what an audit may conclude. `scripts/calibrate_verdict.py` measures how often it is wrong, and only
there is it tuned.

The figure is the AUC of each person under the first judge: the share of the other people that the person's
reconstructions resemble less. It uses every comparison, where a match rate counts few, and guessing gives 0.5.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from gmi.errors import GmiError
from gmi.metrics.statistics import Estimate, Failed, detectable, difference

METRIC = "auc"
FEWEST = 10  # people

Finding = Literal["evidence of leakage", "no evidence", "inconclusive"]

NAMES = {
    "best_of_n": "the best of the prior's samples, not optimised",
    "random": "the random prior",
    "public": "public images",
    "permuted": "the attack's images of other people",
}


@dataclass(frozen=True)
class Verdict:
    """A finding, never "safe", with its reasons and the figures it rests on."""

    finding: Finding
    because: tuple[str, ...]
    control: str | None  # the strongest
    advantage: Estimate | Failed  # over it, person by person
    smallest_effect: float | Failed  # true advantage that this audit would have called four times in five


def decide(
    attack: ArrayLike,
    controls: Mapping[str, ArrayLike],
    oracle: ArrayLike | None,
    stops: Sequence[str] = (),
    doubts: Sequence[str] = (),
) -> Verdict:
    """From the AUC of each person (P,) by method.

    stops are reasons not to conclude anything; doubts are reasons why the attack may be weaker than an adversary's, so
    that its failure would show nothing.

    Evidence: the attack beats every control, each paired difference's 95 % interval above 0 (an intersection-union
    test: no correction for their number is due). No evidence: it does not, nor does it do worse than one, nor selection
    without optimisation beat the others, although the oracle projection beats the strongest control and the audit was
    large enough to see a difference of that size. Else inconclusive.
    """
    try:
        differences = {name: difference(attack, values) for name, values in controls.items()}
    except GmiError as error:
        return Verdict(
            "inconclusive", (f"The comparison failed: {error}.",), None, Failed(str(error)), Failed(str(error))
        )
    control = min(differences, key=lambda name: differences[name].value)
    advantage = differences[control]
    people = advantage.people
    smallest = _smallest(attack, controls[control])

    strongest = NAMES.get(control, control)

    def say(finding: Finding, *because: str) -> Verdict:
        return Verdict(finding, because, control, advantage, smallest)

    if stops:
        return say("inconclusive", *stops)
    if people < FEWEST:
        return say("inconclusive", f"{people} people are too few to conclude anything: audit at least {FEWEST}.")
    unbeaten = [name for name, difference_ in differences.items() if difference_.low <= 0]
    if not unbeaten:
        return say(
            "evidence of leakage",
            f"The attack's images are more like their people than {strongest}, the strongest control: "
            f"AUC {advantage.value:+.2f} [{advantage.low:+.2f}, {advantage.high:+.2f}] over {people} people.",
        )
    if unbeaten == ["best_of_n"]:
        return say(
            "inconclusive",
            "The attack beats every control that does not use the target, but optimising does no better than choosing "
            "among the prior's samples by the target's scores: the model leaks to selection, or the search is weak.",
        )
    without = [values for name, values in controls.items() if name != "best_of_n"]
    if "best_of_n" in controls and all(difference(controls["best_of_n"], values).low > 0 for values in without):
        return say(
            "inconclusive",
            "Choosing among the prior's samples by the target's scores beats every control that does not use the "
            "target, and the attack does not: the model leaks to selection, and this search is too weak to judge by.",
        )
    worse = [NAMES.get(name, name) for name, difference_ in differences.items() if difference_.high < 0]
    if worse:
        why = "a search that works against its people shows nothing by failing."
        return say("inconclusive", f"The attack does worse than {_list(worse)}: {why}")
    tie = f"The attack cannot be told from {_list([NAMES.get(name, name) for name in unbeaten])}."
    if oracle is None:
        return say("inconclusive", tie, "Without the oracle projection nothing is known of what the prior can express.")
    room = difference(oracle, controls[control])
    if room.low <= 0:
        return say(
            "inconclusive",
            tie,
            f"Even the people's own photographs, projected into the prior, are no better than {strongest} "
            f"(AUC {room.value:+.2f} [{room.low:+.2f}, {room.high:+.2f}]): with this search, this prior could not have "
            "shown a leak.",
            "Take more steps and a larger pool first, then another prior.",
        )
    if isinstance(smallest, Failed) or smallest > room.value:
        effect = smallest.failed if isinstance(smallest, Failed) else f"{smallest:.2f}"
        return say(
            "inconclusive",
            tie,
            f"The smallest effect in sight ({effect}) exceeds all that was in reach ({room.value:.2f}).",
        )
    if doubts:
        return say("inconclusive", tie, *doubts)
    return say(
        "no evidence", tie, f"A leak as large as the prior can express (AUC {room.value:+.2f}) would have been seen."
    )


def _list(names: Sequence[str]) -> str:
    """`a`, `a, or b`, `a, or b, or c`: the names have commas of their own."""
    return ", or ".join(names)


def _smallest(attack: ArrayLike, control: ArrayLike) -> float | Failed:
    try:
        return detectable(np.asarray(attack) - np.asarray(control))
    except GmiError as error:
        return Failed(str(error))
