"""What a run is evidence of, in the words of standards: attacks by id, mitigations, and requirements.

The standards are data, `standards.yaml`, with the date on which they were looked up. Nothing here tells whether a
standard is complied with: a figure is evidence about itself.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from gmi.report.figures import Row, rows
from gmi.report.parts import named
from gmi.report.terms import written
from gmi.settings import settings
from gmi.settings.documents import parse_yaml

Reach = Literal["api", "weights"]
"""How an attack reaches a model: through an interface that answers, or by its weights, or by templates that leaked."""
Attacks = Mapping[str, Collection[Reach]]
"""The attacks that a run made, by their keys in standards.yaml, and how each reached the model."""
Kind = Literal["report", "ladder", "comparison", "attributes", "extraction", "watch"]


@settings
class Document:
    """A standard, a law or a guide."""

    title: str
    dated: Any  # a date, a month or a year, as far as it is known
    status: str  # published, draft, ...
    bears: str  # what it has to do with these audits


@settings
class Attack:
    """A kind of attack, and what documents call it."""

    what: str
    command: str  # that makes it; empty: gmi has none
    nist: str
    by_analogy: bool = False  # whether the document speaks of something else that is alike
    atlas: dict[Reach, tuple[str, ...]]
    owasp: tuple[str, ...]
    edpb: str  # as paragraph 55 calls it; empty: it does not


@settings
class Figure:
    """Which figures are meant, by where they stand in figures.csv."""

    kind: Kind
    part: str
    metric: str
    where: dict[str, str] = field(default_factory=dict)  # labels that they must have

    def of(self, report: Mapping[str, Any]) -> list[Row]:
        """Those figures in a report."""
        wanted = {"part": self.part, "metric": self.metric, **self.where}
        if report["kind"] != self.kind:
            return []
        return [row for row in rows(report) if all(row.get(key) == value for key, value in wanted.items())]


@settings
class Mitigation:
    """A measure against attacks."""

    id: str  # in MITRE ATLAS
    title: str
    means: str
    by_analogy: bool = False  # whether the document speaks of something else that is alike
    against: tuple[str, ...]  # keys of attacks
    reach: Literal["api", "both"]  # api: it does nothing against those who have the weights
    command: str  # that measures what it buys
    measured: tuple[Figure, ...]  # figures that tell


@settings
class Requirement:
    """What a document asks for, and the figures that bear on it."""

    document: str
    id: str
    asks: str
    figures: tuple[Figure, ...]
    command: str = ""  # that measures it, where only one does


@settings
class Standards:
    """All of standards.yaml."""

    checked: Any  # the date on which the documents were last looked up
    documents: dict[str, Document]
    attacks: dict[str, Attack]
    mitigations: tuple[Mitigation, ...]
    requirements: tuple[Requirement, ...]


@cache
def standards() -> Standards:
    """The standards as gmi comes with them."""
    text = Path(__file__).with_name("standards.yaml").read_text("utf-8")
    return TypeAdapter(Standards).validate_python(parse_yaml(text))


@dataclass(frozen=True)
class Covered:
    """A kind of attack, and whether a run made it."""

    attack: Attack
    made: tuple[Reach, ...]  # empty: it was not made

    @property
    def atlas(self) -> str:
        """Ids for the ways in which it was made; of an attack that was not made, those through an interface."""
        return ", ".join(dict.fromkeys(each for reach in self.made or ("api",) for each in self.attack.atlas[reach]))


def coverage(made: Attacks) -> list[Covered]:
    """Every kind of attack, and how this run made it. Raises KeyError for an attack that standards.yaml has not."""
    known = standards().attacks
    ways = {known[key].what: reaches for key, reaches in made.items()}
    return [Covered(attack, tuple(sorted(ways.get(attack.what, ())))) for attack in known.values()]


@dataclass(frozen=True)
class Bearing:
    """A requirement, and the figures of one report that bear on it."""

    requirement: Requirement
    document: Document
    evidence: tuple[str, ...]  # sentences: name, number and range of the figures


def bearings(report: Mapping[str, Any]) -> list[Bearing]:
    """The requirements on which a report has figures, in the order of standards.yaml."""
    found, subject = [], report.get("subject", "faces")
    for requirement in standards().requirements:
        chosen = [(figure, figure.of(report)) for figure in requirement.figures]
        if evidence := tuple(told(figure, group, subject) for figure, group in chosen if group):
            verdict = report.get("verdict") or {}
            evidence += (f"the run's finding: {verdict['finding']}",) if "finding" in verdict else ()
            found.append(Bearing(requirement, standards().documents[requirement.document], evidence))
    return found


def told(figure: Figure, group: Sequence[Row], subject: str = "faces") -> str:
    """A figure with its interval, or the range of several: `By level of access, Rank-1: 3 % to 36 % (14 figures)`."""
    name = named(figure.part, figure.metric, subject)
    known = sorted((row for row in group if row["value"] is not None), key=lambda row: row["value"])
    if not known:
        return f"{name}: not known"
    if len(group) == 1:
        return f"{name}: {written(known[0])}"
    lost = len(group) - len(known)
    ends = " to ".join(dict.fromkeys((written(known[0]), written(known[-1]))))
    ends = f"{name}: {ends} ({len(group)} figures"
    return ends + (f", of which {lost} are not known)" if lost else ")")


def tested(report: Mapping[str, Any]) -> dict[str, Any]:
    """What coverage.html shows of a report."""
    return {
        "coverage": coverage(report["attacks"]),
        "bearings": bearings(report),
        "checked": standards().checked,
        "documents": standards().documents.values(),
    }
