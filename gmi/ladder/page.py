"""The page of a ladder: a pure function of `ladder.json` (page.schema.json describes it)."""

from pathlib import Path
from typing import Any

from gmi.report import page, plots
from gmi.report.coverage import tested
from gmi.report.terms import estimate, glossary, label, number, rate

TEMPLATE = Path(__file__).with_name("page.html")
EXPLAINED = ("interval", "query", "fmr", "rule of 30", "chance", "prior", "best_of_n", "random")


def render(folder: Path) -> Path:
    """Writes `folder/ladder.html` and returns it. Raises GmiError where ladder.json is missing or damaged."""
    report = page.read(Path(folder, "ladder.json"))
    return page.write(Path(folder, "ladder.html"), TEMPLATE, (estimate, rate, number), report | _view(report))


def _view(report: dict[str, Any]) -> dict[str, Any]:
    """The values that the template shows besides the findings themselves."""
    lines: dict[str, list[dict[str, Any]]] = {}
    for point in report["points"]:
        lines.setdefault(point["rung"], []).append(point)
    doubtful = {f"match@{cut['fmr']:g}" for cut in report["thresholds"] if not cut["trusted"]}
    metrics = [metric for metric in report["chance"] if metric not in doubtful]
    match = [metric for metric in metrics if metric.startswith("match@")]
    panels = {metric: label(metric) for metric in [*match[-1:], "rank1", "auc"]}
    random = {metric: figure["value"] for metric, figure in report["random_prior"].items() if "failed" not in figure}
    levels = {"random prior": {"auc": 0.5, **report["chance"], **random}} if set(match[-1:]) <= set(random) else {}
    return {
        "lines": lines,
        "metrics": metrics,
        "doubtful": doubtful,
        "curves": plots.curves(panels, lines, levels),
        "glossary": glossary([*EXPLAINED, *metrics, report["judge"]]),
        **tested(report),
    }
