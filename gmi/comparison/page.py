"""The page of a comparison: a pure function of `comparison.json` (page.schema.json describes it)."""

from pathlib import Path
from typing import Any

from gmi.report import page, plots
from gmi.report.coverage import tested
from gmi.report.terms import estimate, glossary, label, number, rate

TEMPLATE = Path(__file__).with_name("page.html")
EXPLAINED = ("interval", "accuracy", "calibration", "query", "fmr", "rule of 30", "chance", "prior", "random")


def render(folder: Path) -> Path:
    """Writes `folder/comparison.html` and returns it. Raises GmiError where comparison.json is missing or damaged."""
    report = page.read(Path(folder, "comparison.json"))
    return page.write(Path(folder, "comparison.html"), TEMPLATE, (estimate, rate, number), report | _view(report))


def _view(report: dict[str, Any]) -> dict[str, Any]:
    """The values that the template shows besides the findings themselves."""
    doubtful = {f"match@{cut['fmr']:g}" for cut in report["thresholds"] if not cut["trusted"]}
    metrics = [metric for metric in report["chance"] if metric not in doubtful]
    targets = dict.fromkeys(arm["target"] for arm in report["arms"])
    return {
        "parts": [_part(report, target) for target in targets],
        "metrics": metrics,
        "brief": [metric for metric in metrics if not metric.startswith("match")],
        "doubtful": doubtful,
        "glossary": glossary([*EXPLAINED, *metrics, report["judge"]]),
        **tested(report),
    }


def _part(report: dict[str, Any], target: str) -> dict[str, Any]:
    """One target's part of the page."""
    arms, metric = [arm for arm in report["arms"] if arm["target"] == target], report["metric"]
    best = front(arms, metric)
    return {
        "name": target,
        "arms": arms,
        "cells": [cell for cell in report["cells"] if cell["target"] == target],
        "tradeoff": plots.tradeoff(arms, metric, label(metric), best),
        "front": best,
    }


def front(arms: list[dict[str, Any]], metric: str) -> list[str]:
    """Names of the arms that no other beats both in accuracy and in what its worst level of access gives away."""
    places = {
        arm["name"]: (arm["accuracy"]["value"], worst(arm, metric)["value"])
        for arm in arms
        if "failed" not in arm["accuracy"] and "failed" not in worst(arm, metric)
    }
    return [
        name
        for name, (accuracy, leak) in places.items()
        if not any(
            other[0] >= accuracy and other[1] <= leak and other != (accuracy, leak)
            for rival, other in places.items()
            if rival != name
        )
    ]


def worst(arm: dict[str, Any], metric: str) -> dict[str, Any]:
    """The figure of the level of access that gives most away; one that could not be computed counts as the worst."""
    return max((leak["figures"][metric] for leak in arm["leaks"]), key=lambda figure: figure.get("value", 2.0))
