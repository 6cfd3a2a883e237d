"""The report as a web page: a pure function of the run folder. One file, no script, nothing loaded from anywhere.

    render(Path("runs/quickstart"))  -> runs/quickstart/report.html

Reads `report.json` (page.schema.json says what it holds), `distributions.safetensors` and, where the audit kept images,
strips of square tiles: `images/enrolment/0007.png`, `images/search/0007.png`, `images/best_of_n/0007.png`.
"""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from markupsafe import Markup
from safetensors import SafetensorError
from safetensors.numpy import load_file

from gmi.errors import GmiError
from gmi.report import page, plots
from gmi.report.coverage import tested
from gmi.report.subjects import reworded
from gmi.report.terms import (
    JUDGES,
    KINDS,
    LITERATURE,
    METHODS,
    METRICS,
    RATES,
    amounts,
    effect,
    estimate,
    glossary,
    label,
    number,
    rate,
    span,
    split,
)
from gmi.report.tiles import tiles

TEMPLATE = Path(__file__).with_name("page.html")

STRIPS = ("enrolment", "best_of_n", "search")
"""What the contact sheet shows of a person, from left to right."""
PEOPLE, SHOWN, TILES = 25, 12, 5
"""People in the table, people on the contact sheet, tiles of each kind a person."""
EXPLAINED = ("interval", "fmr", "rule of 30", "look-alikes", "chance", "enrolment", "prior")
GAP = ("recovered", "headroom", "gap")
"""What the glossary explains in every report, and in one with an oracle."""


def render(folder: Path) -> Path:
    """Writes `folder/report.html`: the same folder gives the same bytes.

    Raises GmiError where a file is missing, damaged or of another schema version.
    """
    report = page.read(Path(folder, "report.json"))
    try:
        samples = load_file(Path(folder, "distributions.safetensors"))
    except (OSError, SafetensorError) as error:
        raise GmiError(f"The results in {folder} are damaged ({error}): start the same audit again.") from error
    filters = (estimate, rate, number, span, effect, amounts)
    return page.write(Path(folder, "report.html"), TEMPLATE, filters, report | _view(folder, report, samples))


def _order(names: Iterable[str], glossary: Iterable[str]) -> list[str]:
    """Each name once: those of the glossary in its order, then the others as they come."""
    ranks = {name: rank for rank, name in enumerate(glossary)}
    return sorted(dict.fromkeys(names), key=lambda name: ranks.get(split(name)[0], len(ranks)))


def _view(folder: Path, report: dict[str, Any], samples: dict[str, Any]) -> dict[str, Any]:
    """What the template shows besides the report itself."""
    results, people, say = report["results"], report["people"], partial(reworded, subject=report["subject"])
    judges = {judge["name"]: judge["thresholds"] for judge in report["judges"]}
    identity = [row for row in results if row["judge"] in judges and split(row["metric"])[0] not in LITERATURE]
    literature = [row for row in results if row not in identity]
    doubtful = {
        name: {f"{kind}@{cut['fmr']:g}" for kind in ("match", "anymatch") for cut in cuts if not cut["trusted"]}
        for name, cuts in judges.items()
    }
    sheet = None
    if any((images := Path(folder, "images")).glob("*/*.png")):
        sheet = [
            (person, [(step, tiles(images / step / f"{person['index']:04d}.png", TILES)) for step in STRIPS])
            for person in people[:SHOWN]
        ]
    membership = [{"membership": row["method"]} for row in (report["related"]["membership"] or {}).get("methods", ())]
    rows = [*results, *membership]
    names = [_order((row[key] for row in rows if key in row), terms) for key, terms in KINDS.items()]
    used = [name for group in names for name in group]
    width = plots.WIDTH / min(2, len(judges) or 1) - 0.2 * (len(judges) > 1)
    return {
        "grids": _grids(identity, judges),
        "literature": _grids(literature, _order((row["judge"] for row in literature), JUDGES)),
        "doubtful": doubtful,
        "judged": _judged(report["verdict"], results),
        "forest": _forest(identity, judges, set().union(*doubtful.values()), say),
        "ridges": {name: _ridges(name, cuts, samples, width, say) for name, cuts in judges.items()},
        "exposures": plots.exposures([person["auc"] for person in people], say("people")) if people else None,
        "sheet": sheet,
        "tiles": TILES,
        "listed": people[:PEOPLE],
        "rates": sorted({at for person in people for at in person["matched"]}, key=float, reverse=True),
        "glossary": glossary([*EXPLAINED, *(GAP if report["gap"] else ()), *used]),
        **tested(report),
    }


def _grids(rows: list[dict[str, Any]], judges: Iterable[str]) -> dict[str, dict[str, Any]]:
    """A table of methods by metrics for each judge that has results."""
    grids = {}
    for judge in judges:
        if mine := [row for row in rows if row["judge"] == judge]:
            grids[judge] = {
                "methods": _order((row["method"] for row in mine), METHODS),
                "metrics": _order((row["metric"] for row in mine), METRICS),
                "cells": {(row["method"], row["metric"]): row for row in mine},
            }
    return grids


def _judged(verdict: dict[str, Any], results: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The figure to hold against the naive one: the attack's match rate under the verdict's judge."""
    rows = {(row["method"], row["metric"]): row for row in results if row["judge"] == verdict["judge"]}
    rates = [metric for method, metric in rows if method == "search" and split(metric)[0] == "match"]
    metric = max(rates, default=verdict["metric"])
    return rows.get(("search", metric))


def _forest(
    rows: list[dict[str, Any]], judges: Iterable[str], doubtful: set[str], say: Callable[[str], str]
) -> Markup | None:
    shown = [row for row in rows if split(row["metric"])[0] in RATES | {"auc", "auc_lookalikes", "auc_group"}]
    titles = {
        name: say(label(name)) + " †" * (name in doubtful) for name in _order((row["metric"] for row in shown), METRICS)
    }
    panels = {title: [row for row in shown if row["metric"] == name] for name, title in titles.items()}
    methods = {name: say(label(name)) for name in _order((row["method"] for row in shown), METHODS)}
    names = {name: label(name) for name in judges if any(row["judge"] == name for row in shown)}
    percent = {title for name, title in titles.items() if not name.startswith("auc")}
    return plots.forest(panels, methods, names, percent) if panels else None


def _ridges(
    judge: str, thresholds: list[dict[str, Any]], samples: dict[str, Any], width: float, say: Callable[[str], str]
) -> Markup | None:
    order = ("impostor", "random", "best_of_n", "search", "oracle", "genuine")
    labels = {name: say(label(name)) for name in order} | {"impostor": say("Strangers")}
    mine = {name: samples[f"{judge}/{name}"] for name in order if f"{judge}/{name}" in samples}
    cuts = [
        (f"FMR {rate(cut['fmr'])}{'' if cut['trusted'] else ' †'}", cut["value"], cut["trusted"]) for cut in thresholds
    ]
    return plots.ridges(mine, labels, cuts, f"similarity, {label(judge)}", width) if mine else None
