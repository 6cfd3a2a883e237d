"""The page of an extraction audit: a pure function of `extraction.json` (page.schema.json says what it holds)."""

from pathlib import Path

from gmi.report import page
from gmi.report.coverage import tested
from gmi.report.terms import estimate, glossary, number, rate

TEMPLATE = Path(__file__).with_name("page.html")
EXPLAINED = ("interval", "copy", "ratio of distances", "area", "hits")

ROLES = {
    "target": ("the target", "its records"),
    "control": ("the control", "the same records"),
    "guided target": ("the target, guided", "its records"),
    "guided control": ("the control, guided", "the same records"),
    "held-out": ("the target", "held-out images"),
    "alike": ("the target", "other photographs of the same people"),
}
"""The owner of each row of samples, and what they are compared with."""

METHODS = {
    "inversion": "inversion: how near an image it can make comes",
    "inversion, relative to the control": "inversion, relative to the control",
    "denoising": "denoising: how small its error is",
    "denoising, relative to the control": "denoising, relative to the control",
}
"""What each white-box method is called on the page, in its order; one that is not here has its own name, at the end."""

OTHERS = {"held-out": "images of other people", "alike": "other photographs of the same people"}


def render(folder: Path) -> Path:
    """Writes `folder/extraction.html`. Raises GmiError as `page.read`."""
    report = page.read(Path(folder, "extraction.json"))
    view = {**tested(report), "glossary": glossary(EXPLAINED), "roles": ROLES, "methods": METHODS, "others": OTHERS}
    return page.write(Path(folder, "extraction.html"), TEMPLATE, (estimate, rate, number), report | view)
