"""A comparison of defences, end to end, and what its figures say: comparison.json, which has a schema in gmi/report."""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from dataclasses import dataclass as plain_dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from numpy.typing import NDArray
from pydantic import JsonValue

from gmi import judging, scoring
from gmi.access import WholeModel
from gmi.comparison import OPEN, Arm, Bench, Cell, Comparison, Found, Subject, Utility, cells
from gmi.data import People
from gmi.judging import Judges
from gmi.metrics.identity import chance
from gmi.protocols import Prior, students
from gmi.reconstruct import Autocast
from gmi.report.comparison import render
from gmi.run import Run
from gmi.scoring import Outcome, Recognised
from gmi.settings import plain
from gmi.statistics import Estimate, by_person, difference, estimate
from gmi.target import Target
from gmi.utility import calibration_error
from gmi.verdict import METRIC

Array = NDArray[np.float64]
MITIGATION = {"guards": "AML.M0002 Passive AI Output Obfuscation", "training": "AML.M0003 Model Hardening"}
"""Of MITRE ATLAS."""


@plain_dataclass(frozen=True)
class Inputs:
    """What a comparison works on. Any objects with the right methods will do."""

    people: People
    prior: Prior
    judges: Judges  # one face recogniser


def compare(plan: Comparison, folder: Path, device: torch.device, autocast: Autocast = nullcontext) -> Path:
    """As `weigh`, on what the configuration names."""
    judges = Judges((plan.judge.load(device),))
    return weigh(plan, Inputs(plan.data.load(), plan.prior.load(device), judges), folder, device, autocast)


def weigh(
    plan: Comparison, inputs: Inputs, folder: Path, device: torch.device, autocast: Autocast = nullcontext
) -> Path:
    """Does what is not there yet of the comparison in `folder`, and returns its comparison.html.

    Raises GmiError as `Run.open` and `Bench`, and for a judge that is not independent.
    """
    people, state = inputs.people, PartialState()
    for subject in plan.targets:
        blank = Target(subject.target.build(), subject.target.input, people.names, frozenset(subject.target.trained_on))
        taught = [one for some in cells(plan) for one in students(some.attack.search)]
        inputs.judges.refuse_dependent(blank, None, plan.data.name, list({repr(one): one for one in taught}.values()))
    digests: dict[str, JsonValue] = {"gmi": version("gmi"), "prior": inputs.prior.digest, "data": people.digest}
    with state.main_process_first():
        run = Run.open(folder, {"comparison": plain(plan), "inputs": digests})
    found = Bench(plan, people, inputs.prior, run, device, autocast)()
    judged = judging.judge(run, inputs.judges, None, people, found.sets)
    if state.is_main_process:
        (judge,) = inputs.judges.faces
        templates, first = judged.templates[judge.name], next(cells(plan)).key
        # What is scored as an audit's attack would be, beside the random prior, is the first cell.
        templates, sets = templates | {"search": templates[first]}, found.sets | {"search": found.sets[first]}
        seen = scoring.recognise(judge, templates, people, sets, plan.fmrs)
        report = compose(plan, digests, len(people.attacked), seen, found, people.enrolment.classes.numpy(), device)
        run.write("comparison.json", (json.dumps(report, indent=1, allow_nan=False) + "\n").encode())
        render(run.folder)
    state.wait_for_everyone()
    return folder / "comparison.html"


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
    scale = _Scale(plan, seen, found, enrolled)
    random = {metric: scale.figure(["random"], metric) for metric in seen.rates}
    return {
        "schema_version": 1,
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
        "random": random,
        "arms": [scale.arm(subject, arm) for subject in plan.targets for arm in plan.everyone],
        "cells": [scale.cell(some) for some in scale.grouped],
        "device": device.type,
        "digests": digests,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


class _Scale:
    """Cells of one attack on one arm are weighed together, whatever their seed: a person counts once."""

    def __init__(self, plan: Comparison, seen: Recognised, found: Found, enrolled: Array) -> None:
        self.plan, self.seen, self.found, self.enrolled = plan, seen, found, enrolled
        groups: dict[tuple[str, str, str], list[Cell]] = {}
        for one in cells(plan):
            groups.setdefault((one.subject.name, one.arm.name, one.attack.name), []).append(one)
        self.grouped = list(groups.values())

    def figure(self, keys: Sequence[str], metric: str) -> dict[str, Any]:
        values = np.concatenate([self.seen.outcomes[key][metric] for key in keys])
        classes = np.concatenate([self.seen.classes[key] for key in keys])
        return scoring.plain(scoring.attempt(lambda: estimate(values, classes)))

    def of_people(self, some: Sequence[Cell], metric: str) -> Array:
        """Mean over seeds of each attacked person (A,)."""
        return np.mean([self.seen.of_people(one.key, metric) for one in some], axis=0)

    def strongest(self, subject: Subject, arm: Arm, access: str) -> list[Cell]:
        """The attack by that access that finds most, those that know of the arm's defence among them."""
        able = [
            some
            for some in self.grouped
            if (some[0].subject, some[0].arm) == (subject, arm) and some[0].attack.access.type == access
        ]
        return max(able, key=lambda some: self.of_people(some, METRIC).mean())

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
        bare = self.plan.everyone[0]
        right, usual = self._right(subject, arm), self._right(subject, bare)
        cost = difference(usual, right)
        levels = dict.fromkeys(one.access.type for one in self.plan.attacks)
        leaks = [self._leak(subject, arm, access) for access in levels]
        uses = [self.found.utility[subject.name, arm.name, seed] for seed in self.plan.seeds]
        promise = self.found.promises[subject.name, arm.name]
        told = {
            "target": subject.name,
            "name": arm.name,
            "defence": None if arm.defence is None else plain(arm.defence),
            "guards": [str(one) for one in arm.guards] + ([str(arm.shape).strip(" ()")] if str(arm.shape) else []),
            "accuracy": scoring.plain(scoring.attempt(lambda: estimate(*self._images(uses)))),
            "cost": scoring.plain(cost) if arm != bare else None,
            "calibration_error": calibration_error(
                np.concatenate([one.right for one in uses]), np.concatenate([one.sure for one in uses])
            ),
            "affordable": cost.value <= self.plan.margin,
            "promise": None if promise is None else asdict(promise),
            "leaks": leaks,
            "masked": self._masked(subject, arm),
            "mitigation": [
                MITIGATION[kind]
                for kind, there in (("training", arm.trained != OPEN), ("guards", arm.guards or str(arm.shape)))
                if there
            ],
        }
        return told | {"advice": None if arm == bare else advice(told)}

    def _images(self, uses: Sequence[Utility]) -> tuple[Array, Array]:
        return np.concatenate([one.right for one in uses]), np.tile(self.enrolled, len(uses))

    def _right(self, subject: Subject, arm: Arm) -> Array:
        """Accuracy (K,) of each person's enrolment images, over seeds."""
        uses = [self.found.utility[subject.name, arm.name, seed] for seed in self.plan.seeds]
        return by_person(*self._images(uses))

    def _leak(self, subject: Subject, arm: Arm, access: str) -> dict[str, Any]:
        ours = self.strongest(subject, arm, access)
        bare = self.strongest(subject, self.plan.everyone[0], access)

        def less(metric: str) -> Outcome:
            return scoring.attempt(lambda: difference(self.of_people(bare, metric), self.of_people(ours, metric)))

        return {
            "access": access,
            "attack": ours[0].attack.name,
            "adaptive": ours[0].adaptive,
            "figures": {metric: self.figure([one.key for one in ours], metric) for metric in self.seen.rates},
            "reduction": {
                metric: None if arm.name == OPEN else scoring.plain(less(metric)) for metric in (METRIC, "rank1")
            },
        }

    def _masked(self, subject: Subject, arm: Arm) -> list[str]:
        """Reasons to think that the defence hides gradients, and not people."""
        reasons = []
        for seed in self.plan.seeds:
            flag = self.found.gradients[subject.name, arm.name, seed]
            if flag.severity != "passed":
                reasons.append(flag.message)
                break
        levels = dict.fromkeys(one.access.type for one in self.plan.attacks)
        if arm.trained != OPEN and WholeModel().type in levels:
            whole = self.of_people(self.strongest(subject, arm, WholeModel().type), METRIC)
            for access in (one for one in levels if one != WholeModel().type):
                some = self.strongest(subject, arm, access)
                more = scoring.attempt(lambda some=some: difference(self.of_people(some, METRIC), whole))
                if isinstance(more, Estimate) and more.low > 0:
                    reasons.append(
                        f"{some[0].attack.name}, which has {access} alone, finds more than every attack with the "
                        "weights: it is the gradients that this defence spoils."
                    )
        return reasons


def advice(arm: dict[str, Any]) -> str:
    """One sentence."""
    cost, name = arm["cost"], arm["name"]
    known = [(one["access"], one["reduction"][METRIC]) for one in arm["leaks"]]
    known = [(access, less) for access, less in known if less is not None and "failed" not in less]
    helped = [access for access, less in known if less["low"] > 0]
    hurt = [access for access, less in known if less["high"] < 0]
    price = f"{100 * cost['value']:.1f} points of accuracy [{100 * cost['low']:.1f}, {100 * cost['high']:.1f}]"
    if arm["masked"]:
        return f"Do not rely on {name}: it hides gradients rather than people, for {price}."
    if hurt:
        return f"Do not deploy {name}: more is found than without it, by {_and(hurt)}, for {price}."
    if not helped:
        return f"{name} is not shown to help against any of the attacks, for {price}."
    against = f"less is found by {_and(helped)}"
    if rest := [access for access, _ in known if access not in helped]:
        against += f", not shown by {_and(rest)}"
    if not arm["affordable"]:
        return f"{name} costs more than is allowed, {price}; {against}."
    return f"Consider {name}: {against}, for {price}."


def _and(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
