"""The findings of an attribute audit: figures of attacks and controls, by groups of people, and a verdict."""

from dataclasses import dataclass

import numpy as np

from gmi.attributes.figures import Answers, Group, SetFigures, group_figures, set_figures
from gmi.attributes.inputs import Inputs
from gmi.attributes.plan import AttributeAudit
from gmi.attributes.records import Layout, Records
from gmi.attributes.targets import Model
from gmi.attributes.verdict import verdict
from gmi.metrics.conclusion import Conclusion
from gmi.metrics.repeats import averaged
from gmi.metrics.statistics import Failed, Outcome, attempt, estimate
from gmi.report.coverage import Reach


@dataclass(frozen=True)
class Trial:
    """One seed's target, and what is said of the people whom it learnt from, and of others."""

    model: Model
    answers: dict[str, Answers]  # by set of people: training, held-out


@dataclass(frozen=True)
class Evidence:
    """Everything that the findings rest on."""

    trials: tuple[Trial, ...]  # by seed


@dataclass(frozen=True)
class Findings:
    """What attributes.json holds after the header."""

    attacks: dict[str, tuple[Reach, ...]]  # that were made, as standards.yaml names them, and how the model was reached
    data: str
    sensitive: str
    value: str  # of the sensitive attribute: what is to be detected
    outcome: str
    is_numeric: bool  # whether the outcome is a number
    records: dict[str, int]  # by part: training, held-out, public
    twins: int  # held-out records that equal one of training in every column
    target: str
    utility: dict[str, Outcome]  # of the target, by set of people: accuracy, or of numbers the mean absolute error
    alarms: tuple[float, ...]
    notable: float
    sets: dict[str, SetFigures]  # training, held-out
    verdict: Conclusion
    groups: tuple[Group, ...]
    seeds: tuple[int, ...]


def findings(plan: AttributeAudit, inputs: Inputs, evidence: Evidence) -> Findings:
    """Everything that the page is rendered from; the same evidence gives the same findings."""
    tables, layout, trials = inputs.tables[0], inputs.tables[0].layout, evidence.trials
    values = layout.sensitive.values or ()
    frequent = np.bincount(tables.public.sensitive, minlength=len(values))
    value = values.index(plan.value) if plan.value is not None else int(frequent.argmin())
    answers = {name: [trial.answers[name] for trial in trials] for name in trials[0].answers}
    sets = {name: set_figures(plan, each, value) for name, each in answers.items()}
    most = np.inf if layout.classes is None else 1.0
    utility = {name: averaged([_utility(trial, name) for trial in trials], (0.0, most)) for name in answers}
    training = sets["training"].methods
    useless = _useless(layout, tables.training, utility["training"])
    reaches: set[Reach] = {"weights" if attack.reads == "leaves" else "api" for attack in plan.attacks}
    return Findings(
        attacks={"attributes": tuple(sorted(reaches))},
        data=plan.data.name,
        sensitive=layout.sensitive.name,
        value=values[value],
        outcome=layout.outcome.name,
        is_numeric=layout.classes is None,
        records={"training": len(tables.training), "held-out": len(tables.held_out), "public": len(tables.public)},
        twins=tables.twins,
        target=plan.target.type,
        utility=utility,
        alarms=plan.alarms,
        notable=plan.notable,
        sets=sets,
        verdict=verdict(training, plan.notable, useless, len(trials)),
        groups=tuple(group_figures(layout, answers["training"], name, training, value) for name in plan.groups),
        seeds=plan.seeds,
    )


def _utility(trial: Trial, name: str) -> Outcome:
    """The accuracy of a target on a set of people, or where it predicts numbers, the mean absolute error."""
    records = trial.answers[name].people
    predicted, people = trial.model(records.inputs(records.sensitive)), np.arange(len(records))
    if predicted.ndim == 1:
        return attempt(lambda: estimate(np.abs(predicted - records.outcome), people, bounds=None))
    return attempt(lambda: estimate((predicted.argmax(1) == records.outcome).astype(float), people))


def _useless(layout: Layout, training: Records, accuracy: Outcome) -> bool:
    """Whether a classifier names the outcomes of its own records worse than the commonest of them does."""
    if layout.classes is None or isinstance(accuracy, Failed):
        return False
    return accuracy.high < np.bincount(training.outcome.astype(int)).max() / len(training)
