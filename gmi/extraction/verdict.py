"""The verdict of an extraction audit: whether the target's samples copy more of its records than chance does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gmi.metrics.conclusion import Conclusion, ending
from gmi.metrics.rates import TAIL, unseen
from gmi.metrics.repeats import in_words, trained_difference
from gmi.metrics.statistics import Array, Estimate


def bound(target: Array, control: Array) -> float:
    """The most that the target's share (S, P) may have over the control's.

    Never less than people unlike all those observed can add: a copy that the control makes excludes nothing.
    """
    return max(trained_difference(target, control, tail=2 * TAIL).estimate.high, unseen(target.shape[1]))


BLIND = 0.9  # share of the records, zoomed and a little noisy, that have to be found for an acquittal


@dataclass(frozen=True)
class Excess:
    """What one way of sampling shows of the records, beyond what the control's samples show by the same way."""

    figure: Estimate
    low: float  # the lower end of its interval, by Bonferroni for the number of figures
    bound: float  # the most that it may be
    spread: float  # standard deviation of the per-person excess


def excess(target: Array, control: Array, ways: int = 1) -> Excess:
    """The excess of the target's share (S, P) over the control's, as one of so many figures that are tested."""
    return Excess(
        trained_difference(target, control).estimate,
        trained_difference(target, control, tail=TAIL / ways).estimate.low,
        bound(target, control),
        float((target - control).mean(0).std()),
    )


def verdict(
    ways: Mapping[str, Excess],
    notable: float,
    seeds: int = 1,
    recall: float = 1.0,
    people: Mapping[str, Excess] | None = None,
    doubts: Sequence[str] = (),
) -> Conclusion:
    """Whether the target's samples copy more of the records than the control's do.

    ways: the excess of each way of sampling, by what its samples are called.
    notable: what has to be excluded; "no evidence" needs the bound of every way below it.
    recall: share of the records that would be found if the samples copied them zoomed and a little noisy.
    people: the same of the share of people of whom any record is copied: where each has many, a mean over records hides
        that one of most people's is.
    doubts: reasons why copies may be there that these figures do not show (`gmi.extraction.doubts`). They bar an
        acquittal.
    Evidence: the excess of one way lies above 0, with Bonferroni's correction for the number of figures.
    """
    most = max(ways.values(), key=lambda way: way.bound)
    sample = f"over {most.figure.people:,} people, {in_words(seeds)}"
    than = f"more of its records than a model's that never saw them, {sample}."
    if shown := {name: way.figure for name, way in ways.items() if way.low > 0}:
        name, best = max(shown.items(), key=lambda pair: pair[1].value)
        figure = f"{100 * best.value:.0f} % [{100 * best.low:.0f}, {100 * best.high:.0f}]"
        return Conclusion("evidence of leakage", (f"The target's {name} copy {figure} {than}",))
    if found := {name: way.figure for name, way in (people or {}).items() if way.low > 0}:
        name, best = max(found.items(), key=lambda pair: pair[1].value)
        figure = f"{100 * best.value:.0f} % [{100 * best.low:.0f}, {100 * best.high:.0f}]"
        return Conclusion(
            "evidence of leakage",
            (
                f"The target's {name} copy a record of {figure} more of the people than a model's that never saw them, "
                f"{sample}.",
            ),
        )
    tie = f"The target's {' and '.join(ways)} are not shown to copy {than}"
    if recall < BLIND:
        blind = (
            f"But of the records themselves, zoomed and a little noisy, only {recall:.0%} are found as copies: what "
            "counts as a copy is too strict here. Look for records among data.alike and data.held_out, or raise ratio."
        )
        return Conclusion("inconclusive", (tie, blind))
    if leaning := [way.figure for way in (*ways.values(), *(people or {}).values()) if way.figure.low > 0]:
        best = max(leaning, key=lambda figure: figure.value)
        alone = (
            f"But by one of the figures alone they copy {100 * best.value:.1f} % [{100 * best.low:.1f}, "
            f"{100 * best.high:.1f}] more: more samples, or another seed, will tell whether that is chance."
        )
        return Conclusion("inconclusive", (tie, alone))
    if doubts:
        return Conclusion("inconclusive", (tie, *doubts))
    anybody = max((people or {}).values(), key=lambda way: way.bound, default=most)
    if most.bound < notable <= anybody.bound:
        return Conclusion(
            "inconclusive",
            (
                tie,
                f"They may copy a record of up to {100 * anybody.bound:.1f} % more of the people, and "
                f"{100 * notable:g} % is notable.",
                ending(anybody.figure.value, anybody.spread, notable, anybody.figure.people),
            ),
        )
    if most.bound < notable:
        excluded = f"That they copy {100 * most.bound:.1f} % more can be excluded, and {100 * notable:g} % was notable."
        return Conclusion("no evidence", (tie, excluded))
    return Conclusion(
        "inconclusive",
        (
            tie,
            f"They may copy up to {100 * most.bound:.1f} % more, and {100 * notable:g} % is notable.",
            ending(most.figure.value, most.spread, notable, most.figure.people),
        ),
    )
