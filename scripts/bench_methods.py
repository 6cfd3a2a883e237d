"""Every search beside every other: what each finds of the same people, over what it asks of the target and over time.

Each target of the configuration is trained where it is not there yet, and attacked by each method with each prior that
the method names, with several seeds. A method's searches are points of a curve, the cheapest first. Written are
results/NAME.json, from which scripts/tables.py fills docs/results.md, and the plot docs/NAME.svg. Done work lies in
runs/NAME and is not done again: searches may be made on one machine and judged on another.

    python -m scripts.bench_methods configs/bench_orl.yaml
    python -m scripts.bench_methods configs/bench_lfw.yaml --search-only
"""

import argparse
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from gmi import cli
from gmi.assets.catalogue import resolve
from gmi.audits import Hardware
from gmi.data.images import Images
from gmi.data.people import People
from gmi.errors import GmiError
from gmi.inversion.attacker import Attacker
from gmi.inversion.controls import Enrolled
from gmi.inversion.inputs import refuse_enrolled
from gmi.inversion.judging import Judges
from gmi.inversion.meter import Spent
from gmi.inversion.plan import RANDOM
from gmi.inversion.release import release
from gmi.protocols import Prior
from gmi.run import Run
from gmi.search.attack import Attack
from gmi.search.signature import refuse_misfit, students
from gmi.search.strangers import digests
from gmi.settings import plain, read
from gmi.targets.module import Target
from gmi.training.weights import refuse_untrained, train
from scripts.bench_figures import judged
from scripts.bench_plan import CONTROL, ORACLE, PIXELS, Bench, Point, Searched, System, points, slug
from scripts.record_result import ROOT, commit, processor, write


@dataclass(frozen=True)
class Searches:
    """All searches of a bench, as pieces of work in its run folder."""

    plan: Bench
    people: People
    targets: Mapping[str, Target]
    priors: Mapping[str, Prior]
    run: Run
    hardware: Hardware

    def refuse(self) -> None:
        """Raises GmiError where a search does not fit its access or its prior, or is shown the people themselves."""
        for point in self._points():
            if point.method not in (CONTROL, RANDOM) and point.prior != PIXELS:
                oracle = point.access.open(self.targets[point.target], None)
                refuse_misfit(point.search, oracle, self.priors[point.prior])
                refuse_enrolled([point.search], self.people)

    def make(self, only: str) -> None:
        """Makes what is not there yet, of the points whose target, prior or method holds this text."""
        for point in self._points():
            if only in f"{point.target}, {point.prior}, {point.method}" and not self.run.has(self._piece(point)):
                self._make(point)

    def made(self) -> list[Searched]:
        """What is there, by target and prior; what is not is named."""
        everything = [(point, self._piece(point)) for point in self._points()]
        missing = [name.removeprefix("released/") for _, name in everything if not self.run.has(name)]
        missing += [images.file for images in self.plan.outside.values() if not resolve(images.file).is_file()]
        if missing:
            print("left out, as it is not there yet:", *missing, sep="\n  ")
        kept = [(point, self.run.read(name)) for point, name in everything if self.run.has(name)]
        baseline = next(
            (self.about(point)["processor"] for point, _ in kept if point.method == self.plan.baseline), None
        )
        pairs = dict.fromkeys((point.target, point.prior) for point, _ in kept)
        return [
            self._searched([each for each in kept if (each[0].target, each[0].prior) == pair], baseline)
            for pair in pairs
        ]

    def _points(self) -> list[Point]:
        """Those that can be made: images of other tools have to be there."""
        pairs = itertools.product(self.plan.targets, [*self.plan.priors, PIXELS])
        found = [point for pair in pairs for point in points(self.plan, *pair)]
        return [point for point in found if point.prior != PIXELS or resolve(point.search.file).is_file()]

    def _searched(self, kept: list[tuple[Point, dict[str, Tensor]]], processor: str | None) -> Searched:
        releases, spent = {}, {}
        for point, piece in kept:
            releases[point.step] = Images.of(piece["images"], piece["classes"])
            alike = self.about(point)["processor"] == processor
            spent[point.step] = Spent(int(piece["queries"]), float(piece["seconds"]) if alike else math.nan)
        return Searched([point for point, _ in kept], releases, spent)

    def _make(self, point: Point) -> None:
        """What the point releases with all seeds, as one piece of the run: nothing else is needed to judge it."""
        drawn = [self._released(point, seed) for seed in self.plan.seeds]
        images = Images.join([images for images, _ in drawn])
        piece = {"images": images.bytes, "classes": images.classes}
        piece |= {
            part: torch.tensor([getattr(cost, part) for _, cost in drawn]).sum() for part in ("queries", "seconds")
        }
        about = {"processor": processor(self.hardware.name), "date": f"{date.today()}", "commit": commit()}
        self.run.write_json(f"shards/{self._piece(point)}.json", about)
        self.run.save(self._piece(point), piece)

    def about(self, point: Point) -> dict[str, str]:
        """The processor on which the point was searched, and the date."""
        return json.loads((self.run.folder / f"shards/{self._piece(point)}.json").read_text("utf-8"))

    def _piece(self, point: Point) -> str:
        return f"released/{self._place(point)}"

    @cached_property
    def _digests(self) -> dict[str, str]:
        """Of targets and priors, by name."""
        return {name: part.digest for name, part in {**self.targets, **self.priors}.items()}

    def _place(self, point: Point) -> str:
        """The point's folder among the run's pieces, which no other target, prior, search or selection shares."""
        given = point.prior == PIXELS
        source = sha256(resolve(point.search.file).read_bytes()).hexdigest() if given else self._digests[point.prior]
        decides: dict[str, Any] = {"target": self._digests[point.target], "prior": source}
        decides |= {"batch": self.plan.batch, "seeds": list(self.plan.seeds)}
        for key, part in {"search": point.search, "selection": point.selection, "access": point.access}.items():
            decides[key] = plain(part)
        if photographs := digests([point.search]):
            decides["photographs"] = photographs
        digest = sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
        return f"{slug(point.target)}/{slug(point.prior)}/{point.step}-{digest[:12]}"

    def _released(self, point: Point, seed: int) -> tuple[Images, Spent]:
        """What the point releases with one seed, and what that costs in all."""
        if point.prior == PIXELS:  # without anything random
            given = load_file(resolve(point.search.file))
            cost = Spent(int(given["passes"].sum()), float(given["seconds"].sum()))
            if sorted(given["classes"].tolist()) != list(self.people.attacked):
                raise GmiError(f"{point.search.file} holds images of other people than those attacked: make it again.")
            images = release(given["images"].float() / 255)
            return Images.of((images * 255).round().byte(), given["classes"]), cost
        part = self.run.part(f"{self._place(point)}/seed-{seed}")
        attack = Attack(point.search, point.selection, self.plan.batch, seed)
        attacker = Attacker(attack, self.priors[point.prior], self.people, part, self.hardware)
        oracle = point.access.open(self.targets[point.target], None)
        if point.method == ORACLE:
            photographs = self.people.enrolment.pixels.to(self.hardware.device)
            oracle = Enrolled(self.targets[point.target], photographs, self.people.enrolment.classes)
        work = attacker.random if point.method == RANDOM else attacker.attack
        images, costs = work(point.step, oracle), attacker.spent.values()
        return images, Spent(sum(cost.queries for cost in costs), sum(cost.seconds for cost in costs))


def trained(system: System, people: People, hardware: Hardware) -> Target:
    """The target, trained if its weights are not there."""
    train(system.target, system.training, people, hardware.device, overwrite=False)
    return system.target.load(people.names).to(hardware.device)


def judges(plan: Bench, people: People, targets: Mapping[str, Target], hardware: Hardware) -> Judges:
    """The judges. Raises GmiError where one shares weights or training data with a target or a student."""
    panel = Judges(
        tuple(judge.load(hardware.device) for judge in plan.judges),
        None if plan.perceptual is None else plan.perceptual.load(hardware.device),
    )
    searches = [search for method in plan.methods.values() for search in method.searches]
    learners = {repr(student): student for search in searches for student in students(search)}
    for target in targets.values():
        panel.refuse_dependent(target, None, plan.data.name, people, list(learners.values()))
    return panel


def standalone(plot: str) -> str:
    """The plot of a page as a file of its own."""
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return str(plot).replace("<svg ", f'<svg {names} style="background: white; font-family: sans-serif" ', 1)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, metavar="CONFIG")
    parser.add_argument("--out", type=Path, help="run folder; runs/NAME unless given")
    half = parser.add_mutually_exclusive_group()
    half.add_argument("--search-only", action="store_true", help="make the searches, and judge nothing yet")
    half.add_argument("--judge-only", action="store_true", help="judge the searches that were made, and make no others")
    parser.add_argument(
        "--only", metavar="TEXT", default="", help="search what has this in its target, prior or method"
    )
    options = parser.parse_args(arguments)
    plan, hardware = read(options.config, Bench), cli.hardware(cli.accelerator())
    people = plan.data.load()
    if options.judge_only:
        for system in plan.targets.values():
            refuse_untrained(system.target, system.training, people)
    targets = {name: trained(system, people, hardware) for name, system in plan.targets.items()}
    priors = {name: prior.load(hardware.device) for name, prior in plan.priors.items()}
    # another target, prior or method does not make another run: what the others released stays
    known = {"name": plan.name, "data": plain(plan.data), "people": people.digest}
    run = Run.open(options.out or Path("runs", plan.name), known)
    searches = Searches(plan, people, targets, priors, run, hardware)
    searches.refuse()
    if not options.judge_only:
        searches.make(options.only)
    if options.search_only:
        return
    searched = searches.made()
    made = [searches.about(point) for part in searched for point in part.points]
    if not made:
        raise GmiError("Nothing is searched yet: run without --judge-only first.")
    rows, plot = judged(plan, people, targets, judges(plan, people, targets, hardware), searched, run, hardware)
    processors, commits = ({about[key]: None for about in made} for key in ("processor", "commit"))
    head = {"config": f"configs/{plan.name}.yaml", "about": "searches, side by side", "verdict": ""}
    head |= {"command": f"python -m scripts.bench_methods configs/{plan.name}.yaml"}
    head |= {"date": max(about["date"] for about in made), "commit": " and ".join(map(str, commits))}
    head |= {"processor": " and ".join(processors), "seeds": list(plan.seeds), "source": "scripts/bench_methods.py"}
    write(ROOT / "results" / f"{plan.name}.json", head | {"rows": rows})
    (ROOT / "docs" / f"{plan.name}.svg").write_text(standalone(plot), "utf-8")


if __name__ == "__main__":
    cli.run(main)
