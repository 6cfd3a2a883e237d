"""A run in brief: what was audited, what was found, in figures with intervals, and what was not tested.

`summary.md` and `card.md` are made of it, and a dossier has one brief for each of its runs.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gmi.report.coverage import coverage
from gmi.report.figures import Row, membership, rows
from gmi.report.page import worded_label
from gmi.report.parts import PARTS, word
from gmi.report.subjects import reworded
from gmi.report.terms import KINDS, Term, glossary

TITLES = {
    "report": "Model inversion",
    "ladder": "Levels of access",
    "comparison": "What defences buy",
    "attributes": "Inference of an attribute",
    "extraction": "Training records out of a generative model",
    "watch": "A watch on queries",
}
"""What each kind of audit is called, by the name of its file."""
COMMANDS = {"report": "audit", "ladder": "ladder", "comparison": "compare", "attributes": "attributes"} | {
    "extraction": "extract",
    "watch": "watch",
}
REACHES = {"api": "answers of an interface", "weights": "weights"}

HEADLINES = {
    "report": {
        "verdict.advantages": ("leak", "bound", "matches", "identity"),
        "results": ("match", "rank1", "auc"),
        "related.membership.methods": ("auc", "hits"),
        "related.copying": ("agreement", "accuracy"),
        "related.templates": ("match", "rank1"),
    },
    "ladder": {"points": ("queries", "match", "rank1", "auc"), "random_prior": ("match",)},
    "comparison": {"arms": ("accuracy", "cost"), "arms.leaks": ("auc", "reduction.auc")},
    "attributes": {
        "sets.training.methods": ("accuracy", "gain.accuracy", "auc", "gain.auc"),
        "values": ("gain",),
        "groups.rows": ("gain", "contrast"),
    },
    "extraction": {"data": ("excess",), "rows": ("copies", "originals"), "white_box": ("auc",)},
    "watch": {
        "control": ("queries", "windows", "flagged"),
        "strangers": ("queries", "windows", "flagged"),
        "traffic": ("queries", "windows", "flagged", "first"),
        "traffic.disguised": ("windows", "flagged", "sent"),
    },
}
"""The figures that tell a run's outcome, by kind of audit: parts of figures.csv, and their metrics without rates."""
EXPLAINED = {
    "report": ("interval", "fmr", "advantage", "notable"),
    "ladder": ("interval", "fmr"),
    "comparison": ("interval",),
    "attributes": ("interval", "imputation", "area", "hits"),
    "extraction": ("interval", "copy", "area", "hits"),
    "watch": ("interval", "query"),
}
"""What the words of a brief are besides those of its figures, by kind of audit."""
HIDDEN = {"part", "metric", "value", "low", "high", "unit", "people", "failed", "fmr", "name"}
"""Keys of a figure that are no label of its row in a table."""


@dataclass(frozen=True)
class Table:
    """Figures of one part of a report: a line for each method, attack, arm or the like, a column for each metric."""

    title: str
    metrics: tuple[str, ...]
    columns: tuple[str, ...]  # the metrics in words
    lines: tuple[tuple[str, dict[str, Row]], ...]  # each with its figures by metric


@dataclass(frozen=True)
class Brief:
    """What a page of one run says."""

    kind: str  # of audit: its file is KIND.json
    name: str  # the run's
    system: str | None  # by its authorisation
    permission: str | None  # who allowed the audit, and until when
    data: str  # its name in the configuration; empty: the report has none
    model: str  # SHA-256 of what was attacked, or of how an interface was described; empty: there were several
    access: str
    finding: str  # of the verdict; empty: this kind of audit has none
    because: tuple[str, ...]
    beside: tuple[str, ...]  # findings of attacks that have a verdict of their own, each with its reasons
    cautions: tuple[str, ...]  # checks that warn, and defences that mislead searches
    tables: tuple[Table, ...]
    words: tuple[Term, ...]  # what figures and findings mean
    missing: tuple[str, ...]  # attacks that were not made
    limits: tuple[str, ...]
    finished: str
    gmi: str
    digest: str  # of the configuration

    @property
    def title(self) -> str:
        return TITLES[self.kind]


def brief(report: Mapping[str, Any]) -> Brief:
    """The brief of a report.json, or of another kind of audit's file."""
    subject, verdict, allowed = report.get("subject", "faces"), report.get("verdict") or {}, report["authorisation"]
    missing, tables = [row.attack for row in coverage(report["attacks"]) if not row.made], tuple(_tables(report))
    data = report.get("data", "")
    return Brief(
        kind=report["kind"],
        name=report["name"],
        system=None if allowed is None else allowed["system"],
        permission=None if allowed is None else f"{allowed['allowed_by']}, until {allowed['until']}{_late(report)}",
        data=data if isinstance(data, str) else data["name"],
        model=report["provenance"]["digests"].get("target") or "",
        access=_access(report),
        finding=verdict.get("finding", ""),
        because=(*verdict.get("because", ()), *filter(None, [verdict.get("effect")])),
        beside=tuple(_beside(report)),
        cautions=tuple(_cautions(report)),
        tables=tables,
        words=tuple(_words(report["kind"], tables, subject)),
        missing=tuple(
            reworded(attack.what, subject) + (f" (`{attack.command}`)" if attack.command else "") for attack in missing
        ),
        limits=tuple(report.get("limits", ())),
        finished=report["provenance"]["finished"],
        gmi=report["gmi"],
        digest=report["provenance"]["config_digest"],
    )


def _late(report: Mapping[str, Any]) -> str:
    """That an authorisation was entered after the figures were found, where it was."""
    late = report["authorised"] > report["provenance"]["finished"]
    return f" (entered on {report['authorised'][:10]}, after the figures were found)" if late else ""


def _beside(report: Mapping[str, Any]) -> Iterator[str]:
    """What is found of membership, beside the verdict of the first attack."""
    if (verdict := membership(report)) is not None:
        part = "white_box" if "known" in report else "related.membership.methods"
        title = reworded(PARTS[part], report.get("subject", "faces"))
        yield f"{title}: {verdict['finding']}. {' '.join(verdict['because'])}"


def _cautions(report: Mapping[str, Any]) -> Iterator[str]:
    """What the page warns of, unless the verdict's reasons say it already."""
    said = (report.get("verdict") or {}).get("because", ())
    for check in report.get("checks", ()):
        if check["severity"] in ("stop", "warning") and check["message"] not in said:
            yield f"{check['name'][:1].upper()}{check['name'][1:]}: {check['message']}"
    for arm in report.get("arms", ()):
        yield from (f"{arm['name']}: {reason}" for reason in arm["masking"])


def _access(report: Mapping[str, Any]) -> str:
    """The levels of access at which a run attacked."""
    if "access" in (report.get("verdict") or {}):
        return str(report["verdict"]["access"])
    levels = [point["access"] for point in report.get("points", ())]
    levels += [each["access"] for each in report.get("traffic", ())]
    levels += [leak["access"] for arm in report.get("arms", ()) for leak in arm["leaks"]]
    reaches = {REACHES[reach] for ways in report["attacks"].values() for reach in ways}
    return ", ".join(dict.fromkeys(levels) or sorted(reaches))


def _tables(report: Mapping[str, Any]) -> Iterator[Table]:
    """The figures that tell the outcome, part by part; match rates at the greatest false match rate."""
    subject, judge = report.get("subject", "faces"), (report.get("verdict") or {}).get("judge")
    every = rows(report)
    for part, wanted in HEADLINES[report["kind"]].items():
        mine = [row for row in every if row["part"] == part and row["metric"].split("@")[0] in wanted]
        if part == "results":
            mine = [row for row in mine if row["judge"] == judge]
        rates = {row["metric"] for row in mine if row["metric"].startswith("match@")}
        spare = rates - {max(rates, key=lambda metric: float(metric.split("@")[1]), default="")}
        lines: dict[tuple[str, str], dict[str, Row]] = {}  # by their words, and by a name that tells twins apart
        for row in mine:
            if row["metric"] not in spare:
                labels = [str(value) for key, value in row.items() if key not in HIDDEN]
                words = ", ".join(worded_label(subject, each) for each in labels)
                lines.setdefault((words, row.get("name", "")), {})[row["metric"]] = row
        chance = lines.pop((", ".join(filter(None, ("chance", worded_label(subject, judge or "")))), ""), None)
        matched = chance is not None and any(metric.startswith("match@") for metric in chance)
        label = "Chance (of matches: what samples of the prior do)" if matched else "Chance"
        lines |= {} if chance is None else {(label, ""): chance}
        metrics = sorted({metric: None for each in lines.values() for metric in each}, key=lambda m: _order(m, wanted))
        if lines:
            columns = tuple(word(metric, subject) for metric in metrics)
            named = tuple((words, figures) for (words, _), figures in lines.items())
            yield Table(reworded(PARTS[part], subject), tuple(metrics), columns, named)


def _order(metric: str, wanted: tuple[str, ...]) -> tuple[int, float]:
    base, _, at = metric.partition("@")
    return wanted.index(base), -float(at or 0)


def _words(kind: str, tables: Iterable[Table], subject: str) -> Iterator[Term]:
    """What a reader who knows none of the words needs, each once."""
    used = [*EXPLAINED[kind]]
    for table in tables:
        used += [row[key] for _, figures in table.lines for row in figures.values() for key in KINDS if key in row]
    for term in glossary(used).values():
        yield Term(reworded(term.label, subject), reworded(term.meaning, subject))
