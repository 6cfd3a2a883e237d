"""The page of a watch on trial: a pure function of `watch.json` (page.schema.json describes it)."""

from pathlib import Path

from gmi.report import page
from gmi.report.coverage import tested
from gmi.report.terms import glossary, number, rate
from gmi.watching.findings import ROUNDS

TEMPLATE = Path(__file__).with_name("page.html")
EXPLAINED = ("query", "access")


def render(folder: Path) -> Path:
    """Writes `folder/watch.html` and returns it. Raises GmiError as `page.read`."""
    report = page.read(Path(folder, "watch.json"))
    hidden = any(row["disguised"] for row in report["traffic"])
    view = {"glossary": glossary(EXPLAINED), "rounds": ROUNDS, "hidden": hidden, **tested(report)}
    return page.write(Path(folder, "watch.html"), TEMPLATE, (rate, number), report | view)
