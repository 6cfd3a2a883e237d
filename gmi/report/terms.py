"""The words of the pages, and how their figures are written."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from markupsafe import Markup


class Term(NamedTuple):
    """A word of the report. Labels and meanings may use {fmr}, a percentage, and {k}, a number."""

    label: str
    meaning: str


METHODS = {
    "search": Term("Search", "the attack under audit: the prior steered by the target"),
    "best_of_n": Term("Best of N", "attack: those samples of the prior that the target is surest of, not optimised"),
    "random": Term("Random prior", "control: samples of the prior, made without the target, scored against everybody"),
    "public": Term("Public image", "attack: the public image that the target is surest shows the person"),
    "public_random": Term("Public set", "control: all public images, chosen without the target, scored as everybody"),
    "lookalikes": Term("Her look-alikes", "control: the attack's images of a person's look-alikes, scored as hers"),
    "permuted": Term("Other people", "control: the attack's images of one person, scored as if they were of another"),
    "oracle": Term("Oracle", "the same search led by enrolment images, not by the target: what the prior can show"),
    "genuine": Term("Genuine photos", "other real photographs of the person: the most that any image could score"),
}


JUDGES = {
    "dlib": Term("dlib", "a face recogniser (ResNet-29); similarity is minus the distance between two templates"),
    "facenet": Term("FaceNet", "a face recogniser (Inception-ResNet); similarity is the cosine of two templates"),
    "mobilefacenet": Term(
        "MobileFaceNet",
        "a face recogniser whose training data is not stated; similarity is the cosine of two templates",
    ),
    "lpips-alex": Term("LPIPS (Alex)", "a perceptual distance; the smaller, the more alike two images look"),
    "probe": Term("Evaluation classifier", "trained on the private images themselves; never used for the verdict"),
    "target": Term("The target itself", "the model under audit as its own judge: the literature's self-score"),
}


METRICS = {
    "match": Term("Match rate at FMR {fmr}", "share of images taken for the person where {fmr} of strangers are too"),
    "anymatch": Term("Any match at FMR {fmr}", "share of people with a matching image; chance grows with their number"),
    "rank": Term("Rank-{k}", "share of images for which the person's rank among all people is at most {k}"),
    "auc": Term("AUC", "chance that an image is more like its person than like another; 0.5 is guessing"),
    "auc_lookalikes": Term(
        "AUC, look-alikes", "the same among the people most similar to the person: traits alone give 0.5"
    ),
    "auc_group": Term("AUC, own group", "the same among the people of the person's group: traits alone give 0.5"),
    "similarity": Term("Similarity", "mean similarity to the person's enrolment images, on the judge's own scale"),
    "pairmatch": Term(
        "Paired match at FMR {fmr}",
        "as papers count: the best of the person's images, threshold from single pairs, where a stranger matches "
        "more often than {fmr}",
    ),
    "lpips_min": Term("LPIPS, nearest", "perceptual distance to the nearest enrolment image; smaller is closer"),
    "lpips_mean": Term("LPIPS, mean", "mean perceptual distance to the enrolment images; smaller is closer"),
    "top": Term("Top-{k} accuracy", "share of images for which the person's rank by the classifier is at most {k}"),
    "nearest": Term("Nearest neighbour", "squared distance to the person's nearest image in feature space"),
    "precision": Term("Precision", "share of reconstructions among the real images of all: nothing of identity"),
    "recall": Term("Recall", "share of real images of all among the reconstructions"),
    "density": Term("Density", "how many real neighbourhoods hold a reconstruction, over the neighbours counted"),
    "coverage": Term("Coverage", "share of real images with a reconstruction in their neighbourhood"),
    "frechet": Term(
        "Fréchet distance", "between two clouds of features as Gaussians; smaller is closer; biased for small n"
    ),
}


MEMBERSHIP = {
    "threshold": Term("Threshold", "how sure the target is of the photograph's person"),
    "calibrated": Term("Calibrated", "how much surer it is than shadow models that did not learn from the photograph"),
    "RMIA": Term("RMIA", "than how many other photographs it is likelier a member, by the same comparison"),
    "LiRA": Term("LiRA", "how much likelier so sure an answer is of shadow models that learnt from it than of others"),
}


LADDER = {
    "baseline": Term("Baseline", "of a point: the best-of-N control whose queries cost about as much, or the largest"),
    "share": Term(
        "Share beyond best of N",
        "how far an attack's rank-1 is on the way from its baseline's to the reference's; 0 is what queries buy "
        "without a search",
    ),
    "ratio": Term("Ratio", "an attack's rank-1 over the reference's; best of N has one, too"),
}


AUDIT = {
    "target": Term("Target", "the model under audit"),
    "people": Term("People", "those whom the target knows; those who are attacked are named with every figure"),
    "training": Term("Training images", "the photographs that the target learnt from"),
    "enrolment": Term(
        "Enrolment images", "other photographs of the same people, with which reconstructions are compared"
    ),
    "strangers": Term("Strangers", "other people: how alike they look sets the threshold of a match"),
    "prior": Term("Prior", "a generator of images that learnt from public ones only: what an adversary has, too"),
    "access": Term("Access", "what the adversary gets of the target: its weights, scores, labels, yes or no"),
    "query": Term("Query", "an image that the target is asked about; of a yes or no, an image with one claimed person"),
    "reconstruction": Term("Reconstruction", "an image that the attack releases as one of a person"),
    "judge": Term("Judge", "a recogniser that had no part in the attack and shares no data with the target"),
    "advantage": Term(
        "Advantage", "an attack's AUC less that of samples of the prior, which know nothing of the target"
    ),
    "notable": Term("Notable", "the smallest advantage that matters: to acquit, an audit must exclude it"),
    "verdict": Term(
        "Verdict", "what the advantages show: identity leakage, traits only, nothing, or too little to tell"
    ),
}


READING = {
    "interval": Term(
        "value [low, high]", "an estimate and its 95 % interval; images of one person are not counted as independent"
    ),
    "fmr": Term("FMR", "false match rate: the share of pairs of different people that a judge takes for one person"),
    "rule of 30": Term(
        "Rule of 30",
        "with fewer than 30 independent false matches, the false match rate is known to no better than 30 %",
    ),
    "look-alikes": Term(
        "Look-alikes",
        "the enrolled people whom the judge finds most similar to a person: a tenth of the others, 5 to 20",
    ),
    "chance": Term("Chance", "what a guess without any knowledge of the person would score"),
    "enrolment": Term(
        "Enrolment images", "photographs of the attacked people that the target never saw, kept back for judging"
    ),
    "prior": Term("Prior", "the generator that the attack searches: public knowledge, no private images"),
    "recovered": Term(
        "Recovered fraction",
        "(attack − control) / (oracle − control): how much of what was in reach the attack reached",
    ),
    "headroom": Term(
        "Headroom", "(oracle − control) / (genuine − control): how well the prior can express these people at all"
    ),
    "gap": Term("Gap to the oracle", "oracle − attack: what a better search with the same prior might still gain"),
    "query": Term("Query", "an image that the target is asked about"),
    "accuracy": Term("Accuracy", "share of images, or of records, of which the model or the attack is right"),
    "calibration": Term(
        "Calibration error", "how far the target's confidence is from the share of images of which it is right"
    ),
    "imputation": Term("Imputation", "the best guess of the attribute from public records, without the model"),
    "area": Term("AUC", "chance that one of those sought is ranked above one of the others; 0.5 is guessing"),
    "hits": Term("Hits", "share of what is sought that is found, where so many alarms about others are false"),
    "ratio of distances": Term(
        "Ratio", "distance to the nearest image, over the mean distance to the nearest held-out images"
    ),
    "copy": Term("Copy", "a sample so near to a record that a model that never saw it hardly makes one"),
}
"""Words that pages explain besides the names of methods, judges and metrics."""


KINDS = {"method": METHODS, "judge": JUDGES, "metric": METRICS, "membership": MEMBERSHIP}


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


def label(name: str, meaning: bool = False) -> str:
    """The words for a name of any kind, or its meaning; for an unknown name the name itself, or nothing."""
    base, at = split(name)
    term = METHODS.get(name) or JUDGES.get(name) or MEMBERSHIP.get(name) or METRICS.get(base)
    if term is None or (at is None and "{" in term.label):
        return "" if meaning else name
    return term[meaning].format(fmr=rate(float(at or 0)), k=at)


def glossary(names: Iterable[str]) -> dict[str, Term]:
    """What a page explains, by name: words, methods, judges and metrics; none that has no meaning."""
    words = AUDIT | READING
    known = {name: words.get(name, Term(label(name), label(name, meaning=True))) for name in names}
    return {name: term for name, term in known.items() if term.meaning}


def rate(share: float) -> str:
    """A share in per cent: `2.5 %`."""
    return f"{100 * share:.3g}\u202f%"


def number(value: float, digits: int = 2) -> str:
    """A number with a real minus, and thousands set apart."""
    text = f"{value:,.{digits}f}".replace(",", "\u202f")
    return text.lstrip("-") if float(f"{value:.{digits}f}") == 0 else text.replace("-", "−")


def span(values: Iterable[float], metric: str = "") -> str:
    """The range of values in the metric's unit: `60`, or `60 to 120` where they differ; nothing for no values."""
    ends, show = sorted(set(values)), rate if split(metric)[0] in RATES else "{:.4g}".format
    return " to ".join(map(show, dict.fromkeys((ends[0], ends[-1])))) if ends else ""


def effect(value: float, metric: str) -> str:
    """A difference without an interval: `5 points`, or `0.05`."""
    return f"{100 * value:.2g} points" if split(metric)[0] in RATES else f"{value:.2g}"


def amounts(parts: dict[str, float]) -> list[tuple[str, float]]:
    """The parts in their order, and the total last."""
    return sorted(parts.items(), key=lambda part: part[0] == "total")


def estimate(outcome: dict[str, Any], metric: str = "match", difference: bool = False) -> Markup:
    """A figure as HTML: `67 % [55, 78]`, `+58 points [43, 72]`, `0.86 [0.79, 0.92]` or `failed: reason`.

    As many digits as the interval warrants: it is at least five units of the last one wide.
    """
    if "failed" in outcome:
        return Markup('<span class="failed">failed: {}</span>').format(outcome["failed"])
    value, ends = _rounded(outcome, split(metric)[0] in RATES, difference)
    return Markup('<span class="estimate"><b>{}</b> <i>{}</i></span>').format(value, ends)


def written(row: Mapping[str, Any]) -> str:
    """A figure of `figures.rows` as text, by its unit: `67 % [55, 78]`, `+0.32 [0.26, 0.38]`, `4,240`."""
    if row["value"] is None:
        return f"not known ({row.get('failed', 'not measured')})"
    unit = row["unit"]
    if row["low"] is None and unit.endswith("difference"):
        points = unit.startswith("share")
        return f"{100 * row['value']:+.3g}\u202fpoints" if points else f"{row['value']:+.2f}"
    if row["low"] is None:
        return rate(row["value"]) if unit == "share" else f"{row['value']:,.6g}"
    return " ".join(_rounded(row, unit.startswith("share"), unit.endswith("difference")))


def _rounded(outcome: Mapping[str, Any], percent: bool, difference: bool) -> tuple[str, str]:
    """A figure with its unit, and the ends of its interval in brackets."""
    value, low, high = (outcome[key] * (100 if percent else 1) for key in ("value", "low", "high"))
    digits = 0 if percent else 2
    if high > low:
        digits = min(4, max(0, 1 - math.floor(math.log10(2 * (high - low)))))
    sign = "+" if difference and value > 0 else ""
    unit = ("\u202fpoints" if difference else "\u202f%") if percent else ""
    return f"{sign}{number(value, digits)}{unit}", f"[{number(low, digits)}, {number(high, digits)}]"


def split(name: str) -> tuple[str, str | None]:
    """A metric's base and its number: `match@0.01` -> match, 0.01; `rank5` -> rank, 5; `auc` -> auc, None."""
    match = re.fullmatch(r"(match|anymatch|pairmatch)@(\d+(?:\.\d+)?(?:e-\d+)?)|(rank|top)(\d+)", name)
    return (match[1] or match[3], match[2] or match[4]) if match else (name, None)
