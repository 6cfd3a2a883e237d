"""Whether what two models' weights say of images tells the records among them, and what follows.

The tests themselves, and their papers, are those of white_box.py.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch

from gmi.extraction.records import Records
from gmi.metrics.conclusion import Conclusion, told_apart
from gmi.metrics.detection import Detection, detection
from gmi.metrics.repeats import averaged
from gmi.metrics.statistics import Array, Estimate

RELATIVE = ", relative to the control"
Knowledge = Mapping[str, Array]
"""By method, what a model says of training, held-out and alike images (N,): higher where it knows them better."""


@dataclass(frozen=True)
class Membership(Detection):
    """How well a white-box method tells records from other images."""

    comparison: str  # which images: held-out or alike


def memberships(
    records: Records, seeds: Sequence[Mapping[str, Knowledge]], alarms: Sequence[float]
) -> Iterator[Membership]:
    """Whether the target's knowledge tells records from images that no model saw, alone and relative to the control.

    seeds: with each, the knowledge of target and control. alarms: false-alarm rates at which hits are counted.
    """
    sets = {"training": records.training, "held-out": records.held_out, "alike": records.alike}
    present = {name: images for name, images in sets.items() if images is not None}
    part = np.repeat(list(present), [len(images) for images in present.values()])
    people = torch.cat([images.classes for images in present.values()]).numpy()
    for method, other in product(seeds[0]["target"], list(present)[1:]):
        inside = (part == "training") | (part == other)
        sides = [[each[name][method] for name in ("target", "control")] for each in seeds]
        alone, relative = [target for target, _ in sides], [_ratio(*both) for both in sides]
        for name, scores in {method: alone, method + RELATIVE: relative}.items():
            rows = [
                detection(name, each[inside], part[inside] == "training", people[inside], alarms) for each in scores
            ]
            hits = {rate: averaged([row.hits[rate] for row in rows]) for rate in rows[0].hits}
            yield Membership(name, averaged([row.auc for row in rows]), hits, other)


def taught(records: Records, seeds: Sequence[Mapping[str, Knowledge]]) -> Iterator[str]:
    """By what the control tells records from the nearest images that no model saw, as if it had seen them.

    seeds: as of `memberships`.
    """
    others = records.held_out if records.alike is None else records.alike
    start = len(records.training) + (0 if records.alike is None else len(records.held_out))
    rows = np.r_[: len(records.training), start : start + len(others)]
    inside = np.arange(len(rows)) < len(records.training)
    people = torch.cat([records.training.classes, others.classes]).numpy()
    for method in seeds[0]["control"]:
        scores = [each["control"][method][rows] for each in seeds]
        area = averaged([detection(method, each, inside, people, ()).auc for each in scores])
        if isinstance(area, Estimate) and area.low > 0.5:
            yield f"{method}, AUC {area.value:.2f} [{area.low:.2f}, {area.high:.2f}]"


def known(rows: Sequence[Membership], notable: float, taught: Iterable[str] = ()) -> Conclusion | None:
    """Whether the weights know records better than images of the same people; of other people, where there are none.

    What any such model knows of such images is taken out. taught: by what the control itself tells them apart.
    """
    nearest = "alike" if any(row.comparison == "alike" for row in rows) else "held-out"
    tested = [row for row in rows if row.comparison == nearest and row.method.endswith(RELATIVE)]
    if not tested:
        return None
    said = told_apart(tested, notable)
    methods = ", ".join(taught)
    if said.finding != "no evidence" or not methods:
        return said
    knows = (
        f"But the control tells records from them, too ({methods}): it has seen the records, or these images "
        "are of another kind. Take another control, or data.alike."
    )
    return Conclusion("inconclusive", (*said.because, knows))


def _ratio(target: Array, control: Array) -> Array:
    """The logarithm (N,) of the control's distance over the target's; both are given as their negatives."""
    return np.log(np.maximum(-control, 1e-12)) - np.log(np.maximum(-target, 1e-12))
