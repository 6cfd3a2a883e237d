"""A run in brief: what was audited, what was found, in figures with intervals, and what was not tested.

`summary.md` is this on one page; `card.md` is a model card's part; a dossier has one brief for each of its runs.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from gmi.errors import visible
from gmi.report.coverage import coverage
from gmi.report.figures import Row, membership, rows
from gmi.report.page import worded_label
from gmi.report.subjects import reworded
from gmi.report.terms import written

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
        "verdict.advantages": ("leak", "identity"),
        "results": ("match", "rank1", "auc"),
        "related.membership.methods": ("auc", "hits"),
        "related.copying": ("agreement", "accuracy"),
        "related.templates": ("match", "rank1"),
    },
    "ladder": {"points": ("queries", "match", "rank1", "auc"), "random_prior": ("match",)},
    "comparison": {"arms": ("accuracy", "cost"), "arms.leaks": ("auc", "reduction.auc")},
    "attributes": {
        "sets.training.methods": ("accuracy", "gain.accuracy", "auc", "gain.auc"),
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
PARTS = {
    "verdict.advantages": "Advantage over images that know nothing of the model",
    "results": "How often images are taken for their person",
    "related.membership.methods": "Whether a photograph was trained on",
    "related.copying": "How well a student copies the model",
    "related.templates": "Whom images from templates pass for",
    "points": "By level of access",
    "random_prior": "Samples of the prior, which know nothing of the model",
    "arms": "What each defence costs",
    "arms.leaks": "What it leaves to an adversary",
    "groups.rows": "By groups of people: gains over the imputation, and over everybody else's",
    "sets.training.methods": "The attribute of people in the training set; gains over an imputation without the model",
    "data": "Records copied, in excess of a model that never saw them",
    "rows": "What samples copy",
    "white_box": "What the weights know",
    "control": "People at a camera: the control",
    "strangers": "People at the camera whom the target does not know",
    "traffic": "Attacks whose queries the watch looks at",
    "traffic.disguised": "The same attacks, hidden among photographs",
}
WORDS = {
    "leak": "AUC gained",
    "identity": "among look-alikes",
    "agreement": "agrees with the model",
    "reduction.auc": "AUC less than undefended",
    "cost": "accuracy lost",
    "accuracy": "accuracy",
    "gain.accuracy": "gain",
    "gain.auc": "gain in AUC",
    "gain": "gain in AUC",
    "contrast": "beyond everybody else's",
    "copies": "samples that are copies",
    "originals": "records that are copied",
    "excess": "share",
    "queries": "queries",
    "windows": "windows",
    "flagged": "of them flagged",
    "first": "queries before the first alarm",
    "sent": "images sent before the first alarm",
}
"""Metrics for which no page has a label."""
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
    access: str
    finding: str  # of the verdict; empty: this kind of audit has none
    because: tuple[str, ...]
    beside: tuple[str, ...]  # findings of attacks that have a verdict of their own, each with its reasons
    cautions: tuple[str, ...]  # checks that warn, and defences that mislead searches
    tables: tuple[Table, ...]
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
    missing = [row.attack for row in coverage(report["attacks"]) if not row.made]
    return Brief(
        kind=report["kind"],
        name=report["name"],
        system=None if allowed is None else allowed["system"],
        permission=None if allowed is None else f"{allowed['allowed_by']}, until {allowed['until']}{_late(report)}",
        access=_access(report),
        finding=verdict.get("finding", ""),
        because=(*verdict.get("because", ()), *filter(None, [verdict.get("effect")])),
        beside=tuple(_beside(report)),
        cautions=tuple(_cautions(report)),
        tables=tuple(_tables(report)),
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
            columns = tuple(_word(metric, subject) for metric in metrics)
            named = tuple((words, figures) for (words, _), figures in lines.items())
            yield Table(reworded(PARTS[part], subject), tuple(metrics), columns, named)


def _order(metric: str, wanted: tuple[str, ...]) -> tuple[int, float]:
    base, _, at = metric.partition("@")
    return wanted.index(base), -float(at or 0)


def _word(metric: str, subject: str) -> str:
    base, _, at = metric.partition("@")
    if base == "hits":
        return f"hits at {100 * float(at):g} % false alarms"
    return reworded(WORDS[base], subject) if base in WORDS else worded_label(subject, metric)


def summary(brief: Brief) -> str:
    """One page of Markdown; the user's own words are escaped."""
    permission = "No authorisation is on record." if brief.permission is None else f"Allowed by {brief.permission}."
    system = "" if brief.system is None else f" System: {brief.system}."
    lines = [
        f"# {plain(brief.title)}: {plain(brief.name)}",
        "",
        plain(f"{permission}{system} Access: {brief.access}. Finished {brief.finished[:10]} with gmi {brief.gmi}."),
        "",
        "## Finding",
        "",
        f"**{plain(brief.finding.capitalize())}.** {plain(' '.join(brief.because))}"
        if brief.finding
        else "This kind of audit compares, and has no verdict.",
        "",
        *(line for each in brief.beside for line in (plain(each), "")),
        *(["Read with caution:", "", *(f"- {plain(each)}" for each in brief.cautions), ""] if brief.cautions else []),
        "## Figures",
        "",
        "Values with 95 % intervals. Controls stand among them: what they find is no leak.",
        "",
        *(line for table in brief.tables for line in _grid(table)),
        "## What was not tested",
        "",
        *(f"- {each}" for each in brief.missing),
        *(f"- {plain(each)}" for each in brief.limits),
        "",
        "A test with known attacks is evidence about those attacks. This gives no verdict on anonymity or compliance.",
        "",
        "## How to repeat it",
        "",
        f"    gmi {COMMANDS[brief.kind]} RUN/plan.yaml --out again",
        "",
        "RUN is the run's folder, and the command starts where the audit did.",
        "",
        f"Configuration {brief.digest[:16]}; `{brief.kind}.json` has the digests of all inputs, `figures.csv` every "
        "figure.",
    ]
    return "\n".join(lines) + "\n"


def _grid(table: Table) -> Iterator[str]:
    """A table in Markdown."""
    yield f"{plain(table.title)}:"
    yield ""
    yield "| " + " | ".join(["", *map(plain, table.columns)]) + " |"
    yield "| --- |" + " ---: |" * len(table.columns)
    for name, figures in table.lines:
        cells = [written(figures[metric]) if metric in figures else "—" for metric in table.metrics]
        yield "| " + " | ".join(map(plain, [name, *cells])) + " |"
    yield ""


def card(brief: Brief) -> str:
    """A model card's part, with the figures as the results of an evaluation."""
    results = [
        EvalResult(
            task_type="privacy-audit",
            task_name=brief.title,
            dataset_type="private",
            dataset_name=brief.name,
            metric_type=metric,
            metric_name=f"{name}: {word}" if name else word,
            metric_value=figures[metric]["value"],
            metric_args={end: figures[metric][end] for end in ("low", "high")},
        )
        for table in brief.tables
        for name, figures in table.lines
        for metric, word in zip(table.metrics, table.columns, strict=True)
        if metric in figures and figures[metric]["low"] is not None
    ]
    data = ModelCardData(model_name=brief.system or brief.name, tags=["privacy-audit"], eval_results=results)
    body = summary(brief).replace("\n## ", "\n### ").replace("# ", "## Privacy audit: ", 1)
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}"))


def plain(text: str) -> str:
    """Text of one line that stays text in Markdown: no markup, no HTML, no link or mention, no further cell."""
    line = visible(" ".join(text.split()))
    line = re.sub(r"([\\`*<|~]|\b_|_\b|\](?=[(\[:]))", r"\\\1", line.replace("&", "&amp;"))
    return re.sub(r"(?<=[a-z]):(?=//)|(?<=ww)w(?=\.)|@(?=\w)", lambda sign: f"&#{ord(sign[0])};", line, flags=re.I)
