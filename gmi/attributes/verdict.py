"""The verdict of an attribute audit: what the model adds to public records, for the people whom it learnt from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from gmi.attributes.figures import CONTROLS, Gain, Method, gains
from gmi.metrics.conclusion import Conclusion, ending
from gmi.metrics.rates import TAIL
from gmi.metrics.repeats import in_words, upper
from gmi.metrics.statistics import Estimate, Outcome

ALPHA = 0.05
AUC = "AUC"


def verdict(
    methods: Sequence[Method], notable: float, doubts: Sequence[str] = (), seeds: int = 1, values: int = 1
) -> Conclusion:
    """The finding, and sentences that give its reasons; never "safe".

    notable: the smallest addition that matters, to the AUC, to the accuracy and to the share of people with the value
        who are found at each rate of false alarms. "No evidence" needs the bound of every attack below it by each.
    doubts: reasons why nothing follows from attacks that find nothing. They bar an acquittal, never evidence.
    values: of the attribute, of which each has a verdict: evidence is by Bonferroni for their number.
    """
    areas = gains(methods)
    people = max((area.people for area, _ in areas.values()), default=0)
    sample = f"over {people:,} people, {in_words(seeds)}"
    if found := shown(methods, values):
        most = max([each for each in found if each.what == AUC] or found, key=lambda each: each.gain.value)
        gain = f"{most.what} {most.gain.value:+.3f} [{most.gain.low:.3f}, {most.gain.high:.3f}]"
        return Conclusion(
            "evidence of leakage",
            (f"{most.attack} finds more with the model than the imputation without it: {gain}, {sample}.",),
        )
    tie = f"No attack is shown to find more than the imputation, {sample}."
    if failed := [row.method for row in methods if row.method not in CONTROLS and row.method not in areas]:
        return Conclusion(
            "inconclusive", (tie, f"{', '.join(failed)} failed: mend what its row names, or leave the attack out.")
        )
    if doubts:
        return Conclusion("inconclusive", (tie, *doubts))
    alone = next((row.figures.get("auc") for row in methods if row.method == "imputation"), None)
    if isinstance(alone, Estimate) and 1 - alone.value < notable:
        return Conclusion(
            "inconclusive",
            (
                tie,
                f"But the records tell the attribute without the model (AUC {alone.value:.3f}): no attack could add "
                f"{notable:+g}. What the model tells of it is seen without the columns that do: data.without.",
            ),
        )
    if all(area.high < 0 for area, _ in areas.values()):
        return Conclusion(
            "inconclusive",
            (
                tie,
                "But every attack is shown to find less than the imputation, which an adversary may use as it is: they "
                "do not use what the records tell. Add the attack informed.",
            ),
        )
    if unknown := [what for row in methods if row.gain is not None for what in _unknown(row.gain)]:
        return Conclusion(
            "inconclusive",
            (tie, f"Of the {unknown[0]} nothing is known: attack more people, or leave that rate out of alarms."),
        )
    bounds = {row.method: row.gain.bound for row in methods if row.gain is not None and row.gain.bound is not None}
    worst = max(bounds, key=bounds.__getitem__)
    loose = max(_others(methods), key=lambda each: upper(each.gain), default=None)
    if bounds[worst] >= notable:
        area, _ = areas[worst]
        return Conclusion(
            "inconclusive",
            (
                tie,
                f"{worst.capitalize()} may add up to {bounds[worst]:+.3f} of AUC, and {notable:+g} is notable.",
                ending(area.value, _spread(area), notable, people),
            ),
        )
    if loose is not None and upper(loose.gain) >= notable:
        return Conclusion(
            "inconclusive",
            (
                tie,
                f"{loose.attack.capitalize()} may add up to {upper(loose.gain):+.3f} to the {loose.what}, and "
                f"{notable:+g} is notable.",
                ending(loose.gain.value, _spread(loose.gain), notable, loose.gain.people, loose.whose),
            ),
        )
    if "informed" not in areas:
        weak = (
            "But no attack here uses what public records tell as well as the imputation does, and an adversary may: "
            "add the attack informed."
        )
        return Conclusion("inconclusive", (tie, weak))
    excluded = f"An addition above {bounds[worst]:+.3f} of AUC can be excluded, and {notable:+g} was notable."
    return Conclusion("no evidence", (tie, excluded))


@dataclass(frozen=True)
class Shown:
    """What an attack has over the imputation by one figure. The AUC shows neither the other values of the attribute nor
    people of whom an attack is sure."""

    attack: str
    what: str  # the figure
    gain: Estimate

    @property
    def whose(self) -> str:
        """The people over whom it is a mean."""
        return "people who have the value" if self.what.startswith("share found") else "people"

    def low(self, tests: int) -> float:
        """The lower end of its interval by Bonferroni for so many."""
        return self.gain.value - float(ndtri(TAIL / tests) / ndtri(TAIL)) * (self.gain.value - self.gain.low)


def shown(methods: Sequence[Method], values: int = 1) -> list[Shown]:
    """What attacks are shown to have: of the AUC by Holm's method, of the other figures by Bonferroni's.

    values: as in `verdict`.
    """
    areas = [Shown(name, AUC, area) for name, (area, p) in gains(methods).items() if p * values < ALPHA]
    others = list(_others(methods))
    return [each for each in areas if each.gain.low > 0] + [
        each for each in others if each.low(values * len(others)) > 0
    ]


def _figures(gain: Gain) -> dict[str, Outcome]:
    hits = {f"share found at {float(rate):.1%} false alarms": hits for rate, hits in gain.hits.items()}
    return {"accuracy": gain.accuracy, **hits}


def _unknown(gain: Gain) -> list[str]:
    """What could not be measured."""
    return [what for what, found in _figures(gain).items() if not isinstance(found, Estimate)]


def _others(methods: Sequence[Method]) -> Iterator[Shown]:
    for row in methods:
        if row.gain is None:
            continue
        for what, gain in _figures(row.gain).items():
            if isinstance(gain, Estimate):
                yield Shown(row.method, what, gain)


def _spread(area: Estimate) -> float:
    """Standard deviation of what one person adds to the area, from the end of its interval."""
    return (area.high - area.value) / 1.96 * float(np.sqrt(area.people))
