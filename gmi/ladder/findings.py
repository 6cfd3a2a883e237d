"""The findings of a ladder: the figures of every attack and of the controls."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from gmi import checks
from gmi.checks import Flag
from gmi.data.images import Images
from gmi.inversion.findings import Cut, cuts
from gmi.inversion.inputs import Inputs
from gmi.inversion.judging import Answers, Judged, Releases
from gmi.inversion.literature import target_accuracy
from gmi.inversion.plan import RANDOM
from gmi.inversion.recognition import recognise
from gmi.inversion.scoring import chance_of, figures
from gmi.inversion.validity import eyesight
from gmi.ladder.plan import Ladder, baseline, costs
from gmi.metrics.statistics import Failed, Outcome, attempt, recovered
from gmi.oracles.access import reach
from gmi.report.coverage import Reach
from gmi.targets.templates import TemplateTarget


@dataclass(frozen=True)
class Evidence:
    """Everything that the findings rest on."""

    releases: Releases  # by step
    judged: Judged
    strengths: tuple[Flag, ...]  # of the searches, by level of access


@dataclass(frozen=True)
class Point:
    """One attack, or one size of the best-of-N control."""

    rung: str
    access: str
    search: str
    common_queries: int  # queries for everybody
    person_queries: int  # queries for one person
    name: str  # the step
    queries: int  # for everybody and all attacked people
    figures: dict[str, Outcome]  # by metric
    ratio: Outcome | None  # its rank-1 over the reference's; None: it is the reference
    baseline: str | None  # name of the best-of-N control whose queries cost about as much; None: a control
    # how far its rank-1 is on the way from the baseline's to the reference's; None: a control, or the reference
    share: Outcome | None
    own_opinion: float  # share of its images that the target itself takes for their person


@dataclass(frozen=True)
class Findings:
    """The keys of ladder.json after the header's."""

    subject: Literal["faces", "objects"]
    attacks: dict[str, tuple[Reach, ...]]  # that were made, as standards.yaml names them, and how the model was reached
    judge: str
    people: int  # behind the target
    attacked: int
    gallery: int  # people among whom the judge ranks
    seeds: tuple[int, ...]
    reference: str  # name of the point that others are compared with
    budget: int | None  # with one seed
    chance: dict[str, float]  # by metric
    thresholds: tuple[Cut, ...]
    checks: tuple[Flag, ...]  # of the target, the judge and the searches
    random_prior: dict[str, Outcome]  # figures of the prior's samples, by metric
    points: tuple[Point, ...]


def own_opinion(answers: Answers, images: Images) -> float:
    """The share of images that the target itself takes for their person."""
    return float((answers.named == images.classes).double().mean())


def findings(plan: Ladder, inputs: Inputs, evidence: Evidence) -> Findings:
    """Everything that the page is rendered from; the same evidence gives the same findings."""
    people, judge = len(inputs.people.attacked), inputs.judges.faces[0]
    templates, opinion = evidence.judged.templates[judge.name], evidence.judged.answers["target"]
    recognised = recognise(
        judge,
        templates,
        inputs.people,
        evidence.releases,
        plan.audit.fmrs,
        attack=plan.reference,
        seeds=len(plan.audit.seeds),
    )
    starts = {
        step: baseline(plan, inputs.prior, step, people, len(inputs.people.names)) for step, _, _ in plan.attacks()
    }

    def share(step: str, start: str | None) -> Outcome:
        """How far the step's rank-1 is on the way from the start's, or from 0, to the reference's."""
        values, most = (recognised.of_people(each, "rank1") for each in (step, plan.reference))
        least = np.zeros_like(values) if start is None else recognised.of_people(start, "rank1")
        found = attempt(lambda: recovered(values, least, most))
        if isinstance(found, Failed):
            words = "best of N" if start else "nothing"
            return Failed(found.failed.replace("the oracle", "the reference").replace("the control", words))
        return found

    levels = {metric: chance_of(recognised, metric) for metric in recognised.rates}
    return Findings(
        subject=plan.audit.data.subject,
        attacks={
            "templates" if isinstance(plan.audit.target, TemplateTarget) else "representatives": tuple(
                sorted({reach(rung.access) for rung in plan.rungs})
            )
        },
        judge=recognised.judge,
        people=len(inputs.people.names),
        attacked=people,
        gallery=recognised.people,
        seeds=plan.audit.seeds,
        reference=plan.reference,
        budget=plan.budget,
        chance={metric: level for metric, level in levels.items() if level is not None},
        thresholds=cuts(recognised),
        checks=(
            checks.knows_its_people(target_accuracy(evidence.judged, inputs.people)),
            eyesight(recognised),
            checks.rule_of_30(recognised.judge, recognised.thresholds),
            *evidence.strengths,
        ),
        random_prior=figures(recognised, [RANDOM]),
        points=tuple(
            Point(
                **vars(cost),
                name=step,
                queries=cost.queries(people),
                figures=figures(recognised, [step]),
                ratio=None if step == plan.reference else share(step, None),
                baseline=starts.get(step),
                share=share(step, starts[step]) if step in starts and step != plan.reference else None,
                own_opinion=own_opinion(opinion[step], evidence.releases[step]),
            )
            for step, cost in costs(plan, inputs.prior, len(inputs.people.names)).items()
        ),
    )
