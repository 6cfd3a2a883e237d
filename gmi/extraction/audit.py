"""An audit of what a generative model gives away of its training records, beside a model that never saw them.

Both make as many samples. A sample is a copy of a record where it is far nearer to it than held-out images are; what
the control's samples copy of the same records is chance. Then the white box: whether either model knows a given image.
"""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, JsonValue
from pydantic.dataclasses import dataclass as checked
from torch import Tensor
from torchvision.utils import save_image

from gmi import scoring
from gmi.detection import auc, hit_rate
from gmi.errors import GmiError
from gmi.extraction.copies import Copies, bar, cliques, copies
from gmi.extraction.inversion import denoised, inverted
from gmi.extraction.models import Given, Models, Pair
from gmi.extraction.records import Photographs, Records
from gmi.images import Images
from gmi.protocols import Denoiser, Prior
from gmi.report.extraction import render
from gmi.rng import Rng, seed_of
from gmi.run import Run
from gmi.settings import plain
from gmi.statistics import by_person, clopper_pearson, difference, estimate

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, lt=1)]


@checked(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Inversion:
    """The white box. steps, lr: of the search for latents; draws: of noise, at each time of a denoising loss."""

    steps: Annotated[int, Field(ge=0)] = 50
    lr: Annotated[float, Field(gt=0)] = 0.1
    draws: Count = 4


@checked(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class ExtractionAudit:
    """One generative model, its records, and a control.

    samples: of each model. ratio: a sample is a copy where its distance to a record is below that share of its distance
    to the `neighbours` nearest held-out images, and below what 1 % of `data.alike` are. clique: samples that must be
    copies of each other. alarms: as for an attribute. notable: share of records that may be found and still be said to
    be none.
    """

    name: str
    data: Photographs
    models: Models
    samples: Count = 1000
    ratio: Rate = 0.5
    neighbours: Count = 20
    clique: Annotated[int, Field(ge=2)] = 5
    inversion: Inversion = Inversion()
    alarms: tuple[Rate, ...] = (0.1,)
    notable: Rate = 0.05
    batch: Count = 50
    seed: Annotated[int, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        mixed = isinstance(self.data.held_out, int) or isinstance(self.data.alike, int) or self.data.other
        if isinstance(self.models, Given) and mixed:
            raise ValueError(
                "data: a model that is given learnt from all of data.folder: held_out, and alike where there is such, "
                "are other folders, and other is left out"
            )


@dataclass(frozen=True)
class Told:
    """What one model shows: samples (S, C, H, W) and, of each image that it is asked about, how well it knows it."""

    samples: Tensor
    knows: dict[str, NDArray[np.float64]]  # by method (trained, held-out, alike): higher where it is known better


def audit(plan: ExtractionAudit, folder: Path, device: torch.device) -> Path:
    """As `examine`, on what the configuration names; models that it trains lie in the folder, too."""
    records = plan.data.load()
    inputs: dict[str, JsonValue] = {"gmi": version("gmi"), "data": records.digest}
    if isinstance(plan.models, Given):
        pair = plan.models.load(device)
        run = Run.open(folder, {"extraction": plain(plan), "inputs": {**inputs, **pair.digests}})
    else:
        run = Run.open(folder, {"extraction": plain(plan), "inputs": inputs})
        pair = plan.models.learn(records.trained, records.other, run, device)
    return examine(plan, records, pair, run, device)


def examine(plan: ExtractionAudit, records: Records, pair: Pair, run: Run, device: torch.device) -> Path:
    """Does what is not there yet, writes extraction.json and extraction.html, and returns the page.

    Raises GmiError where the models' images are not of the records' shape, or not finite.
    """
    for name, prior in vars(pair).items():
        _refuse_misfit(name, prior, records)
    told = {name: _told(plan, run, name, prior, records, device) for name, prior in vars(pair).items()}
    report = compose(plan, records, pair, told)
    _pictures(run, records, told, plan)
    run.write("extraction.json", (json.dumps(report, indent=1, allow_nan=False) + "\n").encode())
    return render(run.folder)


def _told(plan: ExtractionAudit, run: Run, name: str, prior: Prior, records: Records, device: torch.device) -> Told:
    samples = run.each(
        [f"{name}/samples/{start}" for start in range(0, plan.samples, plan.batch)],
        lambda names: [_sampled(plan, prior, int(one.rpartition("/")[2])) for one in names],
        f"{name}: samples",
    )
    asked = torch.cat([some.bytes for some in (records.trained, records.held_out, records.alike) if some is not None])
    knows = run.each(
        [f"{name}/knows/{start}" for start in range(0, len(asked), plan.batch)],
        lambda names: [_knows(plan, prior, asked, int(one.rpartition("/")[2]), device) for one in names],
        f"{name}: inversion",
    )
    return Told(
        torch.cat([one["samples"] for one in samples]),
        {
            method: -torch.cat([one[method] for one in knows]).double().numpy()
            for method in ("inverted", "denoised")
            if all(method in one for one in knows)
        },
    )


@torch.no_grad()
def _refuse_misfit(name: str, prior: Prior, records: Records) -> None:
    made, wanted = prior.decode(prior.sample(Rng([0]))).shape[1:], records.trained.bytes.shape[1:]
    if made != wanted:
        raise GmiError(
            f"models.{name} makes images of shape {tuple(made)}, and the records are {tuple(wanted)}: set data.size "
            "and data.grey as it has them."
        )


@torch.no_grad()
def _sampled(plan: ExtractionAudit, prior: Prior, start: int) -> dict[str, Tensor]:
    numbers = range(start, min(start + plan.batch, plan.samples))
    images = prior.decode(prior.sample(Rng([seed_of(plan.seed, "sample", one) for one in numbers]))).clamp(0, 1)
    if not images.isfinite().all():
        raise GmiError("models: samples hold NaN or infinity: such a model cannot be audited; train it again.")
    return {"samples": (images * 255).round() / 255}


def _knows(plan: ExtractionAudit, prior: Prior, asked: Tensor, start: int, device: torch.device) -> dict[str, Tensor]:
    """Distances, lower where the image is known better."""
    some = (asked[start : start + plan.batch].float() / 255).to(device)
    rng = Rng([seed_of(plan.seed, "inversion", start + place) for place in range(len(some))])
    found = {}
    if plan.inversion.steps:
        with torch.enable_grad():
            found["inverted"] = inverted(prior, some, rng, plan.inversion.steps, plan.inversion.lr)
    if isinstance(prior, Denoiser) and prior.sample(Rng([0])).shape[1:] == some.shape[1:]:  # it works on pixels
        found["denoised"] = denoised(prior, some, rng, plan.inversion.draws)
    return found


def compose(plan: ExtractionAudit, records: Records, pair: Pair, told: dict[str, Told]) -> dict[str, Any]:
    """extraction.json, whose schema is gmi/report/extraction.schema.json."""
    held = records.held_out.pixels
    # As many images of held-out people in the place of the records: nobody learnt from them, nothing may be found.
    whose, count = records.held_out.classes.unique(return_counts=True)
    wanted = min(len(records.trained), len(held) // 2)
    first = torch.isin(records.held_out.classes, whose[: max(1, int((count.cumsum(0) <= wanted).sum()))])
    others = held[~first]
    fewer = max(1, plan.neighbours * len(others) // len(held))  # no further away than the others' are
    sides = {
        "target": ("target", records.trained, held, plan.neighbours),
        "control": ("control", records.trained, held, plan.neighbours),
        "held-out": ("target", records.held_out[first.nonzero()[:, 0].tolist()], others, fewer),
    }
    ratio = plan.ratio
    if records.alike is not None:
        sides["alike"] = ("target", records.alike, held, plan.neighbours)
        ratio = min(ratio, bar(records.alike.pixels, records.trained.pixels, held, plan.neighbours))
    people = records.trained.classes.numpy()
    rows, found = [], {}
    for name, (model, looked, usual, near) in sides.items():
        seen = copies(told[model].samples, looked.pixels, usual, near)
        found[name] = seen.of_records(len(looked), ratio)
        groups = cliques(told[model].samples, usual, near, ratio, plan.clique)
        rows.append(_row(name, seen, found[name], looked, groups, ratio, plan.samples))
    more = scoring.attempt(
        lambda: difference(*(by_person(np.minimum(found[name], 1), people) for name in ("target", "control")))
    )
    return {
        "schema_version": 1,
        "name": plan.name,
        "gmi": version("gmi"),
        "data": plan.data.name,
        "records": {"trained": len(records.trained), "people": len(np.unique(people)), "held-out": len(held)}
        | ({} if records.alike is None else {"alike": len(records.alike)}),
        "samples": plan.samples,
        "ratio": ratio,
        "clique": plan.clique,
        "rows": rows,
        "more": scoring.plain(more),
        "copied": sorted(map(int, found["target"]), reverse=True),
        "white_box": list(_white_box(plan, records, told)),
        "verdict": verdict(scoring.plain(more), plan.notable),
        "alarms": list(plan.alarms),
        "notable": plan.notable,
        "digests": pair.digests | {"records": records.digest},
        "seed": plan.seed,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _row(
    name: str,
    seen: Copies,
    found: NDArray[np.int64],
    looked: Images,
    groups: list[list[int]],
    ratio: float,
    samples: int,
) -> dict[str, Any]:
    """One model's samples beside one set of images. found (M,): copies of each; groups: of samples that are alike."""
    hits = int((seen.ratio < ratio).sum())
    low, high = clopper_pearson(hits, samples)
    return {
        "role": name,
        "copies": {"value": hits / samples, "low": low, "high": high, "n": samples, "people": samples},
        "found": scoring.plain(scoring.attempt(lambda: estimate(np.minimum(found, 1.0), looked.classes.numpy()))),
        "records": int((found > 0).sum()),
        "cliques": len(groups),
        "right": sum(bool(seen.ratio[group[0]] < ratio) for group in groups),
        "least": float(seen.ratio.min()),
    }


def _white_box(plan: ExtractionAudit, records: Records, told: dict[str, Told]) -> Iterator[dict[str, Any]]:
    """Whether records are told from images that no model saw by how well the target knows them, beside the control."""
    sets = {"trained": records.trained, "held-out": records.held_out, "alike": records.alike}
    present = {name: some for name, some in sets.items() if some is not None}
    part = np.repeat(list(present), [len(some) for some in present.values()])
    people = torch.cat([some.classes for some in present.values()]).numpy()
    for method, other in product(told["target"].knows, list(present)[1:]):
        inside = (part == "trained") | (part == other)
        truth, whose = part[inside] == "trained", people[inside]
        ours, usual = told["target"].knows[method], told["control"].knows.get(method)
        scores = {method: ours[inside]}
        if usual is not None:  # a control of pixels has what one of an autoencoder's latents has not
            scores[f"{method}, beside the control"] = _ratio(ours, usual)[inside]
        for name, score in scores.items():
            yield {
                "method": name,
                "beside": other,
                "auc": scoring.plain(scoring.attempt(lambda s=score, t=truth, w=whose: auc(s, t, w))),
                "hits": {
                    f"{rate:g}": scoring.plain(
                        scoring.attempt(lambda s=score, t=truth, w=whose, r=rate: hit_rate(s, t, r, w))
                    )
                    for rate in plan.alarms
                },
            }


def _ratio(ours: NDArray[np.float64], usual: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of two distances, whose negatives are given: the control's over the target's, as a logarithm."""
    return np.log(np.maximum(-usual, 1e-12)) - np.log(np.maximum(-ours, 1e-12))


def verdict(more: dict[str, Any], notable: float) -> dict[str, Any]:
    """Of the records found in the target's samples beside those found in the control's."""
    if "failed" in more:
        return {"finding": "inconclusive", "because": f"The records cannot be counted: {more['failed']}."}
    told = f"{100 * more['value']:.0f} % [{100 * more['low']:.0f}, {100 * more['high']:.0f}]"
    if more["low"] > 0:
        return {
            "finding": "evidence of leakage",
            "because": f"The target's samples copy {told} more of its records than a model's that never saw them.",
        }
    if more["high"] < notable:
        return {
            "finding": "no evidence",
            "because": f"No more records are copied than by a model that never saw them, and {100 * notable:g} % more "
            "would have been seen.",
        }
    return {
        "finding": "inconclusive",
        "because": f"{told} more records are copied than by a model that never saw them.",
    }


def _pictures(run: Run, records: Records, told: dict[str, Told], plan: ExtractionAudit) -> None:
    """copies.png: the samples that are nearest to a record (above) and the record (below). Personal data."""
    found = copies(told["target"].samples, records.trained.pixels, records.held_out.pixels, plan.neighbours)
    order: list[int] = []
    for place in found.ratio.argsort():
        if found.nearest[place] not in found.nearest[order]:
            order.append(int(place))
    shown = order[:10]
    rows = torch.cat([told["target"].samples[shown], records.trained.pixels[found.nearest[shown]]])
    picture = io.BytesIO()
    save_image(rows, picture, nrow=len(shown), format="png")
    run.write("copies.png", picture.getvalue())
