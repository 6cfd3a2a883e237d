"""A comparison of defences, end to end, and what its figures say: comparison.json, which has a schema in gmi/report."""

from collections.abc import Collection, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue

from gmi.comparison.advice import MITIGATION, affordable, find
from gmi.comparison.plan import OPEN, Arm, Cell, Comparison, Subject, cells
from gmi.comparison.trials import Found, Utility
from gmi.inversion.scoring import Recognised
from gmi.inversion.verdict import METRIC
from gmi.metrics.identity import chance
from gmi.metrics.statistics import (
    Estimate,
    Outcome,
    as_json,
    attempt,
    by_person,
    difference,
    estimate,
    jackknife,
    p_value,
)
from gmi.report.page import SCHEMA_VERSION
from gmi.settings import plain
from gmi.targets.quality import calibration_error

Array = NDArray[np.float64]
LEVELS = ("white-box", "scores", "labels")
"""Of access, each of which includes those after it."""


def compose(
    plan: Comparison,
    digests: dict[str, JsonValue],
    people: int,
    seen: Recognised,
    found: Found,
    enrolled: Array,
    device: torch.device,
) -> dict[str, Any]:
    """people: attacked. enrolled (M,): whose the enrolment images are."""
    scale = Figures(plan, seen, found, enrolled)
    arms = [scale.arm(subject, arm) for subject in plan.targets for arm in plan.arms_of(subject)]
    find(arms)
    return {
        "schema_version": SCHEMA_VERSION,
        "name": plan.name,
        "gmi": version("gmi"),
        "judge": seen.judge,
        "attacked": people,
        "gallery": seen.people,
        "seeds": list(plan.seeds),
        "margin": plan.margin,
        "metric": METRIC,
        "chance": {metric: chance(metric, seen.people) for metric in seen.rates},
        "thresholds": [asdict(cut) | {"trusted": cut.trusted} for cut in seen.thresholds],
        "random": {metric: scale.figure(["random"], metric) for metric in seen.rates},
        "arms": arms,
        "cells": [scale.cell(some) for some in scale.grouped],
        "device": device.type,
        "digests": digests,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


class Figures:
    """Cells of one attack on one arm are weighed together, whatever their seed: a person counts once."""

    def __init__(self, plan: Comparison, seen: Recognised, found: Found, enrolled: Array) -> None:
        self.plan, self.seen, self.found, self.enrolled = plan, seen, found, enrolled
        groups: dict[tuple[str, str, str], list[Cell]] = {}
        for one in cells(plan):
            groups.setdefault((one.subject.name, one.arm.name, one.attack.name), []).append(one)
        self.grouped = list(groups.values())
        kinds = {one.access.type for one in plan.every_attack}
        self.levels = [level for level in LEVELS if level in kinds]

    def figure(self, keys: Sequence[str], metric: str) -> dict[str, Any]:
        values = np.concatenate([self.seen.outcomes[key][metric] for key in keys])
        classes = np.concatenate([self.seen.classes[key] for key in keys])
        return as_json(attempt(lambda: estimate(values, classes)))

    def by_seed(self, some: Sequence[Cell], metric: str) -> Array:
        """(S, A): each attacked person's mean for each seed."""
        return np.stack([self.seen.of_people(one.key, metric) for one in some])

    def of_people(self, some: Sequence[Cell], metric: str) -> Array:
        """(A,) over seeds."""
        return self.by_seed(some, metric).mean(0)

    def strongest(self, able: Sequence[list[Cell]]) -> list[Cell]:
        """The attack that finds most."""
        return max(able, key=lambda some: self.of_people(some, METRIC).mean())

    def attacks_on(self, subject: Subject, arm: Arm) -> list[list[Cell]]:
        return [some for some in self.grouped if (some[0].subject.name, some[0].arm.name) == (subject.name, arm.name)]

    def able(self, subject: Subject, arm: Arm, level: str) -> list[list[Cell]]:
        """Attacks by that access or less. Guards are nothing to a holder of the weights, who asks the bare target."""
        bare = self.plan.arms_of(subject)[0]
        free = level == "white-box" and arm.guarded
        asked = bare if free and arm.trained == OPEN else arm
        fit = LEVELS[LEVELS.index(level) :]
        return [
            some
            for some in self.attacks_on(subject, asked)
            if some[0].attack.access.type in fit and not (free and asked is arm and some[0].attack.access.type != level)
        ]

    def cell(self, some: Sequence[Cell]) -> dict[str, Any]:
        first, keys = some[0], [one.key for one in some]
        return {
            "target": first.subject.name,
            "arm": first.arm.name,
            "attack": first.attack.name,
            "access": str(first.access),
            "adaptive": first.adaptive,
            "queries": max(self.found.queries[key] for key in keys),
            "figures": {metric: self.figure(keys, metric) for metric in self.seen.rates},
            "own_opinion": float(np.mean([self.found.named[key] for key in keys])),
        }

    def arm(self, subject: Subject, arm: Arm) -> dict[str, Any]:
        """What it costs, and what is left to the strongest attack by each access."""
        bare = self.plan.arms_of(subject)[0]
        uses = self._uses(subject, arm)
        cost = difference(self._right(subject, bare), self._right(subject, arm))
        promise = self.found.promises[subject.name, arm.name]
        shown = ", ".join(map(str, arm.guards)) + str(arm.shape)
        return {
            "target": subject.name,
            "name": arm.name,
            "defence": None if arm.defence is None else plain(arm.defence),
            "guards": shown.strip() or None,
            "accuracy": as_json(attempt(lambda: estimate(*self._images(uses)))),
            "cost": None if arm.name == OPEN else as_json(cost),
            "calibration_error": as_json(attempt(lambda: self._calibration(uses))),
            "affordable": None if arm.name == OPEN else affordable(cost, self.plan.margin),
            "promise": None if promise is None else asdict(promise),
            "leaks": [self._leak(subject, arm, level) for level in self.levels if self.able(subject, arm, level)],
            "masked": self._masked(subject, arm),
            "known": arm.name == OPEN or bool(arm.adaptive),
            "mitigation": [
                MITIGATION[kind]
                for kind, there in (("training", arm.trained != OPEN), ("guards", arm.guarded))
                if there
            ],
        }

    def _uses(self, subject: Subject, arm: Arm) -> list[Utility]:
        return [self.found.utility[subject.name, arm.name, seed] for seed in self.plan.seeds]

    def _images(self, uses: Sequence[Utility]) -> tuple[Array, Array]:
        return np.concatenate([one.right for one in uses]), np.tile(self.enrolled, len(uses))

    def _calibration(self, uses: Sequence[Utility]) -> Estimate:
        """Of each seed, on average."""

        def error(kept: NDArray[np.bool_]) -> float:
            return float(np.mean([calibration_error(one.right.numpy()[kept], one.sure.numpy()[kept]) for one in uses]))

        without = [error(self.enrolled != person) for person in np.unique(self.enrolled)]
        return jackknife(without, error(self.enrolled >= 0), len(self.enrolled), bounds=(0.0, 1.0))

    def _right(self, subject: Subject, arm: Arm) -> Array:
        """Accuracy (K,) of each person's enrolment images, over seeds."""
        return by_person(*self._images(self._uses(subject, arm)))

    def _leak(self, subject: Subject, arm: Arm, level: str) -> dict[str, Any]:
        """Beside the undefended target under the same attacks."""
        able, bare = self.able(subject, arm, level), self.plan.arms_of(subject)[0]
        ours, names = self.strongest(able), {some[0].attack.name for some in able}
        same = [some for some in self.able(subject, bare, level) if some[0].attack.name in names]

        def less(metric: str) -> Outcome:
            usual = self.of_people(self.strongest(same), metric)
            return attempt(lambda: difference(usual, self.of_people(ours, metric)))

        compared = arm.name != OPEN and bool(same)
        apart = self.by_seed(self.strongest(same), METRIC) - self.by_seed(ours, METRIC) if compared else None
        return {
            "access": level,
            "attack": ours[0].attack.name,
            "adaptive": ours[0].attack in arm.adaptive and arm.name != OPEN,
            "figures": {metric: self.figure([one.key for one in ours], metric) for metric in self.seen.rates},
            "reduction": {metric: as_json(less(metric)) if compared else None for metric in (METRIC, "rank1")},
            "seeds": None if apart is None else apart.mean(1).tolist(),
            "p": None if apart is None else p_value(apart.mean(0)),
            "finding": None,
        }

    def _masked(self, subject: Subject, arm: Arm) -> list[str]:
        """Reasons to think that the defence hides gradients, not people, which the undefended target does not give."""
        if arm.trained == OPEN:
            return []
        bare, reasons = self.plan.arms_of(subject)[0], []
        flags = [
            [self.found.gradients[subject.name, one.name, seed] for seed in self.plan.seeds] for one in (arm, bare)
        ]
        dead = [ours for ours, usual in zip(*flags, strict=True) if ours.severity != "passed" == usual.severity]
        if dead:
            reasons.append(dead[0].message)
        met = {some[0].attack.name for some in self.attacks_on(subject, arm)}  # the bare target meets others, too
        for level in self.levels[1:] if self.levels[0] == "white-box" else ():
            ours, usual = (self._ahead(subject, one, level, met) for one in (arm, bare))
            if ours is None or usual is None:
                continue
            more = (
                difference(ours, np.zeros_like(ours)),
                difference(ours, usual, bounds=(-2.0, 2.0)),
            )
            if all(one.low > 0 for one in more):
                reasons.append(
                    f"With {level} alone more is found than with the weights, which is not so without the defence: it "
                    "is gradients that it spoils."
                )
        return reasons

    def _ahead(self, subject: Subject, arm: Arm, level: str, names: Collection[str]) -> Array | None:
        """(A,) by how much attacks of that access find more than those that use the weights; None: one is missing."""
        kinds = {level: [], "white-box": []}
        for some in self.attacks_on(subject, arm):
            if some[0].attack.name in names and (kind := some[0].attack.access.type) in kinds:
                kinds[kind].append(some)
        if not all(kinds.values()):
            return None
        return self.of_people(self.strongest(kinds[level]), METRIC) - self.of_people(
            self.strongest(kinds["white-box"]), METRIC
        )
