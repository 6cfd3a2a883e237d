"""The verdict of an attribute audit: what the model adds to public records, for the people whom it learnt from."""

from collections.abc import Sequence

import numpy as np

from gmi.attributes.figures import CONTROLS, Method, gains
from gmi.metrics.conclusion import Conclusion, ending
from gmi.metrics.repeats import in_words
from gmi.metrics.statistics import Estimate

ALPHA = 0.05


def verdict(methods: Sequence[Method], notable: float, useless: bool, seeds: int = 1) -> Conclusion:
    """The finding, and sentences that give its reasons; never "safe".

    notable: the smallest addition to the AUC that matters. "No evidence" needs the bound of every attack below it.
    useless: the target names the outcomes of its own records worse than the commonest does; nothing follows then from
        attacks that find nothing.
    """
    areas = gains(methods)
    people = max((area.people for area, _ in areas.values()), default=0)
    sample = f"over {people:,} people, {in_words(seeds)}"
    significant = [name for name, (area, p) in areas.items() if p < ALPHA and area.low > 0]
    if significant:
        best = max(significant, key=lambda name: areas[name][0].value)
        area, _ = areas[best]
        sentence = (
            f"{best} finds more with the model than the imputation without it: "
            f"AUC {area.value:+.3f} [{area.low:.3f}, {area.high:.3f}], {sample}."
        )
        return Conclusion("evidence of leakage", (sentence,))
    tie = f"No attack is shown to find more than the imputation, {sample}."
    if failed := [row.method for row in methods if row.method not in CONTROLS and row.method not in areas]:
        return Conclusion(
            "inconclusive", (tie, f"{', '.join(failed)} failed: mend what its row names, or leave the attack out.")
        )
    if useless:
        return Conclusion(
            "inconclusive",
            (
                tie,
                "But the target names the outcomes of its own records worse than the commonest does: check that it is "
                "asked as it was trained.",
            ),
        )
    bounds = {row.method: row.gain.bound for row in methods if row.gain is not None and row.gain.bound is not None}
    worst = max(bounds, key=bounds.__getitem__)
    if bounds[worst] < notable:
        excluded = f"An addition above {bounds[worst]:+.3f} of AUC can be excluded, and {notable:+g} was notable."
        return Conclusion("no evidence", (tie, excluded))
    area, _ = areas[worst]
    return Conclusion(
        "inconclusive",
        (
            tie,
            f"{worst.capitalize()} may add up to {bounds[worst]:+.3f} of AUC, and {notable:+g} is notable.",
            ending(area.value, _spread(area), notable, people),
        ),
    )


def _spread(area: Estimate) -> float:
    """Standard deviation of what one person adds to the area, from the end of its interval."""
    return (area.high - area.value) / 1.96 * float(np.sqrt(area.people))
