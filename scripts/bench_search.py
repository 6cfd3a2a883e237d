"""What a search makes of the machine, in single precision and in bf16.

First the memory of images, alone and in a batch; on a GPU the largest batch that fits. Then, in alternating rounds of a
few steps, so that other load meets all alike:

- the search itself, whose seconds an image are told;
- a bare loop: as many evaluations of the prior and of the target, forward and back, without views, guidance, projection
  and optimiser. At least 95 % of its throughput is wanted;
- products of large matrices, as the machine's peak. On an H100, the search is to reach 35 % of it in bf16;
- of a guided search through the clean image, one through the prior, too: at most 60 % of its time on the prior is
  wanted. That is measured with a target that costs nothing.

Arithmetic is what torch counts of the bare loop: multiplications and additions of convolutions and matrices. Seconds of
an image are those of a round, times the evaluations that the whole search makes more. Exit code 1 where a search is
below 95 % of its bare loop. With several configurations, results/bench_search.json is written, from which
scripts/tables.py fills docs/performance.md.

    python -m scripts.bench_search quickstart configs/orl_strength.yaml configs/orl_cnn.yaml
"""

import argparse
import dataclasses
import gc
import itertools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gmi import cli
from gmi.assets.catalogue import resolve
from gmi.audits import Hardware
from gmi.errors import GmiError
from gmi.inversion.plan import Audit
from gmi.oracles.local import WhiteBox
from gmi.protocols import Denoiser, Prior
from gmi.report.figures import Row, line
from gmi.rng import Rng
from gmi.search.guided import Guided
from gmi.search.signature import refuse_misfit, shared_queries
from gmi.settings import read
from gmi.targets.module import Input, ModuleTarget, Target
from scripts.record_result import record_script

FLOOR = 0.95  # of the bare loop's throughput
CEILING = 0.6  # of the time through the prior
PRECISIONS = {"single": None, "bf16": torch.bfloat16}
PEOPLE, IMAGES = 1000, 8  # of an audit whose time is projected

Work = Callable[[], object]


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", metavar="CONFIG", default=["quickstart"])
    parser.add_argument("--batch", type=_positive, help="candidates at once; the configuration's unless given")
    parser.add_argument("--steps", type=_positive, default=4, help="steps of a round (default: 4)")
    parser.add_argument("--rounds", type=_positive, default=6, help="rounds of each (default: 6)")
    options, device = parser.parse_args(arguments), cli.accelerator().device
    start, rows = perf_counter(), []
    for config in options.configs:
        rows += measured(
            read(Path(config), Audit), options.batch, options.steps, options.rounds, device, fresh=not rows
        )
    for row in rows:
        labels = ", ".join(str(row[key]) for key in ("search", "precision", "images") if key in row)
        ends = "" if row["low"] is None else f" [{row['low']:g}, {row['high']:g}]"
        print(f"{labels:40} {row['metric']:16} {row['value']:g}{ends} {row['unit']}")
    if len(options.configs) > 1:
        words = f" {' '.join(options.configs)}"
        record_script("bench_search", "speed of searches", rows, perf_counter() - start, words)
    if any(row["metric"] == "share.bare" and row["value"] < FLOOR for row in rows):
        sys.exit(1)


def measured(
    plan: Audit, batch: int | None, steps: int, rounds: int, device: torch.device, *, fresh: bool
) -> list[Row]:
    """The figures of one configuration's search. fresh: nothing was measured in this process before."""
    target, prior = _target(plan).to(device), plan.prior.load(device)
    search: Any = plan.search
    refuse_misfit(search, WhiteBox(target), prior)
    rows: list[Row] = []

    def note(metric: str, values: Sequence[float], unit: str, **labels: Any) -> None:
        ends = (float(f"{each(values):.3g}") for each in (median, min, max))
        value = tuple(ends) if len(values) > 1 else float(f"{values[0]:.3g}")
        rows.append(line("bench", {"search": plan.name, "method": search.type} | labels, metric, value, unit))

    for precision, kind in PRECISIONS.items():
        with Hardware(device, bf16=kind is not None).autocast():
            few: Any = dataclasses.replace(search, steps=steps)
            count = 1
            for number, memory in cost(few, target, prior, batch, plan.batch, device):
                count = number
                if (fresh and kind is None) or device.type != "cpu":  # a CPU's process keeps what was taken before
                    note("memory", [memory], "MB", precision=precision, images=number)
            whole, loop = searched(few, target, prior, count, device), bare(few, target, prior, count, device)
            with FlopCounterMode(display=False) as counter:
                loop()
            flops, size = counter.get_total_flops() / 1e9, 2048 if device.type == "cpu" else 8192
            times = _alternating([whole, loop, products(size, kind, device)], rounds, device)
            ours, theirs, peak = times
            longer = search.queries(prior) / few.queries(prior) / count
            note("seconds.image", [a * longer for a in ours], "s", precision=precision)
            note("projected", [a * longer * PEOPLE * IMAGES / 60 for a in ours], "minutes", precision=precision)
            note("share.bare", [b / a for a, b in zip(ours, theirs, strict=True)], "share", precision=precision)
            note("gflops", [flops / a for a in ours], "GFLOP/s", precision=precision)
            note("peak", [2 * size**3 / 1e9 / a for a in peak], "GFLOP/s", precision=precision)
            share = [flops / a / (2 * size**3 / 1e9 / b) for a, b in zip(ours, peak, strict=True)]
            note("share.peak", share, "share", precision=precision)
            if isinstance(few, Guided):
                free = Target(Blank(len(target.classes)), Input(size=(8, 8)), target.classes).to(device)
                ways: Any = [dataclasses.replace(few, through=way, normalise=True) for way in ("clean", "prior")]
                fewer = count if device.type == "cpu" else max(1, count // 8)  # a gradient through the prior takes more
                works = [searched(way, free, prior, fewer, device) for way in ways]
                clean, through = _alternating(works, rounds, device)
                share = [a / b for a, b in zip(clean, through, strict=True)]
                note("share.prior", share, "share", precision=precision)
    return rows


def cost(
    search: Any, target: Target, prior: Prior, batch: int | None, usual: int, device: torch.device
) -> list[tuple[int, float]]:
    """Images at once, and MB at the peak beside the networks: one, and a batch; on a GPU, up to the most that fit.

    batch: the most that is tried; None: the usual one, on a GPU any.
    """
    memory, found = _Memory(device), []
    for count in (1, batch or usual) if device.type == "cpu" else (2**power for power in itertools.count()):
        if batch is not None and count > batch:
            break
        work = searched(search, target, prior, count, device)
        try:
            peak = memory.taken_by(work)
        except torch.OutOfMemoryError:
            break
        found.append((count, peak))
    return found


class Blank(nn.Module):
    """A classifier that costs nothing."""

    def __init__(self, people: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(float(people)))

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((1, 2, 3))[:, None] * self.weight


def searched(search: Any, target: Target, prior: Prior, count: int, device: torch.device) -> Work:
    """The search of so many candidates."""
    oracle, rng = WhiteBox(target), Rng(range(count))
    latents, classes = prior.sample(rng), torch.arange(count, device=device) % len(target.classes)
    if shared := shared_queries(search):
        search = search.taught(search.prepare(oracle, prior, Rng(range(shared))))
    return lambda: search(oracle, prior, latents, classes, rng)


def bare(search: Any, target: Target, prior: Prior, count: int, device: torch.device) -> Work:
    """The networks' part of the search: as many evaluations of both, forward and back."""
    latents, classes = prior.sample(Rng(range(count))), torch.arange(count, device=device) % len(target.classes)
    passes, asked = search.passes(prior), search.queries(prior)
    path = prior if isinstance(search, Guided) and isinstance(prior, Denoiser) else None  # it is walked step by step
    flat, steep = (number // (prior.evaluations if path is None else 1) for number in passes)

    def made(latents: Tensor) -> Tensor:
        return prior.decode(latents) if path is None else path.image(path.denoise(latents, 0.5))

    def slope(images: Tensor, times: int) -> Tensor:
        shown = images.detach().requires_grad_()
        for _ in range(times):
            target(shown).gather(1, classes[:, None]).sum().backward()
        assert shown.grad is not None
        return shown.grad

    def work() -> None:
        images = latents
        with torch.no_grad():
            for _ in range(flat):
                images = made(latents)
        for _ in range(steep):
            images = made(latents.detach().requires_grad_())
            images.backward(slope(images, asked // steep))
        if not steep:
            slope(images, asked)

    return work


def products(size: int, kind: torch.dtype | None, device: torch.device) -> Work:
    """A product of two square matrices."""
    left, right = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))
    return lambda: left @ right


def _alternating(works: Sequence[Work], rounds: int, device: torch.device) -> list[list[float]]:
    """Seconds of each round of each, after one to warm up."""
    times = [[_seconds(work, device) for work in works] for _ in range(rounds + 1)]
    return [list(each) for each in zip(*times[1:], strict=True)]


class _Memory:
    """The memory that work takes beyond what was there at first; on a CPU, the whole process's, and on Linux only."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._first = device, 0.0
        if device.type == "cpu":
            gc.collect()
            self._first = _resident("VmRSS")

    def taken_by(self, work: Work) -> float:
        """The memory at the peak, in MB."""
        if self._device.type != "cpu":
            before = torch.cuda.memory_allocated(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
            work()
            return (torch.cuda.max_memory_allocated(self._device) - before) / 1e6
        restart = Path("/proc/self/clear_refs")
        if restart.exists():
            restart.write_text("5")  # the peak is now what there is
        work()
        return _resident("VmHWM") - self._first


def _resident(key: str) -> float:
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    lines = status.read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith(key))


def _target(plan: Audit) -> Target:
    """The target, with the factory's weights where the configuration's are not trained yet: they take the same time."""
    config = plan.target
    if not isinstance(config, ModuleTarget):
        raise GmiError("The search is timed with a target of type module: name another configuration.")
    if config.weights is not None and not resolve(config.weights).is_file():
        config = dataclasses.replace(config, weights=None)
    return config.load(plan.data.load().names)


def _seconds(work: Work, device: torch.device) -> float:
    wait = (lambda: None) if device.type == "cpu" else (lambda: torch.accelerator.synchronize(device))
    wait()
    start = perf_counter()
    work()
    wait()
    return perf_counter() - start


def _positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


if __name__ == "__main__":
    cli.run(main)
