"""A run's summary on one page, and a model card's part, in Markdown: the user's own words stay text in it."""

import re
from collections.abc import Iterator

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from gmi.errors import visible
from gmi.report.brief import COMMANDS, Brief, Table
from gmi.report.terms import written


def summary(brief: Brief) -> str:
    """One page of Markdown; the user's own words are escaped."""
    permission = "No authorisation is on record." if brief.permission is None else f"Allowed by {brief.permission}."
    facts = {
        "System": brief.system,
        "Data": brief.data,
        "Model, or how its interface was described, by SHA-256": brief.model[:16],
        "Access": brief.access,
    }
    about = " ".join(f"{key}: {value}." for key, value in facts.items() if value)
    lines = [
        f"# {plain(brief.title)}: {plain(brief.name)}",
        "",
        plain(f"{permission} {about} Finished {brief.finished[:10]} with gmi {brief.gmi}."),
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
        "What the words mean:",
        "",
        *(f"- **{plain(term.label)}**: {plain(term.meaning)}." for term in brief.words),
        "",
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
            dataset_name=brief.data or brief.name,
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
