"""Scores: from the judges' templates to figures with intervals, every control by the same rule."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from gmi.data.people import People
from gmi.inversion.judging import Releases
from gmi.inversion.verdict import METRIC, Verdict, decide
from gmi.metrics import identity
from gmi.metrics.statistics import Outcome, attempt, by_person, difference, estimate, recovered
from gmi.protocols import FaceJudge

Array = NDArray[np.float64]

CONTROLS = ("best_of_n", "random", "public", "permuted")


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


@dataclass(frozen=True)
class Recognised:
    """One face judge's figures of every method."""

    judge: str
    people: int  # enrolled, distractors included
    thresholds: tuple[identity.Threshold, ...]
    outcomes: dict[str, dict[str, Array]]  # by method and metric (N,)
    classes: dict[str, Array]  # by method (N,)
    samples: dict[str, Array]  # similarities of single comparisons, for the report's histograms
    public: Array | None  # similarity (N, P) of the whole public set to the people
    attack: str = "search"  # the method that controls are held against

    def of_people(self, method: str, metric: str) -> Array:
        """Mean of each attacked person (A,)."""
        return by_person(self.outcomes[method][metric], self.classes[method])

    def controls(self, metric: str) -> dict[str, Array]:
        return {name: self.of_people(name, metric) for name in CONTROLS if name in self.outcomes}

    def strongest(self, metric: str) -> str:
        controls = self.controls(metric)
        return max(controls, key=lambda name: controls[name].mean())

    @property
    def rates(self) -> list[str]:
        """The metrics that are shares."""
        return [name for name in self.outcomes[self.attack] if name != "similarity"]


def recognise(
    judge: FaceJudge,
    templates: Mapping[str, Tensor],
    people: People,
    releases: Releases,
    fmrs: Sequence[float],
    attack: str = "search",
) -> Recognised:
    """Thresholds from strangers among the photographs, then each method by the same rule.

    Ranks are among all who are enrolled, people and distractors. Thresholds come from
    comparisons with the audited people, who may resemble each other more than strangers do: the rates are rates among
    them. The random prior's samples are scored against everybody, the other images against their own person.
    Genuine comparisons are those of the attacked people's training images with their enrolment images.

    attack: the method that is scored under permuted identities, too, as a control.
    """
    enrolment, distractors = people.enrolment.classes, people.distractors
    gallery, enrolled = templates["enrolment"], enrolment.numpy()
    if distractors is not None:
        gallery = torch.cat([gallery, templates["distractors"]])
        enrolled = torch.cat([enrolment, distractors.classes]).numpy()
    ids = np.unique(enrolled)

    def compare(name: str) -> Array:
        return identity.to_people(judge.similarity(templates[name], gallery).numpy(), enrolled)

    genuine, trained = compare("training"), people.training.classes.numpy()
    photographs = {"enrolment": people.enrolment, "distractors": distractors, "strangers": people.strangers}
    photographs = {name: images for name, images in photographs.items() if images is not None}
    probes = np.concatenate([genuine, *map(compare, photographs)])
    whose = np.concatenate([trained, *(images.classes.numpy() for images in photographs.values())])
    enrolled_columns = np.isin(ids, enrolment)
    probes = probes[:, enrolled_columns]
    cuts = identity.thresholds(probes, whose, ids[enrolled_columns], fmrs=fmrs)
    is_attacked = np.isin(trained, people.attacked)
    similarity = {name: compare(name) for name in releases} | {"genuine": genuine[is_attacked]}
    classes = {name: images.classes.numpy() for name, images in releases.items()} | {"genuine": trained[is_attacked]}
    outcomes = {name: identity.outcomes(values, classes[name], ids, cuts) for name, values in similarity.items()}
    samples = {name: values["similarity"] for name, values in outcomes.items()}
    outcomes["permuted"] = identity.permuted(similarity[attack], classes[attack], ids, cuts, enrolment)
    classes["permuted"] = classes[attack]
    attacked = np.isin(ids, people.attacked)
    nobody = identity.anyone(similarity["random"], ids, cuts)
    outcomes["random"] = {name: values[attacked] for name, values in nobody.items()}
    classes["random"] = ids[attacked]
    samples["impostor"] = probes[whose[:, None] != ids[enrolled_columns]]
    public = compare("public_set")[:, enrolled_columns] if "public_set" in templates else None
    return Recognised(judge.name, len(ids), cuts, outcomes, classes, samples, public, attack)


def identities(recognised: Recognised) -> list[Result]:
    """Match rates, ranks, AUC, similarity of every method under one judge; any-of-m where a person has several."""
    rows = []
    for method, outcomes in recognised.outcomes.items():
        classes = recognised.classes[method]
        for metric, values in outcomes.items():
            bounds = None if metric == "similarity" else (0.0, 1.0)
            rows.append(
                result(
                    method,
                    recognised.judge,
                    metric,
                    values,
                    classes,
                    bounds,
                    identity.chance(metric, recognised.people),
                )
            )
            counts = np.unique(classes, return_counts=True)[1]
            if metric.startswith("match@") and counts.max() > 1 and method not in ("genuine", "permuted"):
                chance = identity.chance(metric, recognised.people, int(counts.max())) if np.ptp(counts) == 0 else None
                each = identity.any_of(values, classes)
                rows.append(
                    result(method, recognised.judge, f"any{metric}", each, np.unique(classes), (0.0, 1.0), chance)
                )
    return rows


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
    recognised: Sequence[Recognised], stops: Sequence[str] = (), doubts: Sequence[str] = ()
) -> dict[str, Verdict]:
    """Each judge's own verdict, by its name; the first one's is the audit's."""
    return {
        judge.judge: decide(
            judge.of_people(judge.attack, METRIC),
            judge.controls(METRIC),
            judge.of_people("oracle", METRIC) if "oracle" in judge.outcomes else None,
            stops,
            doubts,
        )
        for judge in recognised
    }


def advantages(recognised: Recognised) -> dict[str, Outcome]:
    """Attack minus each control in the verdict's metric, person by person."""
    attack = recognised.of_people(recognised.attack, METRIC)
    return {
        name: attempt(lambda values=values: difference(attack, values))
        for name, values in recognised.controls(METRIC).items()
    }


def exposed(recognised: Recognised) -> list[Exposed]:
    """The attacked people under pseudonyms, most exposed first."""
    rows = []
    classes = recognised.classes[recognised.attack]
    for person in np.unique(classes):
        figures = {
            metric: values[classes == person] for metric, values in recognised.outcomes[recognised.attack].items()
        }
        auc, similarity = float(figures["auc"].mean()), float(figures["similarity"].mean())
        rows.append(
            Exposed(
                person=f"P{person:02d}",
                index=int(person),
                rank=round(1 + (1 - auc) * (recognised.people - 1), 6),
                auc=auc,
                similarity=None if np.isnan(similarity) else similarity,
                matched={f"{cut.fmr:g}": float(figures[f"match@{cut.fmr:g}"].mean()) for cut in recognised.thresholds},
            )
        )
    return sorted(rows, key=lambda row: (-row.auc, -(row.similarity or -np.inf), row.index))


def result(
    method: str,
    judge: str,
    metric: str,
    values: Array,
    classes: ArrayLike,
    bounds: tuple[float, float] | None = None,
    chance: float | None = None,
) -> Result:
    """One figure from values (N,) with people (N,); bounds as `estimate` takes them."""
    return Result(method, judge, metric, attempt(lambda: estimate(values, classes, bounds=bounds)), chance)
