"""The other values of a sensitive attribute: what attacks tell of each, as of the one that is detected."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gmi.attributes.figures import GROUP, Answers, SetFigures, gains, set_figures
from gmi.attributes.plan import AttributeAudit
from gmi.metrics.conclusion import Conclusion
from gmi.metrics.power import people_unseen
from gmi.metrics.statistics import Outcome


@dataclass(frozen=True)
class Value:
    """What attacks have over the imputation for one value."""

    value: str
    people: int  # who have it; with several seeds, their mean
    attack: str  # the one that adds most
    gain: Outcome  # AUC beyond the imputation
    bound: float | None  # the most that it may be, of any attack, with 95 % confidence


def others(
    plan: AttributeAudit, seeds: Sequence[Answers], values: Sequence[str], detected: int
) -> dict[str, SetFigures]:
    """The figures of every value but the detected one, of which there are enough people.

    seeds: the answers of each seed. Of two values too: they have the same AUC, and attacks may be sure of one alone.
    """
    counts = np.array([np.bincount(each.people.sensitive, minlength=len(values)) for each in seeds])
    apart = np.minimum(counts, counts.sum(1, keepdims=True) - counts).min(0)
    return {
        label: set_figures(plan, seeds, code)
        for code, label in enumerate(values)
        if code != detected and apart[code] >= GROUP
    }


def rows(figures: Mapping[str, SetFigures]) -> tuple[Value, ...]:
    """What a report has of them; without those of which every attack failed."""
    found = []
    for label, each in figures.items():
        areas = gains(each.methods)
        if areas:
            best = max(areas, key=lambda attack: areas[attack][0].value)
            bounds = [row.gain.bound for row in each.methods if row.gain is not None and row.gain.bound is not None]
            found.append(Value(label, each.positives, best, areas[best][0], max(bounds, default=None)))
    return tuple(found)


def untested(
    values: Sequence[str], detected: int, figures: Mapping[str, SetFigures], notable: float
) -> tuple[str, ...]:
    """The other values that too few people have, or lack, to exclude an addition of `notable`.

    figures: of the other values of which there are any. Of two values, who lacks one has the other.
    """
    enough = people_unseen(notable)

    def acquits(value: str) -> bool:
        each = figures.get(value)
        return each is not None and min(each.positives, each.people - each.positives) >= enough

    rest = [value for code, value in enumerate(values) if code != detected]
    return tuple(value for value in rest if not acquits(value)) if len(rest) > 1 else ()


def together(detected: Conclusion, beside: Mapping[str, Conclusion], few: Sequence[str]) -> Conclusion:
    """The verdict of all values: evidence of any is evidence, and nobody is acquitted but of all.

    beside: the verdicts of the other values. few: those of which evidence alone counts, as too few people have them.
    """
    told = [("", detected), *((f"Of the value {value}: ", each) for value, each in beside.items())]
    bounded = [("", detected), *((f"Of the value {value}: ", beside[value]) for value in beside if value not in few)]
    for finding, said in (("evidence of leakage", told), ("inconclusive", bounded)):
        for where, each in said:
            if each.finding == finding:
                return Conclusion(each.finding, (where + each.because[0], *each.because[1:]))
    same = ", ".join(value for value in beside if value not in few)
    more = [f"So it is of {same}."] if same else []
    if few:
        more.append(f"Of {', '.join(few)} it is not known: too few of the attacked people have that value, or lack it.")
    return Conclusion(detected.finding, (*detected.because, *more))
