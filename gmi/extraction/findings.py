"""The findings of an extraction audit: copies among samples, what the weights know, and a verdict."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gmi.data.images import Images
from gmi.extraction.copies import bar, cliques, copies, detail, offset, recall
from gmi.extraction.doubts import blind_spots, misplaced, unlike, unread, verbatim
from gmi.extraction.inputs import Inputs
from gmi.extraction.knowledge import Knowledge, Membership, known, memberships, taught
from gmi.extraction.models import Pair
from gmi.extraction.plan import ExtractionAudit
from gmi.extraction.records import Records
from gmi.extraction.verdict import Excess, excess, verdict
from gmi.metrics.conclusion import Conclusion
from gmi.metrics.rates import clopper_pearson
from gmi.metrics.repeats import averaged, trained_difference
from gmi.metrics.statistics import Array, Estimate, Outcome, attempt, by_draw, estimate
from gmi.report.coverage import Reach

WORDS = {"plain": "", "guided": "guided "}
"""What stands before a role, or before "samples", by way of sampling."""


@dataclass(frozen=True)
class Observation:
    """What one model shows."""

    samples: dict[str, Tensor]  # by way of sampling, plain and guided: (S, C, H, W)
    knowledge: Knowledge
    clusters: int = 0  # among its own samples, to which guided ones are led


@dataclass(frozen=True)
class Trial:
    """What both models show with one seed."""

    pair: Pair
    observations: dict[str, Observation]  # by model: target, control


@dataclass(frozen=True)
class Evidence:
    """Everything that the findings rest on."""

    trials: tuple[Trial, ...]  # by seed


@dataclass(frozen=True)
class Row:
    """One model's samples compared with one set of images; with several seeds, numbers are their means."""

    # target, control, guided target and guided control: with the records; held-out and alike: the target's plain
    # samples, with such images
    role: str
    copies: Outcome  # share of the samples that copy an image
    originals: Outcome  # share of the images that are copied
    records: int  # images that are copied
    cliques: int  # groups of samples that copy one another
    clique_hits: int  # groups whose centre copies an image
    smallest_ratio: float  # the smallest ratio of any sample with any seed


@dataclass(frozen=True)
class Guidance:
    """What guided samples show: as many as the plain ones."""

    learnt: int  # of these samples: plain ones, from which the clusters are learnt
    clusters: dict[str, int]  # that the others are led to: target, control; with several seeds their mean
    excess: Estimate  # share of the records that the target copies, less the control's, both guided
    bound: float  # the most that it may be, with 95 % confidence
    gain: Estimate  # share of the records that the target copies, less what its plain samples copy


@dataclass(frozen=True)
class Findings:
    """What extraction.json holds after the header."""

    attacks: dict[str, tuple[Reach, ...]]  # that were made, as standards.yaml names them, and how the model was reached
    data: str
    records: dict[str, int]  # images: training, held-out, alike; and people
    samples: int  # of each model, with each seed
    ratio: float  # below which a sample is a copy
    clique: int
    rows: tuple[Row, ...]
    excess: Estimate  # share of the records that the target copies, less the control's; plain samples, both
    bound: float  # the most that it may be, with 95 % confidence
    guided: Guidance | None  # None: there are no guided samples
    recall: float  # share of the records that are found as copies of themselves: mirrored, zoomed and a little noisy
    detail: dict[str, float]  # how fine images are: of the target, of the control, held-out; see copies.detail
    offset: dict[str, float]  # how far from held-out images: of the target's samples, of the records; see copies.offset
    copies_by_record: tuple[int, ...]  # copies of each record among plain samples with all seeds, the most first
    white_box: tuple[Membership, ...]
    known: Conclusion | None  # whether the weights know records, by white_box; None: that was not asked
    verdict: Conclusion
    alarms: tuple[float, ...]
    notable: float
    models: dict[str, str]  # digests: target, control; of trained ones, of each seed
    limits: tuple[str, ...]  # what the audit does not tell
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class _Side:
    """A comparison of one model's samples with one set of images."""

    model: str
    way: str  # of sampling
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
    ways = [*evidence.trials[0].observations["target"].samples]
    for role, side in _sides(plan, records, ways).items():
        samples = [trial.observations[side.model].samples[side.way] for trial in evidence.trials]
        row, counts[role] = _compare(plan, role, side, samples, ratio)
        rows.append(row)
    target, control = (
        {way: _by_person(counts[WORDS[way] + model], people) for way in ways} for model in ("target", "control")
    )
    tests = len(ways) * (1 + (len(people) > len(np.unique(people))))  # of one record each, both figures are the same
    found = {way: excess(target[way], control[way], tests) for way in ways}
    anyone = {f"{WORDS[way]}samples": excess(np.ceil(target[way]), np.ceil(control[way]), tests) for way in ways}
    seen = recall(records.training.pixels, held, plan.neighbours, ratio)
    knowledge = [{name: each.knowledge for name, each in trial.observations.items()} for trial in evidence.trials]
    trials = [trial.observations for trial in evidence.trials]
    fine = {name: detail(torch.cat([each[name].samples["plain"] for each in trials])) for name in trials[0]}
    fine["held-out"] = detail(held)
    drawn = torch.cat([each["target"].samples["plain"] for each in trials])
    off = {"target": offset(drawn, held), "records": offset(records.training.pixels, held)}
    white_box = tuple(memberships(records, knowledge, plan.alarms))
    sizes = {"training": len(records.training), "people": len(np.unique(people)), "held-out": len(held)}
    made: dict[str, tuple[Reach, ...]] = {"records": ("api",) if plan.guided is None else ("api", "weights")}
    if white_box:
        made["membership"] = ("weights",)
    return Findings(
        attacks=made,
        data=plan.data.name,
        records=sizes | ({} if records.alike is None else {"alike": len(records.alike)}),
        samples=plan.samples,
        ratio=ratio,
        clique=plan.clique,
        rows=tuple(rows),
        excess=found["plain"].figure,
        bound=found["plain"].bound,
        guided=None if plan.guided is None else _guidance(plan.guided.samples, evidence, found["guided"], target),
        recall=seen,
        detail=fine,
        offset=off,
        copies_by_record=tuple(sorted(map(int, counts["target"].sum(0)), reverse=True)),
        white_box=white_box,
        limits=tuple(_limits(plan, records)),
        known=known(white_box, plan.notable, taught(records, knowledge)),
        verdict=verdict(
            {f"{WORDS[way]}samples": found[way] for way in ways},
            plan.notable,
            len(plan.seeds),
            seen,
            anyone,
            [*_doubts(plan, rows, records, len(people), ways, [*unlike(fine, off)], ratio)],
        ),
        alarms=plan.alarms,
        notable=plan.notable,
        models=_digests(plan, evidence),
        seeds=plan.seeds,
    )


def _doubts(
    plan: ExtractionAudit,
    rows: Sequence[Row],
    records: Records,
    people: int,
    ways: Sequence[str],
    said: list[str],
    ratio: float,
) -> Iterator[str]:
    """Reasons not to acquit, each once, those included that were found before."""
    by_role = {row.role: row for row in rows}
    fresh = {"data.held_out": by_role["held-out"]}
    fresh |= {"data.alike": by_role["alike"]} if "alike" in by_role else {}
    for way in ways:
        target, control = by_role[f"{WORDS[way]}target"], by_role[f"{WORDS[way]}control"]
        copied, seen = (target.copies, control.copies), (control.originals, by_role["held-out"].originals)
        chance = min(row.smallest_ratio for row in (control, *fresh.values()))
        said += blind_spots(plan.samples, people, plan.notable, copied, seen)
        said += misplaced({place: row.originals for place, row in fresh.items()}, control.originals)
        said += verbatim(target.smallest_ratio, ratio, chance)
    yield from dict.fromkeys([*said, *unread(records, plan.notable)])


def _by_person(counts: NDArray[np.int64], people: NDArray[np.int64]) -> Array:
    """Share of each person's records that are copied (S, P), from the copies of each record (S, M) and people (M,)."""
    seeds, records = counts.shape
    return by_draw(np.minimum(counts, 1).ravel(), np.tile(people, seeds), np.repeat(np.arange(seeds), records))


def _guidance(learnt: int, evidence: Evidence, found: Excess, target: Mapping[str, Array]) -> Guidance:
    """target: share (S, P) of each person's records that the target copies, by way of sampling."""
    return Guidance(
        learnt=learnt,
        clusters={
            model: _mean([trial.observations[model].clusters for trial in evidence.trials])
            for model in ("target", "control")
        },
        excess=found.figure,
        bound=found.bound,
        gain=trained_difference(target["guided"], target["plain"], together=True).estimate,
    )


def _digests(plan: ExtractionAudit, evidence: Evidence) -> dict[str, str]:
    digests: dict[str, str] = {}
    for seed, trial in zip(plan.seeds, evidence.trials, strict=True):
        for name, digest in trial.pair.digests.items():
            if digests.setdefault(name, digest) != digest:
                digests[f"{name}, seed {seed}"] = digest
    return digests


def _sides(plan: ExtractionAudit, records: Records, ways: Sequence[str]) -> dict[str, _Side]:
    """The comparisons by role. In "held-out", as many images from which nobody learnt take the records' place."""
    held = records.held_out.pixels
    whose, count = records.held_out.classes.unique(return_counts=True)
    wanted = min(len(records.training), len(held) // 2)
    first = torch.isin(records.held_out.classes, whose[: max(1, int((count.cumsum(0) <= wanted).sum()))])
    others = held[~first]
    fewer = max(1, plan.neighbours * len(others) // len(held))  # no further away than the others' are
    sides = {
        WORDS[way] + model: _Side(model, way, records.training, held, plan.neighbours)
        for way in ways
        for model in ("target", "control")
    }
    sides |= {
        "held-out": _Side("target", "plain", records.held_out[first.nonzero()[:, 0].tolist()], others, fewer),
    }
    if records.alike is not None:
        sides["alike"] = _Side("target", "plain", records.alike, held, plan.neighbours)
    return sides


def _compare(
    plan: ExtractionAudit, role: str, side: _Side, samples: Sequence[Tensor], ratio: float
) -> tuple[Row, NDArray[np.int64]]:
    """The figures of one side, and how many samples of each seed copy each of its images (S, M)."""
    compared = [copies(some, side.images.pixels, side.usual, side.neighbours) for some in samples]
    counts = np.stack([each.of_records(len(side.images), ratio) for each in compared])
    groups = [cliques(some, side.usual, side.neighbours, ratio, plan.clique) for some in samples]
    hits = [
        sum(bool(each.ratio[group[0]] < ratio) for group in found) for each, found in zip(compared, groups, strict=True)
    ]
    whose, seeds = side.images.classes.numpy(), len(samples)
    copied, draws = np.minimum(counts, 1.0).ravel(), np.repeat(np.arange(seeds), len(whose))
    row = Row(
        role=role,
        copies=averaged([_share(int((each.ratio < ratio).sum()), plan.samples) for each in compared]),
        originals=attempt(lambda: estimate(copied, np.tile(whose, seeds), draws=draws)),
        records=_mean([int((each > 0).sum()) for each in counts]),
        cliques=_mean([len(found) for found in groups]),
        clique_hits=_mean(hits),
        smallest_ratio=min(float(each.ratio.min()) for each in compared),
    )
    return row, counts


def _limits(plan: ExtractionAudit, records: Records) -> Iterator[str]:
    yield (
        f"A record that none of these samples copies may be copied by the next: not found in {plan.samples:,} samples "
        "does not mean absent."
    )
    if records.left_out:
        yield (
            f"Of the files in the folders {len(records.left_out):,} were not read as images (such as "
            f"{records.left_out[0]}): nothing is known of records among them."
        )
    if len(plan.seeds) == 1:
        yield (
            "One target and one control were compared, with one seed: another training, or other samples, may copy "
            "more or fewer records."
        )


def _share(hits: int, samples: int) -> Outcome:
    low, high = clopper_pearson(hits, samples)
    return Estimate(hits / samples, low, high, samples, samples)


def _mean(numbers: Sequence[int]) -> int:
    return round(sum(numbers) / len(numbers))
