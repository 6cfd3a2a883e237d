"""The findings of a comparison: figures of every arm and attack, and advice on every defence."""

from dataclasses import dataclass
from typing import Literal

from gmi import checks
from gmi.checks import Flag
from gmi.comparison.advice import annotate
from gmi.comparison.figures import ArmFigures, CellFigures, Figures
from gmi.comparison.inputs import Inputs
from gmi.comparison.plan import Comparison, cells
from gmi.comparison.trials import Evidence
from gmi.inversion.exposure import METRIC
from gmi.inversion.findings import Cut, cuts
from gmi.inversion.plan import RANDOM
from gmi.inversion.recognition import recognise
from gmi.inversion.scoring import chance_of, figures
from gmi.inversion.strength import grey_prior
from gmi.inversion.validity import eyesight
from gmi.metrics.statistics import Outcome
from gmi.oracles.access import reach
from gmi.report.coverage import Reach


@dataclass(frozen=True)
class Findings:
    """The keys of comparison.json after the header's."""

    subject: Literal["faces", "objects"]
    attacks: dict[str, tuple[Reach, ...]]  # that were made, as standards.yaml names them, and how the model was reached
    judge: str
    attacked: int  # people
    gallery: int  # people among whom the judge ranks
    seeds: tuple[int, ...]
    margin: float  # accuracy that a defence may cost and still be advised
    metric: str  # by which attacks are compared
    chance: dict[str, float]  # by metric
    thresholds: tuple[Cut, ...]
    checks: tuple[Flag, ...]  # of the judge and the searches
    random_prior: dict[str, Outcome]  # figures of the prior's samples, by metric
    arms: tuple[ArmFigures, ...]
    cells: tuple[CellFigures, ...]


def findings(plan: Comparison, inputs: Inputs, evidence: Evidence) -> Findings:
    """Everything that the page is rendered from; the same evidence gives the same findings."""
    samples = evidence.releases[RANDOM]
    (judge,), first = inputs.judges.faces, next(cells(plan)).key
    templates = evidence.judged.templates[judge.name]
    recognised = recognise(judge, templates, inputs.people, evidence.releases, plan.fmrs, attack=first)
    table = Figures(plan, evidence, recognised, inputs.people.enrolment.classes.numpy())
    levels = {metric: chance_of(recognised, metric) for metric in recognised.rates}
    return Findings(
        subject=plan.data.subject,
        attacks={"representatives": tuple(sorted({reach(cell.access) for cell in cells(plan)}))},
        judge=recognised.judge,
        attacked=len(inputs.people.attacked),
        gallery=recognised.people,
        seeds=plan.seeds,
        margin=plan.margin,
        metric=METRIC,
        chance={metric: level for metric, level in levels.items() if level is not None},
        thresholds=cuts(recognised),
        checks=(
            eyesight(recognised),
            checks.rule_of_30(recognised.judge, recognised.thresholds),
            *evidence.strengths,
            *dict.fromkeys(flag for each in plan.targets for flag in grey_prior(each.target, inputs.people, samples)),
        ),
        random_prior=figures(recognised, [RANDOM]),
        arms=annotate([table.arm(subject, arm) for subject in plan.targets for arm in plan.arms_of(subject)]),
        cells=tuple(table.cell(group) for group in table.groups),
    )
