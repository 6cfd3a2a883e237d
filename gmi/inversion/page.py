"""The report as a web page: a pure function of the run folder. One file, no script, nothing loaded from anywhere.

    render(Path("runs/quickstart"))  -> runs/quickstart/report.html

Reads `report.json` (page.schema.json says what it holds), `distributions.safetensors` and, where the audit kept images,
`enrolment/0007.png` and `shards/search/0007.png`: strips of square tiles.
"""

import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup
from safetensors import SafetensorError
from safetensors.numpy import load_file

from gmi.errors import GmiError
from gmi.report import page, plots
from gmi.report.coverage import coverage

TEMPLATE = Path(__file__).with_name("page.html")

PEOPLE, SHOWN, TILES = 25, 12, 5
"""People in the table, people on the contact sheet, tiles of each kind a person."""


class Term(NamedTuple):
    """A word of the report. Labels and meanings may use {fmr}, a percentage, and {k}, a number."""

    label: str
    meaning: str


METHODS = {
    "search": Term("Attack", "the search under audit: the prior steered by the target"),
    "best_of_n": Term("Best of N", "control: those samples of the prior that the target is surest of, not optimised"),
    "random": Term("Random prior", "control: samples of the prior, made without the target, scored against everybody"),
    "public": Term("Public image", "control: the public image that the target is surest shows the person"),
    "permuted": Term("Other people", "control: the attack's images of one person, scored as if they were of another"),
    "oracle": Term("Oracle", "the same search led by enrolment images, not by the target: what the prior can show"),
    "genuine": Term("Genuine photos", "other real photographs of the person: the most that any image could score"),
}
JUDGES = {
    "dlib": Term("dlib", "a face recogniser (ResNet-29); similarity is minus the distance between two templates"),
    "facenet": Term("FaceNet", "a face recogniser (Inception-ResNet); similarity is the cosine of two templates"),
    "lpips-alex": Term("LPIPS (Alex)", "a perceptual distance; the smaller, the more alike two images look"),
    "probe": Term("Evaluation classifier", "trained on the private images themselves; never used for the verdict"),
    "target": Term("The target itself", "the model under audit as its own judge: the literature's self-score"),
}
METRICS = {
    "match": Term("Match rate at FMR {fmr}", "share of images taken for the person where {fmr} of strangers are too"),
    "anymatch": Term("Any match at FMR {fmr}", "share of people with a matching image; chance grows with their number"),
    "rank": Term("Rank-{k}", "share of images for which the person is among the {k} most alike of all people"),
    "auc": Term("AUC", "chance that an image is more like its person than like another; 0.5 is guessing"),
    "similarity": Term("Similarity", "mean similarity to the person's enrolment images, on the judge's own scale"),
    "pairmatch": Term(
        "Paired match at FMR {fmr}",
        "as papers count: the best of the person's images, threshold from single pairs, where a stranger matches "
        "more often than {fmr}",
    ),
    "lpips_min": Term("LPIPS, nearest", "perceptual distance to the nearest enrolment image; smaller is closer"),
    "lpips_mean": Term("LPIPS, mean", "mean perceptual distance to the enrolment images; smaller is closer"),
    "top": Term("Top-{k} accuracy", "share of images for which the classifier has the person among its first {k}"),
    "nearest": Term("Nearest neighbour", "squared distance to the person's nearest image in feature space"),
    "precision": Term("Precision", "share of reconstructions among the real images of all: nothing of identity"),
    "recall": Term("Recall", "share of real images of all among the reconstructions"),
    "density": Term("Density", "how many real neighbourhoods hold a reconstruction, over the neighbours counted"),
    "coverage": Term("Coverage", "share of real images with a reconstruction in their neighbourhood"),
    "frechet": Term(
        "Fréchet distance", "between two clouds of features as Gaussians; smaller is closer; biased for small n"
    ),
}
KINDS = {"method": METHODS, "judge": JUDGES, "metric": METRICS}
RATES = {"match", "anymatch", "pairmatch", "rank", "top"}  # shown in per cent
LITERATURE = {
    "pairmatch",
    "lpips_min",
    "lpips_mean",
    "top",
    "nearest",
    "precision",
    "recall",
    "density",
    "coverage",
    "frechet",
}


def render(folder: Path) -> Path:
    """Write `folder/report.html` by one rename, and return it: the same folder gives the same bytes.

    Raises GmiError where a file is missing, damaged or of another schema version.
    """
    try:
        report = json.loads(Path(folder, "report.json").read_text("utf-8"), parse_constant=_reject)
        samples = load_file(Path(folder, "distributions.safetensors"))
    except FileNotFoundError as error:
        raise GmiError(f"{folder} has no report yet ({error}): finish its audit first.") from error
    except (ValueError, SafetensorError) as error:
        raise GmiError(f"The results in {folder} are damaged ({error}): score the audit again.") from error
    if report.get("schema_version") != 1:
        raise GmiError(f"{folder}/report.json has schema version {report.get('schema_version')}; this gmi reads 1.")
    filters = (label, estimate, rate, number, span, effect, amounts)
    return page.write(Path(folder, "report.html"), TEMPLATE, filters, report | _view(folder, report, samples))


def label(name: str, meaning: bool = False) -> str:
    """What people call a method, judge or metric, or what it means; of an unknown name the name itself, or nothing."""
    base, at = _split(name)
    term = METHODS.get(name) or JUDGES.get(name) or METRICS.get(base)
    if term is None or (at is None and "{" in term.label):
        return "" if meaning else name
    return term[meaning].format(fmr=rate(float(at or 0)), k=at)


def rate(share: float) -> str:
    """`2.5 %`"""
    return f"{100 * share:.3g}\u202f%"


def number(value: float, digits: int = 2) -> str:
    """With a real minus, and thousands apart."""
    text = f"{value:,.{digits}f}".replace(",", "\u202f")
    return text.lstrip("-") if float(f"{value:.{digits}f}") == 0 else text.replace("-", "−")


def span(values: Iterable[float], metric: str = "") -> str:
    """`60`, or `60 to 120` where they differ; nothing for no values. In the metric's unit."""
    ends, show = sorted(set(values)), rate if _split(metric)[0] in RATES else "{:.4g}".format
    return " to ".join(map(show, dict.fromkeys((ends[0], ends[-1])))) if ends else ""


def effect(value: float, metric: str) -> str:
    """A difference without an interval: `5 points`, or `0.05`."""
    return f"{100 * value:.2g} points" if _split(metric)[0] in RATES else f"{value:.2g}"


def amounts(parts: dict[str, float]) -> list[tuple[str, float]]:
    """The parts in their order, and the total last."""
    return sorted(parts.items(), key=lambda part: part[0] == "total")


def estimate(outcome: dict[str, Any], metric: str = "match", difference: bool = False) -> Markup:
    """`67 % [55, 78]`, `+58 points [43, 72]`, `0.86 [0.79, 0.92]` or `failed: reason`.

    As many digits as the interval warrants: it is at least five units of the last one wide.
    """
    if "failed" in outcome:
        return Markup('<span class="failed">failed: {}</span>').format(outcome["failed"])
    percent = _split(metric)[0] in RATES
    value, low, high = (outcome[key] * (100 if percent else 1) for key in ("value", "low", "high"))
    digits = 0 if percent else 2
    if high > low:
        digits = min(4, max(0, 1 - math.floor(math.log10(2 * (high - low)))))
    sign = "+" if difference and value > 0 else ""
    unit = ("\u202fpoints" if difference else "\u202f%") if percent else ""
    return Markup('<span class="estimate"><b>{}{}{}</b> <i>[{}, {}]</i></span>').format(
        sign, number(value, digits), unit, number(low, digits), number(high, digits)
    )


def _split(name: str) -> tuple[str, str | None]:
    """`match@0.01` -> match, 0.01; `rank5` -> rank, 5; `auc` -> auc, None."""
    found = re.fullmatch(r"(match|anymatch|pairmatch)@(\d+(?:\.\d+)?(?:e-\d+)?)|(rank|top)(\d+)", name)
    return (found[1] or found[3], found[2] or found[4]) if found else (name, None)


def _reject(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _order(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Each name once: those of the glossary in its order, then the others as they come."""
    places = {name: place for place, name in enumerate(known)}
    return sorted(dict.fromkeys(names), key=lambda name: places.get(_split(name)[0], len(places)))


def _view(folder: Path, report: dict[str, Any], samples: dict[str, Any]) -> dict[str, Any]:
    """What the template shows besides the report itself."""
    results, people = report["results"], report["people"]
    judges = {judge["name"]: judge["thresholds"] for judge in report["judges"]}
    identity = [row for row in results if row["judge"] in judges and _split(row["metric"])[0] not in LITERATURE]
    literature = [row for row in results if row not in identity]
    doubtful = {
        name: {f"{kind}@{cut['fmr']:g}" for kind in ("match", "anymatch") for cut in cuts if not cut["trusted"]}
        for name, cuts in judges.items()
    }
    sheet = None
    if (real := Path(folder, "enrolment")).is_dir():
        strips = [(one, f"{one['class']:04d}.png") for one in people[:SHOWN]]
        made = Path(folder, "shards", "search")
        sheet = [(one, plots.tiles(real / strip, TILES), plots.tiles(made / strip, TILES)) for one, strip in strips]
    names = [_order((row[key] for row in results), known) for key, known in KINDS.items()]
    width = plots.WIDTH / min(2, len(judges) or 1) - 0.2 * (len(judges) > 1)
    return {
        "grids": _grids(identity, judges),
        "literature": _grids(literature, _order((row["judge"] for row in literature), JUDGES)),
        "doubtful": doubtful,
        "judged": _judged(report["verdict"], results),
        "forest": _forest(identity, judges, set().union(*doubtful.values())),
        "ridges": {name: _ridges(name, cuts, samples, width) for name, cuts in judges.items()},
        "sheet": sheet,
        "tiles": TILES,
        "listed": people[:PEOPLE],
        "rates": sorted({at for person in people for at in person["matched"]}, key=float, reverse=True),
        "used": [name for group in names for name in group],
        "coverage": coverage(_made(report["neighbours"])),
    }


def _made(neighbours: dict[str, Any]) -> set[str]:
    """Kinds of attack in this audit."""
    first = "representatives" if neighbours["templates"] is None else "templates"
    return {first, *(kind for kind in ("membership", "extraction") if neighbours[kind] is not None)}


def _grids(rows: list[dict[str, Any]], judges: Iterable[str]) -> dict[str, dict[str, Any]]:
    """For each judge with a result a table of methods by metrics."""
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
    """The figure to hold against the naive one: the attack's match rate under the verdict's judge, with its control."""
    rows = {(row["method"], row["metric"]): row for row in results if row["judge"] == verdict["judge"]}
    rates = [metric for method, metric in rows if method == "search" and _split(metric)[0] == "match"]
    metric = max(rates, default=verdict["metric"])
    found = rows.get(("search", metric))
    return found and found | {"control": rows.get((verdict["control"], metric))}


def _forest(rows: list[dict[str, Any]], judges: Iterable[str], doubtful: set[str]) -> Markup | None:
    shown = [row for row in rows if _split(row["metric"])[0] in RATES | {"auc"}]
    titles = {
        name: label(name) + " †" * (name in doubtful) for name in _order((row["metric"] for row in shown), METRICS)
    }
    panels = {title: [row for row in shown if row["metric"] == name] for name, title in titles.items()}
    methods = {name: label(name) for name in _order((row["method"] for row in shown), METHODS)}
    names = {name: label(name) for name in judges if any(row["judge"] == name for row in shown)}
    percent = {title for name, title in titles.items() if name != "auc"}
    return plots.forest(panels, methods, names, percent) if panels else None


def _ridges(judge: str, thresholds: list[dict[str, Any]], samples: dict[str, Any], width: float) -> Markup | None:
    order = ("impostor", "random", "best_of_n", "search", "oracle", "genuine")
    labels = {name: label(name) for name in order} | {"impostor": "Strangers"}
    mine = {name: samples[f"{judge}/{name}"] for name in order if f"{judge}/{name}" in samples}
    cuts = [
        (f"FMR {rate(cut['fmr'])}{'' if cut['trusted'] else ' †'}", cut["value"], cut["trusted"]) for cut in thresholds
    ]
    return plots.ridges(mine, labels, cuts, f"similarity, {label(judge)}", width) if mine else None
