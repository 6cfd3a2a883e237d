"""The findings of an extraction audit: copies among samples, what the weights know, and a verdict."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gmi.audits import Verdict
from gmi.data.images import Images
from gmi.extraction.copies import bar, cliques, copies
from gmi.extraction.inputs import Inputs
from gmi.extraction.models import Pair
from gmi.extraction.plan import ExtractionAudit
from gmi.extraction.records import Records
from gmi.metrics.detection import Detection, detection
from gmi.metrics.rates import clopper_pearson
from gmi.metrics.statistics import Array, Estimate, Failed, Outcome, attempt, by_person, difference, estimate


@dataclass(frozen=True)
class Observation:
    """What one model shows."""

    samples: Tensor  # (S, C, H, W)
    knowledge: dict[str, Array]  # by method, of training, held-out and alike images: higher where it knows them better


@dataclass(frozen=True)
class Evidence:
    """Everything that the findings rest on."""

    pair: Pair
    observations: dict[str, Observation]  # by model: target, control


@dataclass(frozen=True)
class Row:
    """One model's samples compared with one set of images."""

    role: str  # target and control: with the records; held-out and alike: the target's, with such images
    copies: Estimate  # share of the samples that copy an image
    originals: Outcome  # share of the images that are copied
    records: int  # images that are copied
    cliques: int  # groups of samples that copy one another
    clique_hits: int  # groups whose centre copies an image
    smallest_ratio: float  # the smallest ratio of any sample


@dataclass(frozen=True)
class Membership(Detection):
    """How well a white-box method tells records from other images."""

    comparison: str  # which images: held-out or alike


@dataclass(frozen=True)
class Findings:
    """What extraction.json holds after the header."""

    data: str
    records: dict[str, int]  # images: training, held-out, alike; and people
    samples: int  # of each model
    ratio: float  # below which a sample is a copy
    clique: int
    rows: tuple[Row, ...]
    excess: Outcome  # share of the records that the target copies, less the control's
    copies_by_record: tuple[int, ...]  # copies of each record, the most first
    white_box: tuple[Membership, ...]
    verdict: Verdict
    alarms: tuple[float, ...]
    notable: float
    models: dict[str, str]  # digests: target, control
    seed: int


@dataclass(frozen=True)
class _Side:
    """A comparison of one model's samples with one set of images."""

    model: str
    images: Images
    usual: Tensor  # images whose distance to a sample is the yardstick
    neighbours: int  # of them, the nearest


def findings(plan: ExtractionAudit, inputs: Inputs, evidence: Evidence) -> Findings:
    """Everything that the page is rendered from; the same evidence gives the same findings."""
    records, ratio = inputs.records, plan.ratio
    held, people = records.held_out.pixels, records.training.classes.numpy()
    if records.alike is not None:
        ratio = min(ratio, bar(records.alike.pixels, records.training.pixels, held, plan.neighbours))
    rows, counts = [], {}
    for role, side in _sides(plan, records).items():
        row, counts[role] = _compare(plan, role, side, evidence.observations[side.model].samples, ratio)
        rows.append(row)
    excess = attempt(
        lambda: difference(*(by_person(np.minimum(counts[role], 1), people) for role in ("target", "control")))
    )
    sizes = {"training": len(records.training), "people": len(np.unique(people)), "held-out": len(held)}
    return Findings(
        data=plan.data.name,
        records=sizes | ({} if records.alike is None else {"alike": len(records.alike)}),
        samples=plan.samples,
        ratio=ratio,
        clique=plan.clique,
        rows=tuple(rows),
        excess=excess,
        copies_by_record=tuple(sorted(map(int, counts["target"]), reverse=True)),
        white_box=tuple(_white_box(plan, records, evidence.observations)),
        verdict=verdict(excess, plan.notable),
        alarms=plan.alarms,
        notable=plan.notable,
        models=evidence.pair.digests,
        seed=plan.seed,
    )


def _sides(plan: ExtractionAudit, records: Records) -> dict[str, _Side]:
    """The comparisons by role. In "held-out", as many images from which nobody learnt take the records' place."""
    held = records.held_out.pixels
    whose, count = records.held_out.classes.unique(return_counts=True)
    wanted = min(len(records.training), len(held) // 2)
    first = torch.isin(records.held_out.classes, whose[: max(1, int((count.cumsum(0) <= wanted).sum()))])
    others = held[~first]
    fewer = max(1, plan.neighbours * len(others) // len(held))  # no further away than the others' are
    sides = {
        "target": _Side("target", records.training, held, plan.neighbours),
        "control": _Side("control", records.training, held, plan.neighbours),
        "held-out": _Side("target", records.held_out[first.nonzero()[:, 0].tolist()], others, fewer),
    }
    if records.alike is not None:
        sides["alike"] = _Side("target", records.alike, held, plan.neighbours)
    return sides


def _compare(
    plan: ExtractionAudit, role: str, side: _Side, samples: Tensor, ratio: float
) -> tuple[Row, NDArray[np.int64]]:
    """The figures of one side, and how many samples copy each of its images (M,)."""
    compared = copies(samples, side.images.pixels, side.usual, side.neighbours)
    counts = compared.of_records(len(side.images), ratio)
    groups = cliques(samples, side.usual, side.neighbours, ratio, plan.clique)
    hits = int((compared.ratio < ratio).sum())
    low, high = clopper_pearson(hits, plan.samples)
    row = Row(
        role=role,
        copies=Estimate(hits / plan.samples, low, high, plan.samples, plan.samples),
        originals=attempt(lambda: estimate(np.minimum(counts, 1.0), side.images.classes.numpy())),
        records=int((counts > 0).sum()),
        cliques=len(groups),
        clique_hits=sum(bool(compared.ratio[group[0]] < ratio) for group in groups),
        smallest_ratio=float(compared.ratio.min()),
    )
    return row, counts


def _white_box(plan: ExtractionAudit, records: Records, observations: dict[str, Observation]) -> Iterator[Membership]:
    """Whether the target's knowledge tells records from images that no model saw, alone and relative to the control."""
    sets = {"training": records.training, "held-out": records.held_out, "alike": records.alike}
    present = {name: images for name, images in sets.items() if images is not None}
    part = np.repeat(list(present), [len(images) for images in present.values()])
    people = torch.cat([images.classes for images in present.values()]).numpy()
    for method, other in product(observations["target"].knowledge, list(present)[1:]):
        inside = (part == "training") | (part == other)
        target, control = (observations[name].knowledge[method] for name in ("target", "control"))
        for name, scores in {method: target, f"{method}, relative to the control": _ratio(target, control)}.items():
            row = detection(name, scores[inside], part[inside] == "training", people[inside], plan.alarms)
            yield Membership(row.method, row.auc, row.hits, other)


def _ratio(target: Array, control: Array) -> Array:
    """The logarithm (N,) of the control's distance over the target's; both are given as their negatives."""
    return np.log(np.maximum(-control, 1e-12)) - np.log(np.maximum(-target, 1e-12))


def verdict(excess: Outcome, notable: float) -> Verdict:
    """Whether the target's samples copy more of the records than the control's do."""
    if isinstance(excess, Failed):
        return Verdict("inconclusive", (f"The records cannot be counted: {excess.failed}.",))
    figure = f"{100 * excess.value:.0f} % [{100 * excess.low:.0f}, {100 * excess.high:.0f}]"
    if excess.low > 0:
        sentence = f"The target's samples copy {figure} more of its records than a model's that never saw them."
        return Verdict("evidence of leakage", (sentence,))
    if excess.high < notable:
        sentence = (
            f"The target's samples copy no more of its records than a model's that never saw them; {100 * notable:g} % "
            "more can be excluded."
        )
        return Verdict("no evidence", (sentence,))
    sentence = f"The target's samples copy {figure} more of its records than a model's that never saw them."
    return Verdict("inconclusive", (sentence, f"The interval includes 0 as well as {100 * notable:g} %."))
