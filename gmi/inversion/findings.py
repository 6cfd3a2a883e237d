"""The findings of an audit, composed from its evidence: figures with intervals, checks, a verdict, what it cost."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import Field, JsonValue
from torch import Tensor

from gmi import checks
from gmi.data.people import People
from gmi.inversion import literature, scoring
from gmi.inversion.attacker import Spent
from gmi.inversion.inputs import Inputs
from gmi.inversion.judging import Judged, Releases
from gmi.inversion.plan import Audit
from gmi.inversion.related import Related
from gmi.inversion.scoring import Exposed, Gap, Recognised, Result
from gmi.inversion.verdict import METRIC, Finding, Verdict
from gmi.metrics.statistics import Failed, Outcome
from gmi.oracles.access import AnyOracle
from gmi.oracles.interface import Interface
from gmi.oracles.ledger import OWN_OPINION, SHARED
from gmi.protocols import Prior
from gmi.settings import plain
from gmi.targets.module import ModuleTarget
from gmi.targets.served import Served
from gmi.training.weights import record_of

LIMITS = (
    "One target, one prior, one search, one level of access: a stronger attack may recover more.",
    "Intervals speak of people like those audited, with this prior and these judges; seeds were not varied.",
    "Other people were not matched for sex, age or skin: part of an AUC above 0.5 may be such traits.",
    "Judges err more for some groups of people than for others, and so do match rates.",
    "A failure to recover people is never proof that a model is safe.",
)


@dataclass(frozen=True)
class Evidence:
    """Everything that the findings rest on."""

    oracle: AnyOracle
    releases: Releases
    probes: Mapping[str, Tensor]  # what the checks look at
    spent: Mapping[str, Spent]  # by step
    judged: Judged
    recognised: tuple[Recognised, ...]  # by face judge; the verdict rests on the first
    related: Related


@dataclass(frozen=True)
class Judgement:
    """The verdict and the figures it rests on, next to the target's own opinion."""

    access: str
    finding: Finding
    because: Annotated[tuple[str, ...], Field(min_length=1)]
    judge: str
    metric: str
    control: str | None
    advantage: Outcome
    smallest_effect: float | Failed
    naive: Outcome  # share of the attack's images that the target itself takes for their person


@dataclass(frozen=True)
class Cut:
    """The similarity from which a judge takes two images for one person, at one false match rate."""

    fmr: float
    value: float
    false_matches: int
    comparisons: int
    trusted: bool


@dataclass(frozen=True)
class JudgeFigures:
    """A face judge: its thresholds, and the share of images of each kind in which it found no face."""

    name: str
    thresholds: tuple[Cut, ...]
    undetected: dict[str, float]


@dataclass(frozen=True)
class LedgerFigures:
    """What was sent to a target behind an interface."""

    budget: int | None
    images: int  # different ones
    sent: int
    shared: int
    own_opinion: int  # the auditor's own questions, not the adversary's
    person_most: int


@dataclass(frozen=True)
class Cost:
    """What the audit cost."""

    queries: Annotated[dict[str, int], Field(json_schema_extra={"required": ["total"]})]  # by step, and in total
    reconstructions: int
    evaluations: dict[str, int]  # of networks, for each of the search's candidates
    ledger: LedgerFigures | None  # None: the adversary has the model
    seconds: dict[str, float]


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
    split_seed: int
    digest: str


@dataclass(frozen=True)
class DefenceFigures:
    """The defence of the target's training, and what it promises of differential privacy."""

    settings: dict[str, JsonValue]
    promise: str | None


@dataclass(frozen=True)
class Findings:
    """What report.json holds after the header."""

    defence: DefenceFigures | None
    verdict: Judgement
    judges: tuple[JudgeFigures, ...]
    results: tuple[Result, ...]
    gap: tuple[Gap, ...]
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
    facts = {(row.method, row.judge, row.metric): row.estimate for row in results}
    naive = facts["search", "target", "top1"]
    early, doubts = _early_checks(inputs, evidence)
    stops = [flag.message for flag in early if flag.severity == "stop"]
    verdicts = scoring.verdicts(recognised, stops, doubts)
    flags = [
        *early,
        checks.control_wins(scoring.advantages(first)),
        checks.judges_disagree({name: verdict.finding for name, verdict in verdicts.items()}),
        checks.self_deception(naive, facts["search", first.judge, "rank1"]),
        *(checks.rule_of_30(judge.judge, judge.thresholds) for judge in recognised),
        *(checks.faces_found(judge.judge, judged.undetected[judge.judge]) for judge in recognised),
    ]
    return Findings(
        defence=_defence(plan),
        verdict=_judgement(verdicts[first.judge], first.judge, str(plan.access), naive),
        judges=tuple(_judge(judge, judged.undetected[judge.judge]) for judge in recognised),
        results=tuple(results),
        gap=tuple(row for judge in recognised for row in scoring.gaps(judge)),
        people=tuple(scoring.exposed(first)),
        related=evidence.related,
        checks=tuple(flags),
        cost=_cost(plan, inputs.prior, evidence),
        data=_data(plan, people),
        limits=LIMITS,
    )


def _early_checks(inputs: Inputs, evidence: Evidence) -> tuple[list[checks.Flag], list[str]]:
    """The checks that a verdict depends on, and the doubts that some raise about the attack's strength."""
    people, probes = inputs.people, evidence.probes
    weakening = [checks.randomised(probes["logits"], probes["again"])] if "again" in probes else []
    early = []
    if "gradients" in probes:  # scores and labels are what they are, and no gradient is asked for
        weakening.insert(0, checks.softmaxed(probes["logits"]))
        early.append(checks.dead_gradients(probes["gradients"]))
    early += [
        *weakening,
        checks.knows_its_people(literature.target_accuracy(evidence.judged, people)),
        *_overlap(people, evidence.recognised[0]),
        *([checks.unseen_weights()] if isinstance(inputs.target, Served) else []),
    ]
    return early, [flag.message for flag in weakening if flag.severity == "warning"]


def _overlap(people: People, recognised: Recognised) -> Iterator[checks.Flag]:
    private = [*people.training.digests, *people.enrolment.digests]
    yield checks.copies(private, () if people.public is None else people.public.digests)
    if recognised.public is not None:
        yield checks.lookalikes(recognised.public, recognised.thresholds[-1])


def _judgement(verdict: Verdict, judge: str, access: str, naive: Outcome) -> Judgement:
    return Judgement(
        access=access,
        finding=verdict.finding,
        because=verdict.because,
        judge=judge,
        metric=METRIC,
        control=verdict.control,
        advantage=verdict.advantage,
        smallest_effect=verdict.smallest_effect,
        naive=naive,
    )


def cuts(recognised: Recognised) -> tuple[Cut, ...]:
    """A judge's thresholds as a report has them."""
    return tuple(Cut(**asdict(cut), trusted=cut.trusted) for cut in recognised.thresholds)


def _judge(recognised: Recognised, undetected: Mapping[str, float]) -> JudgeFigures:
    return JudgeFigures(recognised.judge, cuts(recognised), dict(undetected))


def _cost(plan: Audit, prior: Prior, evidence: Evidence) -> Cost:
    spent, search = evidence.spent, plan.search
    queries = {step: cost.queries for step, cost in spent.items() if cost.queries and not step.startswith("oracle")}
    seconds = {step: cost.seconds for step, cost in spent.items()}
    seconds |= {f"judge {name}": amount for name, amount in evidence.judged.seconds.items()}
    fitting: Any = prior  # `refuse_misfit` has seen to it
    passes = search.passes(fitting)
    return Cost(
        queries=queries | {"total": sum(queries.values())},
        reconstructions=len(evidence.releases["search"]),
        evaluations={
            "prior": sum(passes),
            "prior_with_gradient": passes.with_gradient,
            "target": search.queries(fitting),
        },
        ledger=_ledger(evidence.oracle, plan.access.budget),
        seconds=seconds | {"total": sum(seconds.values())},
    )


def _ledger(oracle: AnyOracle, budget: int | None) -> LedgerFigures | None:
    if not isinstance(oracle, Interface):
        return None
    people = {key: account.sent for key, account in oracle.ledger.by("person").items()}
    steps = oracle.ledger.by("step")
    opinions = steps[OWN_OPINION].sent if OWN_OPINION in steps else 0
    shared = people.pop(SHARED, 0) - opinions
    total = oracle.ledger.total
    return LedgerFigures(budget, total.images, total.sent, shared, opinions, max(people.values(), default=0))


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
        split_seed=plan.data.seed,
        digest=people.digest,
    )


def _defence(plan: Audit) -> DefenceFigures | None:
    if not isinstance(plan.target, ModuleTarget) or plan.target.defence is None:
        return None
    record = record_of(plan.target)
    promise = None if record is None or record.promise is None else str(record.promise)
    return DefenceFigures(plain(plan.target.defence), promise)
