"""The scores that an audit's figures rest on, as a file: whoever has it can compute the figures again.

    scores.jsonl    a line for each judge, one for each judge, method and metric, one for each comparison of look-alikes

No image and no template is in it, and no name: people are numbered.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from gmi.checks import PUBLIC_PEOPLE
from gmi.errors import GmiError, because
from gmi.evidence.checked import Checked, alike
from gmi.inversion import scoring
from gmi.inversion.findings import cuts, effect
from gmi.inversion.plan import Audit
from gmi.inversion.recognition import Recognised
from gmi.inversion.verdict import settle
from gmi.metrics.identity import Threshold
from gmi.metrics.lookalikes import Within
from gmi.metrics.statistics import Array, attempt

NAME = "scores.jsonl"


def lines(recognised: Iterable[Recognised]) -> str:
    """The scores of every judge, for `judges`; NaN is null, and infinity is a text."""
    return "".join(json.dumps(line, allow_nan=False) + "\n" for judge in recognised for line in _lines(judge))


def _lines(judge: Recognised) -> Iterator[dict[str, Any]]:
    cuts = [{key: _number(value) for key, value in asdict(cut).items()} for cut in judge.thresholds]
    yield {"judge": judge.judge, "people": judge.people, "attack": judge.attack, "thresholds": cuts}
    for method, outcomes in judge.outcomes.items():
        places = {"people": judge.classes[method].tolist(), "draws": judge.draws[method].tolist()}
        for metric, values in outcomes.items():
            yield {"judge": judge.judge, "method": method, "metric": metric, "values": _plain(values)} | places
    for method, rates in judge.others.items():
        yield {"judge": judge.judge, "method": method, "others": rates}
    for method, kinds in judge.within.items():
        for metric, among in kinds.items():
            arrays = {key: _plain(values) for key, values in vars(among).items()}
            yield {"judge": judge.judge, "method": method, "within": metric} | arrays


def judges(text: str) -> tuple[Recognised, ...]:
    """What `lines` wrote. Raises ValueError, KeyError or TypeError for anything else."""
    found: dict[str, Recognised] = {}
    for line in map(json.loads, text.splitlines()):
        name, method = line["judge"], line.get("method")
        if method is None:
            cuts = tuple(map(_threshold, line["thresholds"]))
            found[name] = Recognised(name, line["people"], cuts, {}, {}, {}, {}, {}, None, line["attack"])
        elif "within" not in line and "others" in line:
            found[name].others[method] = tuple((once, ever) for once, ever in line["others"])
        elif "within" in line:
            arrays = {key: _array(line[key]) for key in ("own", "others", "nobody")}
            found[name].within.setdefault(method, {})[line["within"]] = Within(**arrays)
        else:
            judge = found[name]
            judge.outcomes.setdefault(method, {})[line["metric"]] = _array(line["values"])
            judge.classes[method] = np.array(line["people"])
            judge.draws[method] = np.array(line["draws"], np.int64)
    return tuple(found.values())


def _threshold(cut: Mapping[str, Any]) -> Threshold:
    read: dict[str, Any] = {key: _read(value) for key, value in cut.items()}
    read["rates"] = tuple(cut["rates"])
    return Threshold(**read)


def recompute(folder: Path, report: Mapping[str, Any], plan: Audit | None) -> Iterator[Checked]:
    """Every figure of the report that follows from the scores, computed again: figures, gaps, people, verdict.

    The verdict's stops and doubts are taken from the report's checks, which rest on more than scores. plan: of the run;
    None: it cannot be read, and what a figure takes from it is taken from the report.
    """
    if plan is not None:
        told = report["verdict"]
        same = (told["notable"], told["access"]) == (plan.notable, str(plan.access))
        yield Checked.of("verdict: notable, access", same, "not plan.yaml's")
    try:
        recognised = judges((folder / NAME).read_text("utf-8"))
        notable = report["verdict"]["notable"] if plan is None else plan.notable
        verdicts = scoring.verdicts(recognised, notable, *_reasons(report))
        first, verdict = recognised[0], settle(verdicts)
        rows = [row for judge in recognised for row in scoring.identities(judge)]
        parts = {
            "gap": [row for judge in recognised for row in scoring.gaps(judge)],
            "people": scoring.exposed(first),
        }
        judged = vars(verdict) | {
            "effect": effect(first, rows, verdict.advantages),
            "worst_tenth": attempt(lambda: scoring.worst_tenth(first)),
            "judges": {name: each.finding for name, each in verdicts.items()},
            "judge": first.judge,
        }
        thresholds = {judge.judge: cuts(judge) for judge in recognised}
    except (GmiError, OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        yield Checked(f"figures, from {NAME}", "differs", f"the scores do not give them: {because(error)}")
        return
    ids = ("method", "judge", "metric")
    written: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in report["results"]:
        written.setdefault(tuple(row[key] for key in ids), []).append(row)
    for row in rows:
        key = (row.method, row.judge, row.metric)
        yield _compared(" ".join(key), [row], written.pop(key, []))
    for part, mine in parts.items():
        yield _compared(part, mine, report[part])
    for part, mine in judged.items():
        yield _compared(f"verdict: {part}", mine, report["verdict"][part])
    for judge in report["judges"]:
        yield _compared(f"thresholds of {judge['name']}", thresholds.get(judge["name"]), judge["thresholds"])
    known = {each.judge for each in recognised}
    for method, judge, metric in written:
        if judge in known and not _of_literature(metric):
            yield Checked(f"{method} {judge} {metric}", "differs", "the scores have no such figure")
    others = [metric for _, judge, metric in written if judge not in known or _of_literature(metric)]
    more = ", ".join(("checks", "related attacks", "prior", "cost", "data", "limits", "faces found", "own opinion"))
    yield Checked(f"{len(others)} figures of the literature, {more}", "not checked", "they rest on more than scores")


def _reasons(report: Mapping[str, Any]) -> tuple[list[str], list[str], bool]:
    """What a verdict takes from checks: stops, doubts, and whether the public set counts."""
    flags = report["checks"]
    stops = [flag["message"] for flag in flags if flag["severity"] == "stop"]
    doubts = [flag["message"] for flag in flags if flag["severity"] == "warning" and flag["bars_acquittal"]]
    return stops, doubts, not any(flag["name"] == PUBLIC_PEOPLE and flag["severity"] == "warning" for flag in flags)


def _of_literature(metric: str) -> bool:
    return metric.split("@")[0] in ("pairmatch", "nearest", "precision", "recall", "density", "coverage", "frechet")


def _compared(what: str, mine: Any, theirs: Any) -> Checked:
    same = alike(TypeAdapter(Any).dump_python(mine, mode="json"), theirs)
    return Checked.of(what, same, "the scores give another value")


def _plain(values: Array) -> Any:
    if values.ndim > 1:
        return [_plain(row) for row in values]
    return [_number(value) for value in values.tolist()]


def _number(value: Any) -> Any:
    if isinstance(value, float) and not np.isfinite(value):
        return None if np.isnan(value) else str(value)
    return value


def _read(value: Any) -> Any:
    return np.nan if value is None else float(value) if isinstance(value, str) else value


def _array(values: Sequence[Any]) -> Array:
    rows = [_array(row) if isinstance(row, list) else _read(row) for row in values]
    return np.array(rows, np.float64)
