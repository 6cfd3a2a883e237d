"""The figures of a report as flat rows: for tables, for policies, and for files of comma-separated values.

A row has its `part` of the report, labels such as method and judge, a metric, a value with the ends of its interval,
and a unit. What is left out: files, images, digests, and anything said of a single person.
"""

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

OMITTED = {"people", "assets", "provenance", "checks", "limits", "authorisation", "gap", "advantage", "naive"}
OMITTED |= {"copies_by_record", "evidence"}
LABELS = {"target", "arm", "rung", "access", "search", "attack", "column", "role", "system", "judge", "photograph"}
LABELS |= {"method", "metric", "comparison", "fmr", "finding", "group", "name", "disguise"}
RENAMED = {"value": "group"}  # labels whose keys say something else in a results file
RENAMED_IN = {"judges": {"name": "judge"}, "arms": {"name": "arm"}}
COUNTS = {"queries", "common_queries", "person_queries", "records", "questions", "comparisons", "attacked", "gallery"}
COUNTS |= {"training_images", "enrolment_images", "samples", "reconstructions", "evaluations", "epsilon", "ledger"}
COUNTS |= {"distractors", "windows", "first", "sent"}
SHARES = {"match", "anymatch", "pairmatch", "rank", "top", "hits", "accuracy", "copies", "originals", "agreement"}
SHARES |= {"share", "ratio", "calibration_error", "own_opinion", "precision", "recall", "coverage", "undetected"}
SHARES |= {"matches", "target_accuracy", "covered", "flagged"}
LIMITS = {"bound", "matches"}  # of an advantage: the most that it may be, and of people who match
DIFFERENCES = (*LIMITS, "cost", "reduction", "gain", "contrast", "excess", "leak", "identity", "optimising")

EVIDENCE = (("evidence of identity leakage", "evidence of trait leakage"), ("evidence of leakage",))
"""Findings that something leaks, by kinds of audit: what those of images say, and what others do."""
COLUMNS = ("metric", "value", "low", "high", "unit", "people", "failed")
"""Keys of every row; the others, besides its part, are labels."""

Row = dict[str, Any]


def rows(report: Mapping[str, Any]) -> list[Row]:
    """Every figure of a report.json, or of another kind of audit's file."""
    return [*_walk(report, (), {})]


def table(report: Mapping[str, Any]) -> str:
    """The same as comma-separated values: part, labels, metric, value, ends of the interval, unit, people, failure."""
    figures = rows(report)
    labels = sorted({key for row in figures for key in row} - {"part", *COLUMNS})
    text = io.StringIO()
    writer = csv.DictWriter(text, ("part", *labels, *COLUMNS), lineterminator="\n")
    writer.writeheader()
    writer.writerows(figures)
    return text.getvalue()


def _walk(tree: Mapping[str, Any], keys: tuple[str, ...], labels: Mapping[str, str]) -> Iterator[Row]:
    """Every figure below. `keys`: those from the root, `*` for a list; labels: those of the lists' items."""
    if keys and keys[-1] == "*":
        renamed = RENAMED | RENAMED_IN.get(keys[-2], {})
        words = {renamed.get(key, key): value for key, value in tree.items() if isinstance(value, str)}
        words |= {"fmr": f"{tree['fmr']:g}"} if "fmr" in tree else {}
        labels = {**labels, **{key: word for key, word in words.items() if key in LABELS}}
    for key, value in tree.items():
        if key in OMITTED:
            continue
        part, metric = _split((*keys, key))
        in_advantage = key in LIMITS and keys[-2:] == ("advantages", "*")
        if value is None and in_advantage:
            yield line(part, labels, metric, None, unit(metric)) | {"failed": "not measured"}
        elif isinstance(value, list):
            for item in value:
                yield from _walk(item, (*keys, key, "*"), labels) if isinstance(item, dict) else ()
        elif isinstance(value, dict) and ({"value", "low", "high"} <= value.keys() or value.keys() == {"failed"}):
            metric = labels["metric"] if key == "estimate" else metric
            ends = None if "failed" in value else (value["value"], value["low"], value["high"])
            about = {name: value[name] for name in ("people", "failed") if name in value}
            yield line(part or "data", labels, metric, ends, unit(metric)) | about
            if key == "estimate" and labels.get("method") == "search" and tree.get("chance") is not None:
                yield line(part, {**labels, "method": "chance"}, metric, tree["chance"], unit(metric))
        elif isinstance(value, dict):
            yield from _walk(value, (*keys, key), labels)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            above = keys[-1] if keys else ""
            if key in COUNTS or above in COUNTS:
                yield line(part or "data", labels, metric, value, "count")
            elif in_advantage or key in ("own_opinion", "flagged") or above in ("undetected", "chance"):
                yield line(part, labels, metric, value, unit(metric))


def unit(metric: str) -> str:
    """What a figure of that name is: a share, an area, a difference of either, or a number."""
    base = metric.split("@")[0].split(".")[-1].rstrip("0123456789")
    if metric.startswith("undetected") or ".hits." in metric:
        base = "hits"
    kind = "share" if base in SHARES else "area" if base == "auc" else "number"
    if metric.split(".")[0] in DIFFERENCES:
        return "share difference" if kind == "share" or metric in ("cost", "excess") else "area difference"
    return kind


def _split(keys: tuple[str, ...]) -> tuple[str, str]:
    """The part of the report, which is the keys up to the last list, and the metric, which is the rest."""
    last = max((number for number, key in enumerate(keys) if key == "*"), default=len(keys) - 2)
    part = [key for key in keys[: last + 1] if key != "*"]
    rest = [key for key in keys[last + 1 :] if key not in ("figures", "estimate")]
    return ".".join(part), ("@" if rest[:1] == ["hits"] else ".").join(rest)


def line(part: str, labels: Mapping[str, str], metric: str, value: Any, unit: str) -> Row:
    """A row of the file. value: a number, or a figure with the ends of its interval."""
    value, low, high = value if isinstance(value, tuple) else (value, None, None)
    shown = {key: word for key, word in labels.items() if key != "metric"}
    return {"part": part, **shown, "metric": metric, "value": value, "low": low, "high": high, "unit": unit}


def scalars(report: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Every figure by its part, labels and metric, and the ends of its interval."""
    for row in rows(report):
        labels = [str(value) for key, value in row.items() if key not in (*COLUMNS, "part")]
        name = "/".join([row["part"], *labels, row["metric"]])
        ends = {"": row["value"], "/low": row["low"], "/high": row["high"]}
        yield from ((f"{name}{end}", value) for end, value in ends.items() if value is not None)


def membership(report: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The verdict on membership, which stands beside that of the first attack; None: it was not tested."""
    beside = (report.get("related") or {}).get("membership") or {}
    return report.get("known") or beside.get("verdict")
