"""What the figures of a comparison say of each defence, in one sentence."""

from collections.abc import Sequence
from typing import Any

from gmi.inversion.verdict import METRIC
from gmi.metrics.statistics import Estimate, holm

MITIGATION = {"guards": "AML.M0002 Passive AI Output Obfuscation", "training": "AML.M0003 Model Hardening"}
"""Of MITRE ATLAS."""


def affordable(cost: Estimate, margin: float) -> str:
    """Whether the accuracy that a defence costs is shown to be within the margin: yes, no, or not shown."""
    if cost.high <= margin:
        return "yes"
    return "no" if cost.low > margin else "not shown"


def find(arms: Sequence[dict[str, Any]]) -> None:
    """Fills in what each reduction shows, and the advice that follows from it.

    A difference counts where its interval and Holm's correction over all arms and levels exclude chance, and every seed
    has its sign: people are resampled, trainings are not.
    """
    leaks = [leak for arm in arms for leak in arm["leaks"] if leak["p"] is not None]
    for leak, p in zip(leaks, holm([leak["p"] for leak in leaks]), strict=True):
        less, leak["p"] = leak["reduction"][METRIC], p
        sure = "failed" not in less and p < 0.05 and (less["low"] > 0 or less["high"] < 0)
        agreed = all(seed > 0 for seed in leak["seeds"]) or all(seed < 0 for seed in leak["seeds"])
        leak["finding"] = "not shown" if not (sure and agreed) else "less" if less["value"] > 0 else "more"
    for arm in arms:
        arm["advice"] = None if arm["cost"] is None else advice(arm)


def advice(arm: dict[str, Any]) -> str:
    """One sentence."""
    cost, name = arm["cost"], arm["name"]
    found: dict[str, list[str]] = {"less": [], "more": [], "not shown": []}
    for leak in arm["leaks"]:
        found[leak["finding"] or "not shown"].append(leak["access"])
    value, low, high = (f"{round(100 * cost[end], 1) + 0.0:.1f}" for end in ("value", "low", "high"))  # no -0.0
    price = f"{value} points of accuracy [{low}, {high}]"
    if arm["masked"]:
        return f"Do not rely on {name}: it hides gradients rather than people, for {price}."
    if found["more"]:
        return f"Do not deploy {name}: more is found than without it by {_and(found['more'])}, for {price}."
    if not found["less"]:
        return f"Do not count on {name}: it is not shown to help against any of these attacks, for {price}."
    against = f"less is found by {_and(found['less'])}"
    if found["not shown"]:
        against += f", which is not shown by {_and(found['not shown'])}"
    if arm["affordable"] == "no":
        return f"Do not deploy {name} as it is: it costs more than is allowed, {price}, though {against}."
    doubt = "" if arm["affordable"] == "yes" else ", which is not shown to be within what is allowed"
    return f"Consider {name}: {against}, for {price}{doubt}."


def _and(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
