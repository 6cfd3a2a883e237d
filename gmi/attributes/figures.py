"""The figures of attacks and controls, over all seeds, for everybody and by groups of people.

Each seed splits the records anew, trains a target and attacks other people. Its figures are computed as if it were
alone, and then averaged: `gmi.metrics.repeats.averaged` adds the luck of a seed to the interval over people, and counts
the people of one seed only, as those of several overlap.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gmi.attributes.plan import AttributeAudit
from gmi.attributes.records import Layout, Records
from gmi.metrics.detection import Difference, auc_difference, contrast, detection, hit_difference
from gmi.metrics.rates import unseen
from gmi.metrics.repeats import averaged, averaged_difference, upper
from gmi.metrics.statistics import Array, Estimate, Failed, Outcome, attempt, difference, estimate, holm

CONTROLS = ("majority", "imputation")
GROUP = 20  # people; a smaller group says nothing


@dataclass(frozen=True)
class Answers:
    """What attacks and controls say of one set of people, with one seed."""

    scores: dict[str, Array | Failed]  # by method: of each value (N, V), higher where likelier
    queries: dict[str, int]  # by method
    people: Records

    def given(self, method: str) -> Array:
        """The scores (N, V) of a method that did not fail."""
        scores = self.scores[method]
        assert not isinstance(scores, Failed)
        return scores


@dataclass(frozen=True)
class Gain:
    """What an attack has over the imputation, person by person."""

    accuracy: Outcome
    hits: dict[str, Outcome]  # of the value that is to be detected, by rate of false alarms
    auc: Outcome
    bound: float | None  # the most that it may have in AUC, with 95 % confidence
    p: float | None  # of no difference in AUC, by Holm for the number of attacks; None: it cannot be told


@dataclass(frozen=True)
class Method:
    """The figures of one attack or control on one set of people."""

    method: str
    queries: int  # with one seed
    failure: str | None  # why there are no figures
    figures: dict[str, Outcome]  # accuracy, auc, and hits@RATE at each rate of false alarms
    gain: Gain | None  # None: a control, or an attack that failed


@dataclass(frozen=True)
class SetFigures:
    """The figures of one set of people."""

    people: int  # with one seed
    positives: int  # people who have the value that is to be detected; with several seeds, their mean
    methods: tuple[Method, ...]


@dataclass(frozen=True)
class GroupRow:
    """What one attack has over the imputation for people with one value in a column."""

    value: str
    people: int  # with several seeds, their mean
    accuracy: Outcome  # of the attack alone
    gain: Outcome  # AUC beyond the imputation
    contrast: Outcome  # that, less the same of everybody else
    p: float | None  # of no difference from everybody else, by Holm for the number of groups


@dataclass(frozen=True)
class Group:
    """The figures by the values of one column."""

    column: str
    attack: str | None  # the one that adds most; None: none gave anything
    rows: tuple[GroupRow, ...]


def set_figures(plan: AttributeAudit, seeds: Sequence[Answers], value: int) -> SetFigures:
    """Figures of every method on one set of people, and what each attack has over the imputation.

    seeds: the answers of each seed.
    value: the code of the sensitive value that is to be detected.
    """
    failures = {name: _failure(seeds, name) for name in seeds[0].scores}
    differences = {
        name: attempt(lambda n=name: averaged_difference([_gain(each, n, value) for each in seeds]))
        for name, failure in failures.items()
        if failure is None and name not in CONTROLS
    }
    p, methods = _adjusted(differences), []
    for name, failure in failures.items():
        figures, gain = {}, None
        if failure is None:
            figures = _figures(plan, seeds, name, value)
        if name in differences:
            found = differences[name]
            gain = Gain(
                _accuracy_gain(seeds, name),
                _hit_gains(plan, seeds, name, value),
                _of(found),
                _bound(found, seeds[0], value),
                p[name],
            )
        methods.append(Method(name, seeds[0].queries[name], failure, figures, gain))
    positives = np.mean([(each.people.sensitive == value).sum() for each in seeds])
    return SetFigures(len(seeds[0].people), round(float(positives)), tuple(methods))


def group_figures(layout: Layout, seeds: Sequence[Answers], name: str, methods: Sequence[Method], value: int) -> Group:
    """The attack that adds most, by the values of a column: what it adds, and how much more than for everybody else."""
    areas = gains(methods)
    if not areas:
        return Group(name, None, ())
    best = max(areas, key=lambda attack: areas[attack][0].value)
    index = [column.name for column in layout.features].index(name)

    def inside(each: Answers, code: int) -> NDArray[np.bool_]:
        return each.people.features[:, index] == code

    def over_seeds(code: int, compute: Callable[[Answers, NDArray[np.bool_]], Difference]) -> Difference | Failed:
        return attempt(lambda: averaged_difference([compute(each, inside(each, code)) for each in seeds]))

    def apart(each: Answers, rows: NDArray[np.bool_]) -> Difference:
        return contrast(_gain(each, best, value, rows), _gain(each, best, value, ~rows))

    def right(each: Answers, code: int) -> Outcome:
        chosen = _right(each.given(best), each.people.sensitive)[inside(each, code)]
        return attempt(lambda: estimate(chosen, np.arange(len(chosen))))

    codes = {
        code: label
        for code, label in enumerate(layout.features[index].values or ())
        if all(inside(each, code).sum() >= GROUP for each in seeds)
    }
    contrasts = {label: over_seeds(code, apart) for code, label in codes.items()}
    p = _adjusted(contrasts)
    rows = [
        GroupRow(
            value=label,
            people=round(float(np.mean([inside(each, code).sum() for each in seeds]))),
            accuracy=averaged([right(each, code) for each in seeds]),
            gain=_of(over_seeds(code, lambda each, rows: _gain(each, best, value, rows))),
            contrast=_of(contrasts[label]),
            p=p[label],
        )
        for code, label in codes.items()
    ]
    return Group(name, best, tuple(rows))


def gains(methods: Sequence[Method]) -> dict[str, tuple[Estimate, float]]:
    """The AUC that each attack adds, and its p-value; without those that failed."""
    return {
        row.method: (row.gain.auc, row.gain.p)
        for row in methods
        if row.gain is not None and row.gain.p is not None and isinstance(row.gain.auc, Estimate)
    }


def _failure(seeds: Sequence[Answers], name: str) -> str | None:
    """Why a method gave nothing with one of the seeds."""
    return next((found.failed for each in seeds if isinstance(found := each.scores[name], Failed)), None)


def _gain(each: Answers, name: str, value: int, rows: NDArray[np.bool_] | None = None) -> Difference:
    """AUC of a method beyond the imputation's, for the people in these rows (N,), or all."""
    truth = each.people.sensitive == value
    kept = np.ones(len(truth), bool) if rows is None else rows
    left, right = (_ranked(each.given(method), value)[kept] for method in (name, "imputation"))
    return auc_difference(left, right, truth[kept])


def _bound(found: Difference | Failed, first: Answers, value: int) -> float | None:
    """The most that the difference may be; never less than people unlike all those seen could add."""
    if isinstance(found, Failed):
        return None
    bound = upper(found.estimate)
    positives = int((first.people.sensitive == value).sum())
    fewer = min(positives, len(first.people) - positives)
    return max(bound, found.estimate.value + unseen(fewer) * (1 - found.estimate.value))


def _figures(plan: AttributeAudit, seeds: Sequence[Answers], name: str, value: int) -> dict[str, Outcome]:
    found = []
    for each in seeds:
        scores, truth = each.given(name), each.people.sensitive
        detected = detection(name, _ranked(scores, value), truth == value, None, plan.alarms)
        accuracy = attempt(lambda s=scores, t=truth: estimate(_right(s, t), np.arange(len(t))))
        rates = {f"hits@{rate}": outcome for rate, outcome in detected.hits.items()}
        found.append({"accuracy": accuracy, "auc": detected.auc, **rates})
    return {metric: averaged([figures[metric] for figures in found]) for metric in found[0]}


def _accuracy_gain(seeds: Sequence[Answers], name: str) -> Outcome:
    def found(each: Answers) -> Outcome:
        truth = each.people.sensitive
        return attempt(lambda: difference(_right(each.given(name), truth), _right(each.given("imputation"), truth)))

    return averaged([found(each) for each in seeds], (-1.0, 1.0))


def _hit_gains(plan: AttributeAudit, seeds: Sequence[Answers], name: str, value: int) -> dict[str, Outcome]:
    """The share of people with the value that the method finds beyond the imputation, by rate of false alarms."""

    def found(each: Answers, rate: float) -> Outcome:
        left, right = (_ranked(each.given(method), value) for method in (name, "imputation"))
        return attempt(lambda: hit_difference(left, right, each.people.sensitive == value, rate))

    return {f"{rate:g}": averaged([found(each, rate) for each in seeds], (-1.0, 1.0)) for rate in plan.alarms}


def _of(difference: Difference | Failed) -> Outcome:
    return difference.estimate if isinstance(difference, Difference) else difference


def _adjusted(differences: Mapping[str, Difference | Failed]) -> dict[str, float | None]:
    """The p-value of each, by Holm for their number; None for those that failed."""
    tested = {name: tried.p for name, tried in differences.items() if isinstance(tried, Difference)}
    return {**dict.fromkeys(differences), **dict(zip(tested, holm([*tested.values()]), strict=True))}


def _right(scores: Array, truth: NDArray[np.int64]) -> Array:
    """Whether each person's likeliest value (N,) is the true one; where several tie, the share of them that is."""
    top = scores == scores.max(1, keepdims=True)
    return top[np.arange(len(truth)), truth] / top.sum(1)


def _ranked(scores: Array, value: int) -> Array:
    """How much likelier the value is than the likeliest other (N,), for each person."""
    return scores[:, value] - np.delete(scores, value, 1).max(1)
