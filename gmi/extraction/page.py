"""The page of an extraction audit: a pure function of `extraction.json` (page.schema.json says what it holds)."""

from pathlib import Path
from typing import Any

from gmi.report import page
from gmi.report.coverage import coverage
from gmi.report.terms import estimate, number, rate

TEMPLATE = Path(__file__).with_name("page.html")


def render(folder: Path) -> Path:
    """Write `folder/extraction.html` by one rename, and return it. Raises GmiError where extraction.json is missing."""
    report: dict[str, Any] = page.read(Path(folder, "extraction.json"))
    view = {"coverage": coverage({"records", "membership"} if report["white_box"] else {"records"})}
    return page.write(Path(folder, "extraction.html"), TEMPLATE, (estimate, rate, number), report | view)
