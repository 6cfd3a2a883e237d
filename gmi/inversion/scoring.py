"""Scores: from what the judges recognise to figures with intervals, every control by the same rule."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from gmi.inversion.exposure import METRIC
from gmi.inversion.plan import RANDOM
from gmi.inversion.recognition import ARITHMETIC, NOBODY, Recognised
from gmi.inversion.verdict import Verdict, decide
from gmi.metrics import identity
from gmi.metrics.rates import Bounds, any_of_m, quantile_ranks
from gmi.metrics.statistics import (
    Array,
    Estimate,
    Outcome,
    attempt,
    by_person,
    difference,
    estimate,
    numbered,
    recovered,
    widened,
)


@dataclass(frozen=True)
class Result:
    """One figure of the report."""

    method: str
    judge: str
    metric: str
    estimate: Outcome
    chance: float | None = None


@dataclass(frozen=True)
class Gap:
    """The share of what was in reach that an attack recovered, by one judge's rate."""

    judge: str
    metric: str
    recovered: Outcome  # share of the way from the strongest control to the oracle projection
    headroom: Outcome  # share of the way from the strongest control to genuine photographs that the oracle goes
    gap: Outcome  # oracle less attack


@dataclass(frozen=True)
class Exposed:
    """One attacked person under a pseudonym, and how well her images resemble her."""

    person: str
    index: int  # of the class
    rank: float
    auc: float
    similarity: float | None
    matched: dict[str, float]  # share of the person's images that match, by FMR
    by_chance: float  # chance that somebody of those attacked stands as high without a leak


def identities(recognised: Recognised) -> list[Result]:
    """Match rates, ranks, AUC, similarity of every method under one judge; any-of-m where a person has several images.

    Match rates have an interval that knows of the threshold's uncertainty, too; their chance is the prior's samples'.
    """
    judge, rows = recognised.judge, []
    for method, outcomes in recognised.outcomes.items():
        for metric in outcomes:
            if method in NOBODY and metric in ARITHMETIC:
                continue
            chance = chance_of(recognised, metric)
            rows.append(Result(method, judge, metric, figure(recognised, (method,), metric), chance))
            each = _images_each(recognised, method)
            if metric.startswith("match@") and each > 1 and method not in ("genuine", "permuted"):
                several = None if chance is None else any_of_m(chance, each)
                any_match = _matches(recognised, (method,), metric, True)
                rows.append(Result(method, judge, f"any{metric}", any_match, several))
    return rows + _among_lookalikes(recognised)


def figures(recognised: Recognised, methods: Sequence[str]) -> dict[str, Outcome]:
    """Every rate of several methods together, each of other draws; without those that are arithmetic."""
    kept = [name for name in recognised.rates if name not in ARITHMETIC or not set(NOBODY).issuperset(methods)]
    return {metric: figure(recognised, methods, metric) for metric in kept}


def figure(recognised: Recognised, methods: Sequence[str], metric: str) -> Outcome:
    """One metric's mean over people, of several methods together, each of other draws."""
    if metric.startswith("match@"):
        return _matches(recognised, methods, metric, False)
    values, people, draws = _together(recognised, methods, metric)
    bounds = None if metric == "similarity" else (0.0, 1.0)
    return attempt(lambda: estimate(values, people, draws=draws, bounds=bounds))


def _together(recognised: Recognised, methods: Sequence[str], metric: str) -> tuple[Array, Array, Array]:
    """Values (N,) of several methods, the people and the draws that they are of."""
    values = np.concatenate([recognised.outcomes[method][metric] for method in methods])
    people = np.concatenate([recognised.classes[method] for method in methods])
    numbers, first = [], 0
    for method in methods:
        numbers.append(recognised.draws[method] + first)
        first = int(numbers[-1].max()) + 1
    return values, people, np.concatenate(numbers)


def chance_of(recognised: Recognised, metric: str) -> float | None:
    """The level of a metric for images that know nothing of the target: the prior's own samples match at theirs."""
    if metric.startswith("match@") and RANDOM in recognised.outcomes:
        return float(recognised.outcomes[RANDOM][metric].mean())
    return identity.chance(metric, recognised.people)


def _among_lookalikes(recognised: Recognised) -> list[Result]:
    """AUC of every attack among each kind of look-alikes, and of both controls for the attack itself."""
    values = {(name, metric): among.own for name, kinds in recognised.within.items() for metric, among in kinds.items()}
    for metric, among in recognised.within.get(recognised.attack, {}).items():
        values |= {("lookalikes", metric): among.others, (RANDOM, metric): among.nobody[None]}
    rows = []
    for (name, metric), means in values.items():
        draws, people = np.indices(means.shape)
        figure = attempt(lambda m=means, p=people, d=draws: estimate(m.ravel(), p.ravel(), draws=d.ravel()))
        rows.append(Result(name, recognised.judge, metric, figure, 0.5))
    return rows


def _images_each(recognised: Recognised, method: str) -> int:
    """The number of images of each person in one draw; 1 where people differ in it."""
    (ids, person), (_, draw) = numbered(recognised.classes[method]), numbered(recognised.draws[method])
    counts = np.bincount(draw * len(ids) + person)
    counts = counts[counts > 0]
    return int(counts[0]) if np.ptp(counts) == 0 else 1


def _matches(recognised: Recognised, methods: Sequence[str], metric: str, any_image: bool) -> Outcome:
    """The match rate, or the rate of people with any match, widened by what is not known of the threshold."""
    cut = next(cut for cut in recognised.thresholds if metric == f"match@{cut.fmr:g}")
    if "permuted" in methods:  # an expectation over wrong people, of whom there is no single similarity
        values, people, draws = _together(recognised, methods, metric)
        return attempt(lambda: estimate(values, people, draws=draws))
    similarity, whose, drawn = _together(recognised, methods, "similarity")
    people, draws = whose, drawn
    if any_image:
        draws, people = (ids.ravel() for ids in np.meshgrid(np.unique(drawn), np.unique(whose), indexing="ij"))

    def matched(threshold: float) -> Array:
        hits = (similarity >= threshold).astype(np.float64)
        return identity.any_of(hits, whose, drawn).ravel() if any_image else hits

    least, greatest = (float(by_person(matched(end), people).mean()) for end in (cut.high, cut.low))
    return attempt(lambda: widened(estimate(matched(cut.value), people, draws=draws), least, greatest))


def gaps(recognised: Recognised) -> list[Gap]:
    """The share of what was in reach that the attack recovered, for every rate; none without the oracle projection."""
    rows = []
    for metric in recognised.rates if "oracle" in recognised.outcomes else ():
        attack, control, oracle, genuine = (
            recognised.of_people(method, metric)
            for method in (recognised.attack, recognised.strongest(metric), "oracle", "genuine")
        )
        rows.append(
            Gap(
                judge=recognised.judge,
                metric=metric,
                recovered=attempt(lambda a=attack, b=control, o=oracle: recovered(a, b, o)),
                headroom=attempt(lambda o=oracle, b=control, r=genuine: recovered(o, b, r)),
                gap=attempt(lambda o=oracle, a=attack: difference(o, a)),
            )
        )
    return rows


def verdicts(
    recognised: Sequence[Recognised],
    notable: float,
    stops: Sequence[str] = (),
    doubts: Sequence[str] = (),
    public: bool = True,
) -> dict[str, Verdict]:
    """Each judge's own verdict, by its name. public: False leaves the public set out, as an attack and as a control."""
    return {
        judge.judge: decide(
            judge.exposures(public),
            judge.ceiling,
            notable,
            stops,
            doubts,
            len(recognised),
        )
        for judge in recognised
    }


def exposed(recognised: Recognised) -> list[Exposed]:
    """The attacked people under pseudonyms, most exposed first."""
    rows = []
    classes = recognised.classes[recognised.attack]
    ids = np.unique(classes)
    for person in ids:
        figures = {
            metric: values[classes == person] for metric, values in recognised.outcomes[recognised.attack].items()
        }
        auc, similarity = float(figures["auc"].mean()), float(figures["similarity"].mean())
        rank = 1 + (1 - auc) * (recognised.people - 1)
        rows.append(
            Exposed(
                person=f"P{person:02d}",
                index=int(person),
                rank=round(rank, 6),
                auc=auc,
                similarity=None if np.isnan(similarity) else similarity,
                matched={f"{cut.fmr:g}": float(figures[f"match@{cut.fmr:g}"].mean()) for cut in recognised.thresholds},
                by_chance=any_of_m(min(1.0, rank / recognised.people), len(ids)),
            )
        )
    return sorted(rows, key=lambda row: (-row.auc, -(row.similarity or -np.inf), row.index))


def worst_tenth(recognised: Recognised) -> Outcome:
    """The AUC that the most exposed tenth of people exceed: the 90 % quantile, its interval by order statistics."""
    values = np.sort(recognised.of_people(recognised.attack, METRIC).mean(0))
    low, high = quantile_ranks(0.9, len(values))
    bounded = np.concatenate([[0.0], values, [1.0]])
    value = float(np.quantile(values, 0.9))
    ends = (min(value, bounded[low + 1]), max(value, bounded[high + 1]))
    return Estimate(value, float(ends[0]), float(ends[1]), len(recognised.classes[recognised.attack]), len(values))


def result(
    method: str,
    judge: str,
    metric: str,
    values: Array,
    classes: ArrayLike,
    bounds: Bounds | None = None,
    chance: float | None = None,
) -> Result:
    """One figure from values (N,) with people (N,); bounds as `estimate` takes them."""
    return Result(method, judge, metric, attempt(lambda: estimate(values, classes, bounds=bounds)), chance)
