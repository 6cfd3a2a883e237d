"""The findings of an attribute audit: figures of attacks and controls, by groups of people, and a verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gmi.attributes.inputs import Inputs
from gmi.attributes.plan import AttributeAudit
from gmi.attributes.records import Layout, Records
from gmi.attributes.targets import Model
from gmi.audits import Verdict
from gmi.metrics.detection import Difference, auc_difference, contrast, detection
from gmi.metrics.statistics import Array, Estimate, Failed, Outcome, attempt, difference, estimate, holm

CONTROLS = ("majority", "imputation")
ALPHA = 0.05
GROUP = 20  # people; a smaller group says nothing


@dataclass(frozen=True)
class Answers:
    """What attacks and controls say of one set of people."""

    scores: dict[str, Array | Failed]  # by method: of each value (N, V), higher where likelier
    queries: dict[str, int]  # by method
    people: Records


@dataclass(frozen=True)
class Evidence:
    """Everything that the findings rest on."""

    model: Model
    answers: dict[str, Answers]  # by set of people: training, held-out


@dataclass(frozen=True)
class Gain:
    """What an attack has over the imputation, person by person."""

    accuracy: Outcome
    auc: Outcome
    p: float | None  # of no difference in AUC, by Holm for the number of attacks; None: it cannot be told


@dataclass(frozen=True)
class Method:
    """The figures of one attack or control on one set of people."""

    method: str
    queries: int
    failure: str | None  # why there are no figures
    figures: dict[str, Outcome]  # accuracy, auc, and hits@RATE at each rate of false alarms
    gain: Gain | None  # None: a control, or an attack that failed


@dataclass(frozen=True)
class SetFigures:
    """The figures of one set of people."""

    people: int
    positives: int  # people who have the value that is to be detected
    methods: tuple[Method, ...]


@dataclass(frozen=True)
class GroupRow:
    """What one attack has over the imputation for people with one value in a column."""

    value: str
    people: int
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


@dataclass(frozen=True)
class Findings:
    """What attributes.json holds after the header."""

    data: str
    sensitive: str
    value: str  # of the sensitive attribute: what is to be detected
    outcome: str
    is_numeric: bool  # whether the outcome is a number
    records: dict[str, int]  # by part: training, held-out, public
    target: str
    utility: dict[str, Outcome]  # of the target, by set of people: accuracy, or of numbers the mean absolute error
    alarms: tuple[float, ...]
    notable: float
    sets: dict[str, SetFigures]  # training, held-out
    verdict: Verdict
    groups: tuple[Group, ...]
    seed: int


def findings(plan: AttributeAudit, inputs: Inputs, evidence: Evidence) -> Findings:
    """Everything that the page is rendered from; the same evidence gives the same findings."""
    tables, layout = inputs.tables, inputs.tables.layout
    values = layout.sensitive.values or ()
    frequent = np.bincount(tables.public.sensitive, minlength=len(values))
    value = values.index(plan.value) if plan.value is not None else int(frequent.argmin())
    sets = {name: _set(plan, answers, value) for name, answers in evidence.answers.items()}
    utility = {
        name: attempt(lambda people=answers.people: _utility(evidence.model, people))
        for name, answers in evidence.answers.items()
    }
    training = sets["training"].methods
    return Findings(
        data=plan.data.name,
        sensitive=layout.sensitive.name,
        value=values[value],
        outcome=layout.outcome.name,
        is_numeric=layout.classes is None,
        records={"training": len(tables.training), "held-out": len(tables.held_out), "public": len(tables.public)},
        target=plan.target.type,
        utility=utility,
        alarms=plan.alarms,
        notable=plan.notable,
        sets=sets,
        verdict=verdict(training, plan.notable, _useless(layout, tables.training, utility["training"])),
        groups=tuple(_group(layout, evidence.answers["training"], name, training, value) for name in plan.groups),
        seed=plan.seed,
    )


def _utility(model: Model, records: Records) -> Estimate:
    """The accuracy of a model, or where it predicts numbers, the mean absolute error."""
    predicted, people = model(records.inputs(records.sensitive)), np.arange(len(records))
    if predicted.ndim == 1:
        return estimate(np.abs(predicted - records.outcome), people, bounds=None)
    return estimate((predicted.argmax(1) == records.outcome).astype(float), people)


def _useless(layout: Layout, training: Records, accuracy: Outcome) -> bool:
    """Whether a classifier names the outcomes of its own records worse than the commonest of them does."""
    if layout.classes is None or isinstance(accuracy, Failed):
        return False
    return accuracy.high < np.bincount(training.outcome.astype(int)).max() / len(training)


def _set(plan: AttributeAudit, answers: Answers, value: int) -> SetFigures:
    """Figures of every method on one set of people, and what each attack has over the imputation."""
    positive, base = answers.people.sensitive == value, answers.scores["imputation"]
    assert not isinstance(base, Failed)
    usual = _ranked(base, value)
    differences = {
        name: attempt(lambda s=scores: auc_difference(_ranked(s, value), usual, positive))
        for name, scores in answers.scores.items()
        if name not in CONTROLS and not isinstance(scores, Failed)
    }
    p = _adjusted(differences)
    methods = []
    for name, scores in answers.scores.items():
        if isinstance(scores, Failed):
            methods.append(Method(name, answers.queries[name], scores.failed, {}, None))
            continue
        figures, gain = _figures(plan, name, scores, answers.people.sensitive, value), None
        if name in differences:
            gain = Gain(_accuracy_gain(scores, base, answers.people), _of(differences[name]), p[name])
        methods.append(Method(name, answers.queries[name], None, figures, gain))
    return SetFigures(len(positive), int(positive.sum()), tuple(methods))


def _figures(
    plan: AttributeAudit, name: str, scores: Array, truth: NDArray[np.int64], value: int
) -> dict[str, Outcome]:
    detected = detection(name, _ranked(scores, value), truth == value, None, plan.alarms)
    accuracy = attempt(lambda: estimate(_right(scores, truth), np.arange(len(truth))))
    hits = {f"hits@{rate}": outcome for rate, outcome in detected.hits.items()}
    return {"accuracy": accuracy, "auc": detected.auc, **hits}


def _accuracy_gain(scores: Array, base: Array, people: Records) -> Outcome:
    truth = people.sensitive
    return attempt(lambda: difference(_right(scores, truth), _right(base, truth)))


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


def verdict(methods: Sequence[Method], notable: float, useless: bool) -> Verdict:
    """What the model adds to public records, for the people whom it learnt from.

    useless: as `_useless`; nothing follows then from attacks that find nothing.
    """
    areas = _areas(methods)
    significant = [name for name, (area, p) in areas.items() if p < ALPHA and area.low > 0]
    if significant:
        best = max(significant, key=lambda name: areas[name][0].value)
        area, _ = areas[best]
        sentence = (
            f"{best} finds more with the model than the imputation without it: "
            f"AUC {area.value:+.3f} [{area.low:.3f}, {area.high:.3f}]."
        )
        return Verdict("evidence of leakage", (sentence,))
    if failed := [row.method for row in methods if row.method not in CONTROLS and row.method not in areas]:
        return Verdict(
            "inconclusive",
            (f"No attack is shown to find more than the imputation, and {', '.join(failed)} failed.",),
        )
    if useless:
        return Verdict(
            "inconclusive",
            (
                "No attack finds more than the imputation, but the target names the outcomes of its own records "
                "worse than the commonest does: check that it is asked as it was trained.",
            ),
        )
    if all(area.high < notable for area, _ in areas.values()):
        return Verdict(
            "no evidence",
            (f"No attack finds more than the imputation, and {notable:g} of AUC more can be excluded.",),
        )
    return Verdict(
        "inconclusive",
        (f"No attack is shown to find more than the imputation, but {notable:g} of AUC more cannot be excluded.",),
    )


def _areas(methods: Sequence[Method]) -> dict[str, tuple[Estimate, float]]:
    """The AUC that each attack adds, and its p-value; without those that failed."""
    return {
        row.method: (row.gain.auc, row.gain.p)
        for row in methods
        if row.gain is not None and row.gain.p is not None and isinstance(row.gain.auc, Estimate)
    }


def _group(layout: Layout, answers: Answers, name: str, methods: Sequence[Method], value: int) -> Group:
    """The attack that adds most, by the values of a column: what it adds, and how much more than for everybody else."""
    areas = _areas(methods)
    if not areas:
        return Group(name, None, ())
    best = max(areas, key=lambda attack: areas[attack][0].value)
    scores, base = answers.scores[best], answers.scores["imputation"]
    assert not isinstance(scores, Failed) and not isinstance(base, Failed)
    truth, index = answers.people.sensitive, [column.name for column in layout.features].index(name)
    right, ranked, usual = _right(scores, truth), _ranked(scores, value), _ranked(base, value)

    def gain(rows: NDArray[np.bool_]) -> Difference:
        return auc_difference(ranked[rows], usual[rows], truth[rows] == value)

    column, values = answers.people.features[:, index], layout.features[index].values or ()
    groups = {label: column == code for code, label in enumerate(values)}
    groups = {label: inside for label, inside in groups.items() if inside.sum() >= GROUP}
    contrasts = {label: attempt(lambda i=inside: contrast(gain(i), gain(~i))) for label, inside in groups.items()}
    p = _adjusted(contrasts)
    rows = [
        GroupRow(
            value=label,
            people=int(inside.sum()),
            accuracy=attempt(lambda i=inside: estimate(right[i], np.arange(int(i.sum())))),
            gain=attempt(lambda i=inside: gain(i).estimate),
            contrast=_of(contrasts[label]),
            p=p[label],
        )
        for label, inside in groups.items()
    ]
    return Group(name, best, tuple(rows))
