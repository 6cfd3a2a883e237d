"""The figures of a comparison: what each arm costs, and what each attack still finds."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue
from scipy.stats import hypergeom

from gmi.comparison.plan import OPEN, Arm, Cell, Comparison, Subject, cells
from gmi.comparison.trials import Evidence, Utility
from gmi.defences.base import Promise
from gmi.inversion.exposure import METRIC
from gmi.inversion.recognition import Recognised
from gmi.inversion.scoring import figures
from gmi.inversion.strength import misleads
from gmi.metrics.detection import Difference
from gmi.metrics.repeats import trained_difference
from gmi.metrics.statistics import Array, Estimate, Failed, Outcome, attempt, by_draw, difference, estimate, jackknife
from gmi.settings import plain
from gmi.targets.quality import calibration_error

LEVELS = ("white-box", "scores", "labels")
"""Levels of access, each of which includes those after it."""
MITIGATION = {
    "training": "AML.M0003 Predictive AI Model Hardening, by analogy",
    "guards": "AML.M0002 Passive AI Output Obfuscation",
}
"""The names that MITRE ATLAS has for defences of training and of answers."""


_UNADAPTED = "It was trained so that a search finds something else than its people, and no attack here knows of it."


@dataclass(frozen=True)
class Leak:
    """The strongest attack on one arm by one level of access."""

    access: str
    attack: str
    is_adaptive: bool  # whether it knows of the defence
    figures: dict[str, Outcome]  # by metric
    reduction: dict[str, Outcome | None]  # what it finds less than on the undefended target, by metric
    seeds: tuple[float, ...] | None  # the reduction of each seed; None: nothing is compared
    # of no reduction, by people and trainings; after `advice.annotate` Holm's, over all arms and levels. None: nothing
    # is compared, or it is the same attack on the same weights, and there is no reduction by construction
    p: float | None
    own_opinion: float  # share of the attack's images that the target itself takes for their person
    finding: Literal["less", "more", "not shown"] | None = None  # filled in by `advice.annotate`


@dataclass(frozen=True)
class ArmFigures:
    """The cost of one arm, and what it leaves to an adversary."""

    target: str
    name: str
    defence: dict[str, JsonValue] | None
    guards: str | None
    accuracy: Outcome  # on enrolment images
    cost: Estimate | None  # accuracy lost to the undefended target's; None: it is the undefended target
    calibration_error: Outcome
    affordability: Literal["yes", "no", "not shown"] | None  # whether the cost is within the margin
    promise: Promise | None
    leaks: tuple[Leak, ...]  # by level of access
    masking: tuple[str, ...]  # reasons to think that it misleads these searches rather than hides people
    has_adaptive_attack: bool  # whether it met an attack that knows of it
    mitigation: tuple[str, ...]
    advice: str | None = None  # filled in by `advice.annotate`


@dataclass(frozen=True)
class CellFigures:
    """One attack on one arm, over all seeds."""

    target: str
    arm: str
    attack: str
    access: str
    is_adaptive: bool
    queries: int  # most of any seed
    figures: dict[str, Outcome]  # by metric
    own_opinion: float  # share of its images that the target itself takes for their person


@dataclass(frozen=True)
class Figures:
    """Cells of one attack on one arm are evaluated together: a person counts once, and seeds are draws of trainings."""

    plan: Comparison
    evidence: Evidence
    recognised: Recognised  # by the judge; methods are the keys of cells
    enrolled: Array  # (M,) people of the enrolment images

    @cached_property
    def groups(self) -> list[list[Cell]]:
        """The cells of each attack on each arm."""
        groups: dict[tuple[str, str, str], list[Cell]] = {}
        for cell in cells(self.plan):
            groups.setdefault((cell.subject.name, cell.arm.name, cell.attack.name), []).append(cell)
        return list(groups.values())

    @cached_property
    def levels(self) -> list[str]:
        """The levels of access that there are attacks by."""
        kinds = {attack.access.type for attack in self.plan.every_attack}
        return [level for level in LEVELS if level in kinds]

    def by_seed(self, group: Sequence[Cell], metric: str) -> Array:
        """Each attacked person's mean (S, A) for each seed."""
        return np.concatenate([self.recognised.of_people(cell.key, metric) for cell in group])

    def of_people(self, group: Sequence[Cell], metric: str) -> Array:
        """Each attacked person's mean (A,) over seeds."""
        return self.by_seed(group, metric).mean(0)

    def strongest(self, groups: Sequence[list[Cell]]) -> list[Cell]:
        """The attack that finds most."""
        return max(groups, key=lambda group: self.of_people(group, METRIC).mean())

    def attacks_on(self, subject: Subject, arm: Arm) -> list[list[Cell]]:
        """The attacks that this arm met."""
        wanted = (subject.name, arm.name)
        return [group for group in self.groups if (group[0].subject.name, group[0].arm.name) == wanted]

    def able(self, subject: Subject, arm: Arm, level: str) -> list[list[Cell]]:
        """The attacks by that access or less. Guards do not stop a holder of the weights, who asks the bare target."""
        bare = self.plan.arms_of(subject)[0]
        free = level == "white-box" and arm.guarded
        met = bare if free and arm.trained == OPEN else arm
        fit = LEVELS[LEVELS.index(level) :]
        return [
            group
            for group in self.attacks_on(subject, met)
            if group[0].attack.access.type in fit and not (free and met is arm and group[0].attack.access.type != level)
        ]

    def cell(self, group: Sequence[Cell]) -> CellFigures:
        """The figures of one attack on one arm."""
        first = group[0]
        return CellFigures(
            target=first.subject.name,
            arm=first.arm.name,
            attack=first.attack.name,
            access=str(first.access),
            is_adaptive=first.adaptive,
            queries=max(self.evidence.attacks[cell.key].queries for cell in group),
            figures=figures(self.recognised, [cell.key for cell in group]),
            own_opinion=self._own_opinion(group),
        )

    def _own_opinion(self, group: Sequence[Cell]) -> float:
        return float(np.mean([self.evidence.attacks[cell.key].own_opinion for cell in group]))

    def arm(self, subject: Subject, arm: Arm) -> ArmFigures:
        """The cost of an arm, and what is left to the strongest attack by each access."""
        bare = self.plan.arms_of(subject)[0]
        uses = self._uses(subject, arm)
        cost = None
        if arm.name != OPEN:
            sides = (self._correct(subject, bare), self._correct(subject, arm))
            cost = trained_difference(*sides, together=arm.trained == OPEN).estimate
        shown = ", ".join(map(str, arm.guards)) + str(arm.shape)
        kinds = [kind for kind, there in (("training", arm.trained != OPEN), ("guards", arm.guarded)) if there]
        return ArmFigures(
            target=subject.name,
            name=arm.name,
            defence=None if arm.defence is None else plain(arm.defence),
            guards=shown.strip() or None,
            accuracy=attempt(lambda: self._accuracy(uses)),
            cost=cost,
            calibration_error=attempt(lambda: self._calibration(uses)),
            affordability=None if cost is None else affordability(cost, self.plan.margin),
            promise=self.evidence.promises[subject.name, arm.name],
            leaks=tuple(self._leak(subject, arm, level) for level in self.levels if self.able(subject, arm, level)),
            masking=tuple(self.masking(subject, arm)),
            has_adaptive_attack=arm.name == OPEN or bool(arm.adaptive),
            mitigation=tuple(MITIGATION[kind] for kind in kinds),
        )

    def _uses(self, subject: Subject, arm: Arm) -> list[Utility]:
        return [self.evidence.utility[subject.name, arm.name, seed] for seed in self.plan.seeds]

    def _images(self, uses: Sequence[Utility]) -> tuple[Array, Array, NDArray[np.int64]]:
        """Whether each image is named right, whose it is, and the number of the seed."""
        correct = np.concatenate([use.correct for use in uses])
        return correct, np.tile(self.enrolled, len(uses)), np.repeat(np.arange(len(uses)), len(self.enrolled))

    def _accuracy(self, uses: Sequence[Utility]) -> Estimate:
        correct, people, draws = self._images(uses)
        return estimate(correct, people, draws=draws)

    def _calibration(self, uses: Sequence[Utility]) -> Estimate:
        """The mean over seeds."""

        def error(kept: NDArray[np.bool_]) -> float:
            errors = [calibration_error(use.correct.numpy()[kept], use.confidence.numpy()[kept]) for use in uses]
            return float(np.mean(errors))

        without = [error(self.enrolled != person) for person in np.unique(self.enrolled)]
        whole, sizes = error(self.enrolled >= 0), np.unique(self.enrolled, return_counts=True)[1]
        return jackknife(without, whole, len(self.enrolled), bounds=(0.0, 1.0), sizes=sizes)

    def _correct(self, subject: Subject, arm: Arm) -> Array:
        """Accuracy (S, K) on each person's enrolment images, for each seed."""
        return by_draw(*self._images(self._uses(subject, arm)))

    def _leak(self, subject: Subject, arm: Arm, level: str) -> Leak:
        """The strongest attack by that access, compared with the undefended target under the same attacks."""
        able, bare = self.able(subject, arm, level), self.plan.arms_of(subject)[0]
        strongest, names = self.strongest(able), {group[0].attack.name for group in able}
        same = [group for group in self.able(subject, bare, level) if group[0].attack.name in names]
        compared = arm.name != OPEN and bool(same)

        usual = self.strongest(same) if compared else None

        def reduction(metric: str) -> Difference | Failed | None:
            if usual is None:
                return None
            sides = [self.by_seed(group, metric) for group in (usual, strongest)]
            return attempt(lambda: trained_difference(*sides, together=arm.trained == OPEN))

        reductions = {metric: reduction(metric) for metric in (METRIC, "rank1")}
        main, seeds = reductions[METRIC], None
        if usual is not None:
            seeds = tuple((self.by_seed(usual, METRIC) - self.by_seed(strongest, METRIC)).mean(1).tolist())
        identical = usual is not None and [cell.key for cell in usual] == [cell.key for cell in strongest]
        return Leak(
            access=level,
            attack=strongest[0].attack.name,
            is_adaptive=strongest[0].attack in arm.adaptive and arm.name != OPEN,
            figures=figures(self.recognised, [cell.key for cell in strongest]),
            reduction={
                metric: found.estimate if isinstance(found, Difference) else found
                for metric, found in reductions.items()
            },
            seeds=seeds,
            p=main.p if isinstance(main, Difference) and not identical else None,
            own_opinion=self._own_opinion(strongest),
        )

    def masking(self, subject: Subject, arm: Arm) -> list[str]:
        """Reasons to think that it misleads searches rather than hides people; they do not hold of the bare target."""
        if arm.trained == OPEN:
            return []
        bare, flags = self.plan.arms_of(subject)[0], self.evidence.gradients
        reasons = [_UNADAPTED] if misleads(arm) and not arm.adaptive else []
        for seed in self.plan.seeds:
            flag, usual = (flags[subject.name, each.name, seed] for each in (arm, bare))
            if flag.severity != "passed" == usual.severity:
                reasons.append(flag.message)
                break
        met = {group[0].attack.name for group in self.attacks_on(subject, arm)}  # the bare target meets others, too
        mine, usually = (self._convinced(subject, each, met) for each in (arm, bare))
        people = next((len(self.of_people(group, METRIC)) for group in self.attacks_on(subject, arm)), 0)
        if mine is not None and usually is not None and surely_less(mine, usually, people):
            kept = min(1.0, self._correct(subject, arm).mean() / max(1e-9, self._correct(subject, bare).mean()))
            if mine < kept * usually / 2:  # of a target that knows its people less, searches convince it less
                reasons.append(
                    f"With the weights, searches convince the target of {mine:.0%} of their images, and of "
                    f"{usually:.0%} without the defence: they fail by their own measure, and a better one may not."
                )
        for level in self.levels[1:] if self.levels[0] == "white-box" else ():
            lead, usual = (self._lead(subject, each, level, met) for each in (arm, bare))
            if lead is None or usual is None:
                continue
            leads = (difference(lead, np.zeros_like(lead)), difference(lead, usual, bounds=(-2.0, 2.0)))
            if all(each.low > 0 for each in leads):
                reasons.append(
                    f"With {level} alone more is found than with the weights, which is not so without the defence: it "
                    "is gradients that it spoils."
                )
        return reasons

    def _convinced(self, subject: Subject, arm: Arm, names: Collection[str]) -> float | None:
        """The most of its own images that a search with the weights convinces the target of; None: there is none."""
        met = (group for group in self.attacks_on(subject, arm) if group[0].attack.name in names)
        groups = [group for group in met if group[0].attack.access.type == "white-box"]
        return max(map(self._own_opinion, groups), default=None)

    def _lead(self, subject: Subject, arm: Arm, level: str, names: Collection[str]) -> Array | None:
        """The lead (S, A) of attacks by that access over those with the weights; None: one kind is missing."""
        kinds: dict[str, list[list[Cell]]] = {level: [], "white-box": []}
        for group in self.attacks_on(subject, arm):
            if group[0].attack.name in names and (kind := group[0].attack.access.type) in kinds:
                kinds[kind].append(group)
        if not all(kinds.values()):
            return None
        alone, usual = (self.by_seed(self.strongest(groups), METRIC) for groups in kinds.values())
        return alone - usual


def surely_less(share: float, other: float, people: int) -> bool:
    """Whether one share of so many people is less than the other by Fisher's exact test, at 5 %.

    Seeds are no more people: who is convinced of with one seed is as a rule with another.
    """
    mine, theirs = round(share * people), round(other * people)
    return bool(hypergeom.cdf(mine, 2 * people, mine + theirs, people) < 0.05)


def affordability(cost: Estimate, margin: float) -> Literal["yes", "no", "not shown"]:
    """The answer to whether the accuracy that a defence costs is within the margin."""
    if cost.high <= margin:
        return "yes"
    return "no" if cost.low > margin else "not shown"
