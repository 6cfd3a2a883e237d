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
    """The figures of every value but the detected one, of which there are enough people; of two values, none.

    seeds: the answers of each seed. Of two values, what tells one tells the other.
    """
    if len(values) < 3:
        return {}
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


def together(
    detected: Conclusion,
    beside: Mapping[str, Conclusion],
    figures: Mapping[str, SetFigures],
    notable: float,
    untested: Sequence[str] = (),
) -> Conclusion:
    """The verdict of all values: evidence of any is evidence, and nobody is acquitted but of all.

    beside, figures: the verdicts and figures of the other values. untested: those that too few have for any figures.
    Of a value that too few people have, or lack, to exclude `notable`, evidence alone counts.
    """
    enough = people_unseen(notable)
    few = [value for value, each in figures.items() if min(each.positives, each.people - each.positives) < enough]
    told = [("", detected), *((f"Of the value {value}: ", each) for value, each in beside.items())]
    bounded = [("", detected), *((f"Of the value {value}: ", beside[value]) for value in beside if value not in few)]
    for finding, said in (("evidence of leakage", told), ("inconclusive", bounded)):
        for where, each in said:
            if each.finding == finding:
                return Conclusion(each.finding, (where + each.because[0], *each.because[1:]))
    same = ", ".join(value for value in beside if value not in few)
    more = [f"So it is of the values {same}."] if same else []
    if unknown := [*few, *untested]:
        more.append(f"Of the values {', '.join(unknown)} it is not known: too few people who have them are attacked.")
    return Conclusion(detected.finding, (*detected.because, *more))
