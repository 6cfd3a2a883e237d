"""What a generative model shows of its records: copies among its samples, what its weights know, and a verdict."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gmi.data.images import Images
from gmi.extraction.copies import Copies, bar, cliques, copies
from gmi.extraction.models import Pair
from gmi.extraction.plan import ExtractionAudit
from gmi.extraction.records import Records
from gmi.metrics.detection import auc, hit_rate
from gmi.metrics.statistics import as_json, attempt, by_person, clopper_pearson, difference, estimate


@dataclass(frozen=True)
class Told:
    """What one model shows: samples (S, C, H, W) and, of each image that it is asked about, how well it knows it."""

    samples: Tensor
    knows: dict[str, NDArray[np.float64]]  # by method (trained, held-out, alike): higher where it is known better


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
    more = attempt(
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
        "more": as_json(more),
        "copied": sorted(map(int, found["target"]), reverse=True),
        "white_box": list(_white_box(plan, records, told)),
        "verdict": verdict(as_json(more), plan.notable),
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
        "found": as_json(attempt(lambda: estimate(np.minimum(found, 1.0), looked.classes.numpy()))),
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
        ours, usual = told["target"].knows[method], told["control"].knows[method]
        scores = {method: ours, f"{method}, beside the control": _ratio(ours, usual)}
        for name, score in ((name, every[inside]) for name, every in scores.items()):
            yield {
                "method": name,
                "beside": other,
                "auc": as_json(attempt(lambda s=score, t=truth, w=whose: auc(s, t, w))),
                "hits": {
                    f"{rate:g}": as_json(attempt(lambda s=score, t=truth, w=whose, r=rate: hit_rate(s, t, r, w)))
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
