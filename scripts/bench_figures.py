"""What judges make of a bench: the rows of its results, and the plot of match rates over evaluations of the target."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gmi.audits import Hardware
from gmi.data.images import Images
from gmi.data.people import People
from gmi.inversion.judging import Answers, Judged, Judges, Panel
from gmi.inversion.plan import RANDOM
from gmi.inversion.recognition import Recognised, recognise
from gmi.inversion.scoring import figures
from gmi.metrics.statistics import Array, Failed, Outcome, attempt, difference, estimate, recovered
from gmi.protocols import FaceJudge
from gmi.report import plots
from gmi.report.figures import Row, line, unit
from gmi.report.terms import label
from gmi.run import Run
from scripts.bench_plan import CONTROL, ORACLE, Bench, Point, Rival, Searched, slug

Paired = dict[tuple[str, str], Recognised]
"""What one judge recognises, by target and prior."""


def judged(
    plan: Bench,
    people: People,
    targets: Any,
    judges: Judges,
    searched: Sequence[Searched],
    run: Run,
    hardware: Hardware,
) -> tuple[list[Row], str]:
    """The rows of the results, and the plot as SVG."""
    everything = {_key(point, part): part.releases[point.step] for part in searched for point in part.points}
    panel = Panel(run, Judged())
    roles = {"training": people.training, "enrolment": people.enrolment}
    roles |= {"distractors": people.distractors, "strangers": people.strangers}
    photographs = {name: images for name, images in roles.items() if images is not None}
    for judge in judges.faces:
        panel.faces(judge, photographs | everything)
    if judges.perceptual is not None:
        panel.perceptual(judges.perceptual, people.enrolment, everything)
    opinions: dict[str, Answers] = {}
    for name, target in targets.items():
        own = {key: images for key, images in everything.items() if key.startswith(f"{slug(name)}/")}
        alone = Panel(run.part(target.digest[:12]), Judged())
        alone.target(lambda images, _, target=target: target(images.to(hardware.device)), own)
        opinions |= alone.judged.answers["target"]
    tables = [_recognised(plan, people, judge, panel.judged, searched) for judge in judges.faces]
    bench = Figures(plan, len(people.attacked), panel.judged, opinions, everything, tables, searched)
    rows = [row for part in searched for point in part.points for row in bench.of(point, part)]
    return [*rows, *bench.within_budgets()], bench.plot()


def _key(point: Point, part: Searched) -> str:
    """The name of what the point releases, among everything: other images have another, and are judged anew."""
    return f"{slug(point.target)}/{slug(point.prior)}/{point.step}-{part.releases[point.step].digest[:12]}"


def _recognised(plan: Bench, people: People, judge: FaceJudge, answers: Judged, searched: Sequence[Searched]) -> Paired:
    """What the judge recognises; the oracle projection, which asks no target, stands beside every target's points."""
    templates = answers.templates[judge.name]
    oracles = {
        part.points[0].prior: (_key(point, part), part.releases[ORACLE])
        for part in searched
        for point in part.points
        if point.method == ORACLE
    }
    pairs: Paired = {}
    for part in searched:
        first = part.points[0]
        keys = {point.step: _key(point, part) for point in part.points}
        releases = dict(part.releases)
        if first.prior in oracles:
            keys[ORACLE], releases[ORACLE] = oracles[first.prior]
        mine = {step: templates[key] for step, key in keys.items()}
        whole = {name: values for name, values in templates.items() if "/" not in name} | mine
        pairs[first.target, first.prior] = recognise(
            judge, whole, people, releases, plan.fmrs, attack=first.step, seeds=len(plan.seeds)
        )
    return pairs


@dataclass(frozen=True)
class Figures:
    """The figures of every point, under every judge."""

    plan: Bench
    people: int  # attacked
    answers: Judged
    opinions: dict[str, Answers]  # each target's own, by the names of `everything`
    everything: dict[str, Images]
    tables: list[Paired]  # by judge
    searched: Sequence[Searched]

    def of(self, point: Point, part: Searched) -> Iterator[Row]:
        """All rows of one point."""
        labels = self._labels(point, part)
        for table in self.tables:
            recognised = table[point.target, point.prior]
            mine = labels | {"judge": recognised.judge}
            for metric, outcome in figures(recognised, [point.step]).items():
                yield _row("methods", mine, metric, outcome)
            if point.method in (RANDOM, ORACLE):
                continue
            yield from self._beside(point, recognised, table, mine)
        whose, draws = self._whose(point, part)
        own = attempt(partial(estimate, self._own_opinion(point, part), whose, draws=draws))
        yield _row("methods", labels | {"judge": "target"}, "top1", own)
        for name, distances in self.answers.distances.items():
            values = distances[_key(point, part)]["lpips_mean"]
            outcome = attempt(partial(estimate, values, whose, draws=draws, bounds=None))
            yield _row("methods", labels | {"judge": name}, "lpips_mean", outcome)
        for metric, (value, what) in self._cost(point, part).items() if point.method != ORACLE else ():
            yield line("methods", labels, metric, value, what)

    def _beside(self, point: Point, recognised: Recognised, table: Paired, labels: dict[str, str]) -> Iterator[Row]:
        """The point beside the oracle, and beside the method that it is compared with."""
        mine = recognised.of_people(point.step, "rank1")
        if ORACLE in recognised.outcomes and point.method != CONTROL:
            controls = [step for step in recognised.outcomes if step.startswith(slug(CONTROL)) or step == RANDOM]
            best = max((recognised.of_people(step, "rank1") for step in controls), key=lambda values: values.mean())
            most = recognised.of_people(ORACLE, "rank1")
            yield _row("methods", labels, "recovered.rank1", attempt(lambda: recovered(mine, best, most)))
            yield _row("methods", labels, "gap.rank1", attempt(lambda: difference(most, mine)))
        rival = Rival(method=self.plan.baseline, search=len(self.plan.methods[self.plan.baseline].searches) - 1)
        if point.method in self.plan.methods:
            rival = self.plan.methods[point.method].against or rival
        method = self.plan.methods[rival.method]
        prior = point.prior if point.prior in method.priors else method.priors[0]
        step, other = f"{slug(rival.method)}-{rival.search}", table.get((point.target, prior))
        if point.method == rival.method or other is None or step not in other.outcomes:
            return
        against = labels | {"comparison": f"{self._named(point.target, prior, step)}, {prior}"}
        for metric in (f"match@{max(self.plan.fmrs):g}", "rank1"):
            left, right = recognised.of_people(point.step, metric), other.of_people(step, metric)
            yield _row("differences", against, f"gain.{metric}", attempt(partial(difference, left, right)))
            share = attempt(partial(recovered, left, np.zeros_like(left), right))
            if isinstance(share, Failed):
                share = Failed(share.failed.replace("the oracle", rival.method).replace("the control", "nothing"))
            yield _row("differences", against, f"ratio.{metric}", share)

    def _labels(self, point: Point, part: Searched) -> dict[str, str]:
        shown = self._named(point.target, point.prior, point.step)
        return {"target": point.target, "prior": point.prior, "method": shown, "access": str(point.access)}

    def _named(self, target: str, prior: str, step: str) -> str:
        """A point's method, and how often it asks the target for a person; the oracle asks none."""
        for part in self.searched:
            for point in part.points:
                if (point.target, point.prior, point.step) == (target, prior, step):
                    asked = 0 if point.method == ORACLE else round(self._passes(point, part))
                    return f"{point.method}, {asked:,}" if asked else point.method
        raise KeyError(step)

    def _passes(self, point: Point, part: Searched) -> float:
        """Evaluations of the target for a person: what is asked for everybody is shared out."""
        return part.spent[point.step].queries / len(self.plan.seeds) / self.people

    def _seconds(self, point: Point, part: Searched) -> float:
        return part.spent[point.step].seconds / len(self.plan.seeds) / self.people

    def _cost(self, point: Point, part: Searched) -> dict[str, tuple[float, str]]:
        cost: dict[str, tuple[float, str]] = {"passes": (round(self._passes(point, part)), "count")}
        seconds = self._seconds(point, part)
        return cost if math.isnan(seconds) else cost | {"seconds": (float(f"{seconds:.2g}"), "s")}

    def within_budgets(self) -> Iterator[Row]:
        """The costliest point of each method that a budget pays for, at equal passes and at equal seconds."""
        budgets = [(f"{most:,} passes", self._passes, most) for most in self.plan.passes]
        budgets += [(f"{most:g} s", self._seconds, most) for most in self.plan.seconds]
        table = self.tables[0]
        for part in self.searched:
            methods = dict.fromkeys(point.method for point in part.points if point.method not in (RANDOM, ORACLE))
            for method in methods:
                for budget, cost, most in budgets:
                    within = [point for point in part.points if point.method == method and cost(point, part) <= most]
                    if not within:
                        continue
                    point = max(within, key=lambda each: cost(each, part))
                    recognised = table[point.target, point.prior]
                    labels = {"target": point.target, "prior": point.prior, "method": method, "column": budget}
                    for metric in (f"match@{max(self.plan.fmrs):g}", "rank1"):
                        yield _row("budgets", labels, metric, figures(recognised, [point.step])[metric])

    def plot(self) -> str:
        """The first judge's match rate over passes, one panel a target."""
        metric = f"match@{max(self.plan.fmrs):g}"
        panels: dict[str, str] = {}
        lines: dict[str, list[dict[str, Any]]] = {}
        for part in self.searched:
            recognised = self.tables[0][part.points[0].target, part.points[0].prior]
            for point in part.points:
                if point.method in (RANDOM, ORACLE):
                    continue
                panels[point.target] = f"{point.target}: {label(metric)}"
                figure = _plain(figures(recognised, [point.step])[metric])
                name, others = (
                    f"{point.method}, {point.prior}",
                    {target: {"failed": "not asked"} for target in self.plan.targets},
                )
                lines.setdefault(name, []).append(
                    {"queries": max(1.0, self._passes(point, part)), "figures": others | {point.target: figure}}
                )
        controls = {name for name in lines if name.startswith(f"{CONTROL}, ")}
        over = "evaluations of the target for a person"
        return plots.curves(panels, lines, {}, over, controls, f"Match rate over {over}")

    def _whose(self, point: Point, part: Searched) -> tuple[ArrayLike, ArrayLike]:
        """People and seeds (N,) of what the point releases."""
        classes, seeds = self.everything[_key(point, part)].classes.numpy(), len(self.plan.seeds)
        return classes, np.repeat(np.arange(seeds), len(classes) // seeds)

    def _own_opinion(self, point: Point, part: Searched) -> Array:
        """1 (N,) where the target takes the image for its person."""
        named = self.opinions[_key(point, part)].named
        return (named == self.everything[_key(point, part)].classes).double().numpy()


def _row(part: str, labels: dict[str, str], metric: str, outcome: Outcome) -> Row:
    if isinstance(outcome, Failed):
        return line(part, labels, metric, (None, None, None), unit(metric)) | {"failed": outcome.failed}
    ends = (outcome.value, outcome.low, outcome.high)
    return line(part, labels, metric, tuple(round(end, 4) for end in ends), unit(metric))


def _plain(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, Failed):
        return {"failed": outcome.failed}
    return {"value": outcome.value, "low": outcome.low, "high": outcome.high}
