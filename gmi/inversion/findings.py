"""The findings of an audit, composed from its evidence: figures with intervals, checks, a verdict, what it cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from gmi import checks
from gmi.data.people import People
from gmi.inversion import literature, scoring
from gmi.inversion.cost import Cost, cost_of
from gmi.inversion.exposure import METRIC, NAMES, Advantage
from gmi.inversion.inputs import Inputs
from gmi.inversion.plan import RANDOM, Audit
from gmi.inversion.prior_fit import PriorFit, prior_fit
from gmi.inversion.recognition import Recognised
from gmi.inversion.related import Related
from gmi.inversion.scoring import Exposed, Gap, Result
from gmi.inversion.validity import Evidence, early_checks, public_counts
from gmi.inversion.verdict import Finding, settle
from gmi.metrics.statistics import Estimate, Failed, Outcome, attempt
from gmi.oracles.access import reach
from gmi.report.coverage import Reach
from gmi.search.solve import Solve
from gmi.settings import plain
from gmi.targets.module import ModuleTarget
from gmi.training.weights import record_of

LIMITS = (
    "One target, one prior, one search, one level of access: a stronger attack may recover more.",
    "Intervals speak of people like those audited, with this prior and these judges.",
    "Look-alikes are the judge's: a trait that it does not see, or that very few people share, may pass for a person.",
    "Judges err more for some groups of people than for others, and so do match rates.",
    "A failure to recover people is never proof that a model is safe.",
)


@dataclass(frozen=True)
class Judgement:
    """The verdict and the figures it rests on, next to the target's own opinion."""

    access: str
    finding: Finding
    because: Annotated[tuple[str, ...], Field(min_length=1)]
    effect: str | None  # the size of the effect in words; None: its figures failed
    judge: str  # whose figures these are
    judges: dict[str, Finding]  # what each judge's own figures allow to conclude
    metric: str
    notable: float  # the smallest advantage that matters: "no evidence" excludes it
    seeds: int
    advantages: tuple[Advantage, ...]  # by attack
    optimising: Outcome | None  # the search over the best of the prior's samples
    worst_tenth: Outcome  # AUC that the most exposed tenth of people exceed
    smallest_effect: float | Failed
    people_needed: int | None
    naive: Outcome  # share of the attack's images that the target itself takes for their person


@dataclass(frozen=True)
class Cut:
    """The similarity from which a judge takes two images for one person, at one false match rate."""

    fmr: float
    value: float
    false_matches: int
    comparisons: int
    effective: float  # how many independent false matches say as much
    rates: tuple[float, float]  # the false match rates that it may have among people in general
    trusted: bool


@dataclass(frozen=True)
class JudgeFigures:
    """A face judge: its thresholds, and the share of images of each kind in which it found no face."""

    name: str
    thresholds: tuple[Cut, ...]
    undetected: dict[str, float]


@dataclass(frozen=True)
class DataFigures:
    """How many people and images took part."""

    name: str
    people: int
    attacked: int
    training_images: int
    enrolment_images: int
    distractors: int
    strangers: int
    public_images: int
    left_out: tuple[str, ...]  # what lies in the folders and was not read as an image, each with the reason
    split_seed: int
    digest: str


@dataclass(frozen=True)
class DefenceFigures:
    """The defence of the target's training, and what it promises of differential privacy."""

    settings: dict[str, JsonValue]
    recorded: bool  # the record of the configuration's training shows it; False: the configuration states it alone
    promise: str | None


@dataclass(frozen=True)
class Findings:
    """What report.json holds after the header."""

    subject: Literal["faces", "objects"]
    attacks: dict[str, tuple[Reach, ...]]  # that were made, as standards.yaml names them, and how the model was reached
    defence: DefenceFigures | None
    verdict: Judgement
    judges: tuple[JudgeFigures, ...]
    results: tuple[Result, ...]
    gap: tuple[Gap, ...]
    prior: tuple[PriorFit, ...]  # by face judge
    people: tuple[Exposed, ...]
    related: Related
    checks: tuple[checks.Flag, ...]
    cost: Cost
    data: DataFigures
    limits: tuple[str, ...]


def findings(plan: Audit, inputs: Inputs, evidence: Evidence) -> Findings:
    """Everything that the report is rendered from; the same evidence gives the same findings."""
    people, judged, recognised = inputs.people, evidence.judged, evidence.recognised
    first, releases = recognised[0], evidence.releases
    results = [row for judge in recognised for row in scoring.identities(judge)]
    for judge in inputs.judges.faces:
        results += literature.pair_matches(judge, judged.templates[judge.name], people, releases, plan.fmrs)
    results += literature.figures(judged, first.judge, people, releases)
    facts = {(row.method, row.judge, row.metric): row for row in results}
    naive = facts["search", "target", "top1"].estimate
    early = early_checks(plan, inputs, evidence, naive, facts[RANDOM, "target", "top1"].estimate)
    stops = [flag.message for flag in early if flag.severity == "stop"]
    doubts = [flag.message for flag in early if flag.severity == "warning" and flag.bars_acquittal]
    verdicts = scoring.verdicts(recognised, plan.notable, stops, doubts, public_counts(early))
    verdict = settle(verdicts)
    own: dict[str, Finding] = {name: each.finding for name, each in verdicts.items()}
    differences = {
        "the best of the prior's samples": verdict.optimising,
        "images that know nothing of the target": verdict.advantages[0].leak,
    }
    defence = _defence(plan)
    flags = [
        *early,
        checks.control_wins({name: outcome for name, outcome in differences.items() if outcome is not None}),
        checks.judges_disagree(own),
        checks.self_deception(naive, facts["search", first.judge, "rank1"].estimate),
        *([] if people.groups is None else [checks.group_sizes(people.groups)]),
        *([] if defence is None else [checks.defence_shown(str(defence.settings["type"]), defence.recorded)]),
        *(checks.rule_of_30(judge.judge, judge.thresholds) for judge in recognised),
        *(checks.training_stated(judge.name, judge.trained_on) for judge in inputs.judges.faces),
    ]
    judgement = Judgement(
        access=str(plan.access),
        effect=effect(first, results, verdict.advantages),
        judge=first.judge,
        judges=own,
        metric=METRIC,
        notable=plan.notable,
        seeds=len(plan.seeds),
        worst_tenth=attempt(lambda: scoring.worst_tenth(first)),
        naive=naive,
        **vars(verdict),
    )
    return Findings(
        subject=plan.data.subject,
        attacks=_attacks(plan, evidence.related),
        defence=defence,
        verdict=judgement,
        judges=tuple(_judge(judge, judged.undetected[judge.judge]) for judge in recognised),
        results=tuple(results),
        gap=tuple(row for judge in recognised for row in scoring.gaps(judge)),
        prior=tuple(
            prior_fit(judge, judged.templates[judge.name], people, len(plan.seeds)) for judge in inputs.judges.faces
        ),
        people=tuple(scoring.exposed(first)),
        related=evidence.related,
        checks=tuple(flags),
        cost=cost_of(plan, inputs.prior, evidence.oracle, evidence.spent, judged.seconds, len(releases["search"])),
        data=_data(plan, people),
        limits=LIMITS,
    )


def effect(recognised: Recognised, results: Sequence[Result], advantages: Sequence[Advantage]) -> str | None:
    """The size of the effect of the strongest attack for a reader who knows no AUC; None where a figure failed."""
    leaks = {each.attack: each.leak.value for each in advantages if isinstance(each.leak, Estimate)}
    attack = max(leaks, key=leaks.__getitem__, default="search")
    rows = {row.metric: row for row in results if (row.method, row.judge) == (attack, recognised.judge)}
    matched = rows[f"match@{recognised.thresholds[0].fmr:g}"]
    first = rows["rank1"]
    if isinstance(matched.estimate, Failed) or isinstance(first.estimate, Failed):
        return None

    def hundred(estimate: Estimate) -> str:
        return f"{100 * estimate.value:.0f} [{100 * estimate.low:.0f}, {100 * estimate.high:.0f}]"

    return (
        f"Of 100 such people, {NAMES[attack]} would put {hundred(first.estimate)} first among {recognised.people} "
        f"(chance: {100 * (first.chance or 0):.1f}), and {hundred(matched.estimate)} would match at FMR "
        f"{100 * recognised.thresholds[0].fmr:g} % (samples of the prior: {100 * (matched.chance or 0):.1f})."
    )


def cuts(recognised: Recognised) -> tuple[Cut, ...]:
    """A judge's thresholds as a report has them."""
    return tuple(
        Cut(
            cut.fmr,
            cut.value,
            cut.false_matches,
            cut.comparisons,
            cut.effective,
            cut.rates,
            cut.trusted,
        )
        for cut in recognised.thresholds
    )


def _judge(recognised: Recognised, undetected: Mapping[str, float]) -> JudgeFigures:
    return JudgeFigures(recognised.judge, cuts(recognised), dict(undetected))


def _data(plan: Audit, people: People) -> DataFigures:
    return DataFigures(
        name=plan.data.name,
        people=len(people.names),
        attacked=len(people.attacked),
        training_images=len(people.training),
        enrolment_images=len(people.enrolment),
        distractors=0 if people.distractors is None else len(people.distractors.classes.unique()),
        strangers=0 if people.strangers is None else len(people.strangers),
        public_images=0 if people.public is None else len(people.public),
        left_out=people.left_out,
        split_seed=plan.data.seed,
        digest=people.digest,
    )


def _attacks(plan: Audit, related: Related) -> dict[str, tuple[Reach, ...]]:
    """The attacks that were made; those beside the verdict ask for answers alone."""
    of_templates = related.templates is not None or isinstance(plan.search, Solve)
    first = "templates" if of_templates else "representatives"
    made: dict[str, tuple[Reach, ...]] = {first: (reach(plan.access),)}
    beside = {"membership": related.membership, "copying": related.copying}
    made.update((name, ("api",)) for name, finding in beside.items() if finding is not None)
    return made


def _defence(plan: Audit) -> DefenceFigures | None:
    if not isinstance(plan.target, ModuleTarget) or plan.target.defence is None:
        return None
    # weights that the configuration's own training did not make are refused where it has one
    record = None if plan.training is None else record_of(plan.target)
    promise = None if record is None or record.promise is None else str(record.promise)
    return DefenceFigures(plain(plan.target.defence), record is not None, promise)
