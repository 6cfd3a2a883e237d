"""Related attacks of an audit, next to its verdict: membership inference, copying of the target by a student, and, of
leaked templates, which people the images pass for in the system itself.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from gmi.audits import Hardware
from gmi.data.people import People
from gmi.data.twins import share_of_twins
from gmi.inversion.inputs import Inputs
from gmi.inversion.judging import Judged, Releases
from gmi.inversion.learnt import Copying
from gmi.inversion.membership import infer
from gmi.inversion.plan import RANDOM, Audit
from gmi.inversion.recognition import recognise
from gmi.inversion.scoring import figures
from gmi.metrics.conclusion import Conclusion, told_apart
from gmi.metrics.detection import Detection
from gmi.metrics.statistics import Outcome
from gmi.protocols import FaceJudge
from gmi.run import Run, Tensors
from gmi.targets.templates import TemplateTarget, first

METHODS = ("search", "best_of_n", RANDOM)


_SAME = 0.05  # share of enrolment images that may be training images once more


@dataclass(frozen=True)
class Membership:
    """Whether photographs that were trained on are told from others of the same people."""

    verdict: Conclusion
    notable: float  # the excess over guessing that must be excluded for "no evidence"
    methods: tuple[Detection, ...]


@dataclass(frozen=True)
class Passing:
    """How often a method's images pass for their people in one system, compared with one kind of photograph."""

    system: str  # "same": the recogniser whose templates leaked; "other"
    judge: str
    photograph: str  # "leaked": the one whose template leaked; "other"
    method: str
    figures: dict[str, Outcome]  # by metric


@dataclass(frozen=True)
class Related:
    """The findings of related attacks; None for those that were not run."""

    membership: Membership | None
    copying: Copying | None
    templates: tuple[Passing, ...] | None


def related_attacks(
    plan: Audit,
    inputs: Inputs,
    run: Run,
    judged: Judged,
    releases: Releases,
    opinion: Callable[[Tensor, Tensor], Tensor],
    copying: Copying | None,
    hardware: Hardware,
) -> Related:
    """Carries out the related attacks that the plan asks for. copying: what the search itself made of that."""
    people, membership, templates = inputs.people, None, None
    if plan.membership is not None:
        rows = infer(plan.membership, plan.target, plan.training, people, opinion, run, hardware.device)
        membership = Membership(concluded(rows, plan.notable, partial(_twins, people, run)), plan.notable, rows)
    if inputs.system is not None:
        templates = irreversibility(plan, people, judged.templates, releases, inputs.system, inputs.judges.faces)
    return Related(membership, copying, templates)


def _twins(people: People, run: Run) -> float:
    """`share_of_twins` of the enrolment images, kept in the run folder."""

    def compute(_: list[str]) -> list[Tensors]:
        return [{"share": torch.tensor(share_of_twins(people), dtype=torch.float64)}]

    (piece,) = run.each(["judged/twins"], compute, "twins")
    return float(piece["share"])


def concluded(rows: Sequence[Detection], notable: float, same: Callable[[], float] = lambda: 0.0) -> Conclusion:
    """As `told_apart`, but that nobody is acquitted by the threshold alone, or by images that are no others.

    same: tells the share of the images that the target has not seen which are, nearly, images that it has seen.
    """
    said = told_apart(rows, notable)
    if said.finding == "no evidence" and (share := same()) > _SAME:
        known = (
            f"But {share:.0%} of the enrolment photographs are training photographs once more, in another file: a "
            "target that knows these knows those. Enrol photographs of other occasions."
        )
        return Conclusion("inconclusive", (*said.because, known))
    if said.finding != "no evidence" or len(rows) > 1:
        return said
    weak = (
        "The threshold alone was tried, which acquits nobody: attacks that compare with shadow models find more. They "
        "need a target with a training block, and membership.shadows."
    )
    return Conclusion("inconclusive", (*said.because, weak))


def irreversibility(
    plan: Audit,
    people: People,
    templates: Mapping[str, Mapping[str, Tensor]],
    releases: Releases,
    system: FaceJudge,
    judges: Sequence[FaceJudge],
) -> tuple[Passing, ...]:
    """Which people the images pass for, by system (the recogniser itself, or another) and by photograph (the one whose
    template leaked, or others). ISO/IEC 30136 describes such reporting.
    """
    assert isinstance(plan.target, TemplateTarget)
    leaked = first(people.training, len(people.names))
    turned = replace(people, enrolment=people.training[leaked], training=people.enrolment, distractors=None)
    rows = []
    for judge in (system, *judges):
        mine = templates[judge.name]
        swapped = {**mine, "enrolment": mine["training"][leaked], "training": mine["enrolment"]}
        # Of templates of the user's own it is not known which photographs they were made of.
        source = [("leaked", turned, swapped)] if plan.target.leaked is None else []
        for photograph, references, embedded in (*source, ("other", people, mine)):
            recognised = recognise(judge, embedded, references, releases, plan.fmrs, seeds=len(plan.seeds))
            rows += [
                Passing(
                    system="same" if judge is system else "other",
                    judge=judge.name,
                    photograph=photograph,
                    method=method,
                    figures=figures(recognised, [method]),
                )
                for method in METHODS
            ]
    return tuple(rows)
