"""The page of a comparison: a pure function of `comparison.json` (page.schema.json says what it holds)."""

from pathlib import Path
from typing import Any

from gmi.report import page, plots
from gmi.report.coverage import coverage
from gmi.report.terms import estimate, label, number, rate

TEMPLATE = Path(__file__).with_name("page.html")


def render(folder: Path) -> Path:
    """Write `folder/comparison.html` by one rename, and return it. Raises GmiError where comparison.json is missing."""
    report = page.read(Path(folder, "comparison.json"))
    filters = (label, estimate, rate, number)
    return page.write(Path(folder, "comparison.html"), TEMPLATE, filters, report | _view(report))


def _view(report: dict[str, Any]) -> dict[str, Any]:
    """What the template shows besides the comparison itself."""
    targets = dict.fromkeys(arm["target"] for arm in report["arms"])
    doubtful = {f"match@{cut['fmr']:g}" for cut in report["thresholds"] if not cut["trusted"]}
    metrics = [metric for metric in report["chance"] if metric not in doubtful]
    parts = []
    for target in targets:
        arms = [arm for arm in report["arms"] if arm["target"] == target]
        parts.append(
            {
                "name": target,
                "arms": arms,
                "cells": [cell for cell in report["cells"] if cell["target"] == target],
                "tradeoff": plots.tradeoff(
                    arms, report["metric"], label(report["metric"]), front(arms, report["metric"])
                ),
                "front": front(arms, report["metric"]),
            }
        )
    return {"parts": parts, "metrics": metrics, "doubtful": doubtful, "coverage": coverage({"representatives"})}


def front(arms: list[dict[str, Any]], metric: str) -> list[str]:
    """Names of the arms that no other beats both in accuracy and in what its worst level of access gives away."""
    known = {
        arm["name"]: (arm["accuracy"]["value"], worst(arm, metric)["value"])
        for arm in arms
        if "failed" not in arm["accuracy"] and "failed" not in worst(arm, metric)
    }
    return [
        name
        for name, (right, leak) in known.items()
        if not any(
            other[0] >= right and other[1] <= leak and other != (right, leak)
            for key, other in known.items()
            if key != name
        )
    ]


def worst(arm: dict[str, Any], metric: str) -> dict[str, Any]:
    """The figure of the level of access that gives most away; one that could not be computed counts as the worst."""
    return max((one["figures"][metric] for one in arm["leaks"]), key=lambda one: one.get("value", 2.0))
