"""The page of an attribute audit: a pure function of `attributes.json` (page.schema.json says what it holds)."""

from pathlib import Path

from gmi.attributes.attacks import ATTACKS
from gmi.attributes.figures import CONTROLS
from gmi.attributes.oracles import Reads
from gmi.report import page
from gmi.report.coverage import tested
from gmi.report.terms import estimate, glossary, number, rate

TEMPLATE = Path(__file__).with_name("page.html")
EXPLAINED = ("interval", "accuracy", "imputation", "area", "hits")

WORDS: dict[Reads, str] = {
    "predictions": "predictions",
    "answers": "scores, or predictions of a number",
    "labels": "predictions",
    "scores": "scores",
    "leaves": "the whole tree",
}
"""What an attack asks for, by what it reads."""

ACCESS = {attack.type: WORDS[attack.reads] for attack in ATTACKS} | dict.fromkeys(CONTROLS, "nothing")
"""What each attack or control asks of the target."""


def render(folder: Path) -> Path:
    """Writes `folder/attributes.html`. Raises GmiError as `page.read`."""
    report = page.read(Path(folder, "attributes.json"))
    view = {**tested(report), "glossary": glossary(EXPLAINED), "access": ACCESS}
    return page.write(Path(folder, "attributes.html"), TEMPLATE, (estimate, rate, number), report | view)
