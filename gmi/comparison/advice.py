"""The finding of each comparison with the undefended target, and one sentence of advice for each defence."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

from gmi.comparison.figures import ArmFigures, Leak
from gmi.inversion.exposure import METRIC
from gmi.metrics.statistics import Estimate, holm


def annotate(arms: Sequence[ArmFigures]) -> tuple[ArmFigures, ...]:
    """The arms with what each reduction shows, and the advice that follows from it.

    A difference counts where its interval and Holm's correction exclude chance, over all arms and levels that were
    tested, and every seed has its sign. What is the same attack on the same weights is no test.
    """
    adjusted = iter(holm([leak.p for arm in arms for leak in arm.leaks if leak.p is not None]))
    return tuple(_annotated(arm, adjusted) for arm in arms)


def _annotated(arm: ArmFigures, adjusted: Iterator[float]) -> ArmFigures:
    """The arm with the next p-values."""
    leaks = [leak if leak.p is None else replace(leak, p=next(adjusted)) for leak in arm.leaks]
    judged = replace(arm, leaks=tuple(replace(leak, finding=finding(leak)) for leak in leaks))
    return judged if arm.cost is None else replace(judged, advice=advice(judged, arm.cost))


def finding(leak: Leak) -> Literal["less", "more", "not shown"] | None:
    """The finding that the reduction and its p-value allow; None where nothing is compared."""
    if leak.seeds is None:
        return None
    reduction = leak.reduction[METRIC]
    if leak.p is None or not isinstance(reduction, Estimate):
        return "not shown"
    if leak.p >= 0.05 or reduction.low <= 0 <= reduction.high:
        return "not shown"
    if not (all(seed > 0 for seed in leak.seeds) or all(seed < 0 for seed in leak.seeds)):
        return "not shown"
    return "less" if reduction.value > 0 else "more"


def advice(arm: ArmFigures, cost: Estimate) -> str:
    """One sentence of advice on an arm with its findings; it says how many trainings it rests on."""
    return f"{_finding(arm, cost)} ({_trainings(arm)})."


def _trainings(arm: ArmFigures) -> str:
    count = max((len(leak.seeds) for leak in arm.leaks if leak.seeds is not None), default=1)
    return "one training of each: its luck is not known" if count == 1 else f"{count} trainings of each"


def _finding(arm: ArmFigures, cost: Estimate) -> str:
    name = arm.name
    levels: dict[str, list[str]] = {"less": [], "more": [], "not shown": []}
    for leak in arm.leaks:
        kind = leak.finding or "not shown"
        levels[kind].append(leak.access if kind == "not shown" else f"{leak.access} ({_change(leak)})")
    value, low, high = (f"{round(100 * end, 1) + 0.0:.1f}" for end in (cost.value, cost.low, cost.high))  # no -0.0
    price = f"{value} points of accuracy [{low}, {high}]"
    if arm.masking:
        return f"Do not rely on {name}: it misleads these searches rather than hides people, for {price}"
    if levels["more"]:
        return f"Do not deploy {name}: more is found than without it by {_and(levels['more'])}, for {price}"
    if not levels["less"]:
        return f"Do not count on {name}: it is not shown to help against any of these attacks{_most(arm)}, for {price}"
    against = f"less is found by {_and(levels['less'])}"
    if levels["not shown"]:
        against += f", which is not shown by {_and(levels['not shown'])}"
    if arm.affordability == "no":
        return f"Do not deploy {name} as it is: it costs more than is allowed, {price}, though {against}"
    doubt = "" if arm.affordability == "yes" else ", which is not shown to be within what is allowed"
    return f"Consider {name}: {against}, for {price}{doubt}"


def _change(leak: Leak) -> str:
    """How the AUC differs from that on the undefended target, in words."""
    reduction = leak.reduction[METRIC]
    assert isinstance(reduction, Estimate)  # else there is no finding
    change = f"AUC {-reduction.value:+.2f} [{-reduction.high:+.2f}, {-reduction.low:+.2f}]"
    if leak.own_opinion >= 0.5:
        return change
    return f"{change}, by a search that the target takes for its people in {leak.own_opinion:.0%} of cases"


def _most(arm: ArmFigures) -> str:
    """How much it may help after all, in words: the upper ends of the reductions' intervals."""
    reductions = [(leak.access, leak.reduction[METRIC]) for leak in arm.leaks if leak.p is not None]
    ends = [f"{max(0.0, most.high):.2f} by {access}" for access, most in reductions if isinstance(most, Estimate)]
    return f" (it lowers the AUC by at most {_and(ends)})" if ends else ""


def _and(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
