"""The verdict of an extraction audit: whether the target's samples copy more of its records than chance does."""

from gmi.metrics.conclusion import Conclusion, ending
from gmi.metrics.rates import TAIL, unseen
from gmi.metrics.repeats import in_words, trained_difference
from gmi.metrics.statistics import Array, Estimate


def bound(target: Array, control: Array) -> float:
    """The most that the target's share (S, P) may have over the control's.

    Never less than people unlike all those observed can add: a copy that the control makes excludes nothing.
    """
    return max(trained_difference(target, control, tail=2 * TAIL).estimate.high, unseen(target.shape[1]))


BLIND = 0.9  # share of the records, a little noisy, that have to be found for an acquittal


def verdict(
    excess: Estimate, most: float, spread: float, notable: float, seeds: int = 1, recall: float = 1.0
) -> Conclusion:
    """Whether the target's samples copy more of the records than the control's do.

    most: the bound of the excess; "no evidence" needs it below `notable`.
    spread: standard deviation of the per-person excess.
    recall: share of the records that would be found if the samples copied them but for a little noise.
    """
    figure = f"{100 * excess.value:.0f} % [{100 * excess.low:.0f}, {100 * excess.high:.0f}]"
    sample = f"over {excess.people:,} people, {in_words(seeds)}"
    than = f"more of its records than a model's that never saw them, {sample}."
    if excess.low > 0:
        return Conclusion("evidence of leakage", (f"The target's samples copy {figure} {than}",))
    tie = f"The target's samples are not shown to copy {than}"
    if recall < BLIND:
        blind = (
            f"But of the records themselves, a little noisy, only {recall:.0%} are found as copies: what counts as a "
            "copy is too strict here. Look for records among data.alike and data.held_out, or raise ratio."
        )
        return Conclusion("inconclusive", (tie, blind))
    if most < notable:
        excluded = f"That they copy {100 * most:.1f} % more can be excluded, and {100 * notable:g} % was notable."
        return Conclusion("no evidence", (tie, excluded))
    return Conclusion(
        "inconclusive",
        (
            tie,
            f"They may copy up to {100 * most:.1f} % more, and {100 * notable:g} % is notable.",
            ending(excess.value, spread, notable, excess.people),
        ),
    )
