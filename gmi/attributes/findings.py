"""The findings of an attribute audit: figures of attacks and controls, by groups of people, and a verdict."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from gmi.attributes.figures import Answers, Group, Method, SetFigures, group_figures, set_figures
from gmi.attributes.inputs import Inputs
from gmi.attributes.plan import AttributeAudit
from gmi.attributes.targets import Model
from gmi.attributes.values import Value, others, rows, together, untested
from gmi.attributes.verdict import ALPHA, shown, verdict
from gmi.metrics.conclusion import Conclusion
from gmi.metrics.repeats import averaged
from gmi.metrics.statistics import Estimate, Outcome, attempt, difference, estimate
from gmi.report.coverage import Reach

LIMITS = (
    "An attack that has no more than the imputation shows that this attack failed; a stronger one may succeed.",
    "The adversary is taken to know all the other columns: to one who knows fewer, the model may tell more.",
    "What the imputation alone infers about a person does not come from the model, but it still concerns the person.",
)

_JITTER = 1e-6  # of answers, and of their spread: what batches and processors change


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
    values: tuple[Value, ...]  # what attacks tell of the attribute's other values
    untested: tuple[str, ...]  # other values, of which too few people are attacked to acquit the model
    groups: tuple[Group, ...]
    limits: tuple[str, ...]  # what the audit does not tell
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
    groups = tuple(group_figures(layout, answers["training"], name, training, value) for name in plan.groups)
    doubts = [
        *_unlearnt([_skill(trial) for trial in trials]),
        *(_misplaced(utility, sets, layout.classes is not None, plan.notable) if _own(plan) else ()),
        *_exposed(groups),
    ]
    beside, seeds = others(plan, answers["training"], values, value), len(trials)

    def concluded(methods: Sequence[Method]) -> Conclusion:
        return verdict(methods, plan.notable, doubts, seeds, 1 + len(beside))

    reaches: set[Reach] = {"weights" if attack.reads == "leaves" else "api" for attack in plan.attacks}
    unknown = untested(values, value, beside, plan.notable)
    told = together(concluded(training), {label: concluded(each.methods) for label, each in beside.items()}, unknown)
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
        verdict=_heard(plan, trials, layout.sensitive.name, len(values), told),
        values=rows(beside),
        untested=unknown,
        groups=groups,
        limits=LIMITS,
        seeds=plan.seeds,
    )


def _utility(trial: Trial, name: str) -> Outcome:
    """The accuracy of a target on a set of people, or where it predicts numbers, the mean absolute error."""
    records = trial.answers[name].people
    predicted, people = trial.model(records.inputs(records.sensitive)), np.arange(len(records))
    if predicted.ndim == 1:
        return attempt(lambda: estimate(np.abs(predicted - records.outcome), people, bounds=None))
    return attempt(lambda: estimate((predicted.argmax(1) == records.outcome).astype(float), people))


def _skill(trial: Trial) -> Outcome:
    """How far a target's predictions go with the outcomes of its own records: 0 where it knows nothing of them.

    Of classes, by how much likelier it takes each person's than the same class of the others. Of numbers, the product
    of prediction's and outcome's ranks, from -1 to 1, whose mean is a third of Spearman's correlation: neither leans on
    how well it is calibrated, nor on a few large numbers.
    """
    records = trial.answers["training"].people
    predicted, outcome = trial.model(records.inputs(records.sensitive)), records.outcome
    if predicted.ndim == 2:
        own, others = predicted[np.arange(len(outcome)), outcome.astype(int)], predicted.mean(0)[outcome.astype(int)]
        return attempt(lambda: difference(own, others))
    ranks = [2 * rankdata(each) / (len(outcome) + 1) - 1 for each in (predicted, outcome)]
    return attempt(lambda: estimate(ranks[0] * ranks[1], np.arange(len(outcome)), bounds=(-1.0, 1.0)))


def _unlearnt(skills: Sequence[Outcome]) -> Iterator[str]:
    """Why nothing follows from a target that does not know its own records."""
    skill = averaged(skills, (-1.0, 1.0))
    if not isinstance(skill, Estimate) or skill.low <= 0:
        yield (
            "But the target is not shown to predict the outcomes of its own records better than one that says the same "
            "of everybody: check that it is asked as it was trained."
        )


def _misplaced(
    utility: Mapping[str, Outcome], sets: Mapping[str, SetFigures], classes: bool, notable: float
) -> Iterator[str]:
    """Why the training records may not be those that the target learnt from.

    utility: by set, the accuracy where there are classes, else the mean error.
    notable: half of which held-out people may be found better with a model that knows more of people in general.
    """
    learnt, other = utility["training"], utility["held-out"]
    if isinstance(learnt, Estimate) and isinstance(other, Estimate):
        better = other.low > learnt.high if classes else other.high < learnt.low
        if better:
            yield (
                f"But the target is better on held-out records than on those of training ({other.value:.3g} to "
                f"{learnt.value:.3g}): check that the records that it learnt from stand first in the file."
            )
    found = [each for each in shown(sets["held-out"].methods) if each.gain.value >= notable / 2]
    if found:
        yield (
            f"But of held-out people {found[0].attack} finds more with the model than the imputation does "
            f"({found[0].what} {found[0].gain.value:+.3f}): check that the records that the target learnt from stand "
            "first in the file."
        )


def _own(plan: AttributeAudit) -> bool:
    """Whether the target is the user's own: what it learnt from, and what reaches it, is as the user says."""
    return bool(getattr(plan.target, "opaque", False))


def _heard(plan: AttributeAudit, trials: Sequence[Trial], sensitive: str, values: int, told: Conclusion) -> Conclusion:
    """The verdict, unless the target's answers are the same whatever the sensitive value is: nothing comes from it."""
    for trial in trials:
        records = trial.answers["training"].people
        answers = [trial.model(records.inputs(code)) for code in range(values)]
        first, spread = answers[0], 1e-3  # of probabilities, of which small ones tell as much
        if first.ndim == 1:
            spread = float(np.median(np.abs(first - np.median(first))))
        if not all(np.allclose(first, each, rtol=_JITTER, atol=_JITTER * spread) for each in answers):
            return told
    same = f"The target's answers are the same whatever {sensitive} is"
    if _own(plan):
        return Conclusion(
            "inconclusive",
            (f"{same}: check that it is handed over. These attacks show nothing of a model that does not take it.",),
        )
    if told.finding == "evidence of leakage":
        return Conclusion("inconclusive", (f"{same}: what attacks find beyond the imputation does not come from it.",))
    return told


def _exposed(groups: Sequence[Group]) -> Iterator[str]:
    """Which groups are found, of all people and more than others, by Bonferroni for the number of columns."""
    for group in groups:
        for row in group.rows:
            if not isinstance(row.gain, Estimate) or row.p is None:
                continue
            if row.p * len(groups) < ALPHA and row.gain.low > 0:
                gain = f"{row.gain.value:+.3f} [{row.gain.low:.3f}, {row.gain.high:.3f}]"
                yield (
                    f"But of people whose {group.column} is {row.value}, {group.attack} finds more than the "
                    f"imputation, and more than of others: AUC {gain}, which a mean over everybody hides."
                )
