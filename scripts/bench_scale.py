"""Time and memory over the number of people who are judged, and over candidates, pixels and steps of a search.

Each point is measured in a process of its own: seconds of the work alone, and how far the process's memory rose above
what its inputs take. People are synthetic templates (512 numbers; 5 enrolment and 5 training images each, 8 released
ones: 4 of a search, 2 of best of N, 2 samples of the prior), scored by one judge: thresholds, ranks, look-alikes,
verdict. A search is the gradient search with a DCGAN against a small network, both with random weights.

Writes results/bench_scale.json, from which scripts/tables.py fills docs/performance.md, and the plot
docs/bench_scale.svg.

    python -m scripts.bench_scale
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from gmi.data.images import Images
from gmi.data.people import People
from gmi.inversion import scoring
from gmi.inversion.recognition import recognise
from gmi.oracles.access import WholeModel
from gmi.priors.gan import Dcgan, DcganShape
from gmi.report.figures import Row, line
from gmi.rng import Rng
from gmi.search.gradient import Gradient
from gmi.targets.module import Input, Target
from scripts.record_result import ROOT, record_script

AXES = {
    "people": (100, 500, 1000, 2000, 5000, 10_000),
    "candidates": (5, 10, 20, 40, 80),
    "pixels": (32, 64, 128, 256),
    "steps": (10, 20, 40, 80),
}
USUAL = {"candidates": 10, "pixels": 64, "steps": 20}
UNITS = {"seconds": "s", "memory": "MB"}
NUMBERS = 512  # of a template


class Judge:
    """A judge of templates: the cosine."""

    name = "synthetic"

    def similarity(self, left: Tensor, right: Tensor) -> Tensor:
        """Similarities (N, M) of templates (N, D) and (M, D)."""
        return F.normalize(left) @ F.normalize(right).T


def judging(people: int) -> Callable[[], object]:
    """The judging of so many people by one judge, ready to be done."""
    draws = torch.Generator().manual_seed(0)
    centres = torch.randn(people, NUMBERS, generator=draws)

    def images(each: int) -> Images:
        classes = torch.arange(people).repeat_interleave(each)
        return Images(torch.zeros(1, 1, 1, 1, dtype=torch.uint8).expand(len(classes), 1, 1, 1), classes, ())

    def shown(each: int, noise: float) -> Tensor:
        return centres.repeat_interleave(each, 0).add_(
            torch.randn(people * each, NUMBERS, generator=draws), alpha=noise
        )

    crowd = People(tuple(map(str, range(people))), tuple(range(people)), images(5), images(5), {})
    templates = {"training": shown(5, 1.0), "enrolment": shown(5, 1.0)}
    templates |= {"search": shown(4, 3.0), "best_of_n": shown(2, 5.0)}
    templates["random"] = torch.randn(2 * people, NUMBERS, generator=draws)
    releases = {"search": images(4), "best_of_n": images(2), "random": images(2)}

    def work() -> object:
        judge = Judge()
        recognised = recognise(judge, templates, crowd, releases, (1e-2, 1e-3))  # pyright: ignore[reportArgumentType]
        return scoring.identities(recognised), scoring.exposed(recognised), scoring.verdicts([recognised], 0.05)

    return work


def searching(candidates: int, pixels: int, steps: int) -> Callable[[], object]:
    """A gradient search, ready to be done."""
    torch.manual_seed(0)
    widths = (512, 256, 128, 64, 32, 16)[: (pixels // 4).bit_length() - 1]
    prior = Dcgan(DcganShape(type="dcgan", latent=100, channels=widths, size=pixels, colours=3))
    layers = [
        layer
        for before, after in ((3, 32), (32, 64), (64, 128))
        for layer in (nn.Conv2d(before, after, 3, 2, 1), nn.ReLU())
    ]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 40)).eval()
    names = tuple(map(str, range(40)))
    oracle = WholeModel().open(Target(network, Input(size=(pixels, pixels)), names), None)
    rng, classes = Rng(range(candidates)), torch.arange(candidates) % 40
    return lambda: Gradient(steps=steps)(oracle, prior, prior.sample(rng), classes, rng)


def measured(axis: str, value: int) -> dict[str, float]:
    """Seconds and megabytes of one point, in this process."""
    work = judging(value) if axis == "people" else searching(**(USUAL | {axis: value}))
    Path("/proc/self/clear_refs").write_text("5")  # the greatest memory so far is forgotten
    before, start = _peak(), perf_counter()
    work()
    return {"seconds": perf_counter() - start, "memory": max(0.0, _peak() - before)}


def _peak() -> float:
    """The most memory that this process had, in MB."""
    status = Path("/proc/self/status").read_text("utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1000


def plot(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Seconds and megabytes over each axis, on logarithmic scales."""
    figure = Figure(figsize=(9, 2.6), layout="constrained")
    panels = figure.subplots(1, len(AXES), sharey=True)
    for panel, axis in zip(panels, AXES, strict=True):
        for metric, colour in (("seconds", "#a8321f"), ("memory", "#23606e")):
            points = [(row[axis], row["value"]) for row in rows if axis in row and row["metric"] == metric]
            panel.plot(
                *zip(*points, strict=True),
                marker="o",
                markersize=3,
                color=colour,
                label=f"{'time' if metric == 'seconds' else metric}, {UNITS[metric]}",
            )
        panel.set(xscale="log", yscale="log", xlabel=axis)
        panel.set_xticks(AXES[axis][::2], [f"{number:,}" for number in AXES[axis][::2]])
        panel.minorticks_off()
        panel.grid(color="#dddddd", linewidth=0.5)
    panels[0].legend(frameon=False, fontsize=8)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--point", nargs=2, metavar=("AXIS", "NUMBER"), help="measure one point, and print it as JSON")
    options = parser.parse_args(arguments)
    if options.point:
        print(json.dumps(measured(options.point[0], int(options.point[1]))))
        return
    rows: list[Row] = []
    start = perf_counter()
    for axis, numbers in AXES.items():
        for number in numbers:
            command = [sys.executable, "-m", "scripts.bench_scale", "--point", axis, str(number)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
            for metric, value in json.loads(done.stdout).items():
                rounded = float(f"{value:.2g}")
                rows.append(line("bench", {"axis": axis, axis: number}, metric, rounded, UNITS[metric]))
                print(f"{axis:11}{number:8,}  {metric:8}{value:10.2f} {UNITS[metric]}", flush=True)
    record_script("bench_scale", "time and memory over sizes", rows, perf_counter() - start)
    plot(rows).savefig(ROOT / "docs" / "bench_scale.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
