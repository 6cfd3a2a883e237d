"""The cost of a configuration's search: seconds, evaluations of networks and memory of an image, with comparisons.

First one image at a time and the configuration's batch; on a GPU the largest batch that fits. Then two things in
alternating rounds of a few steps, so that other load meets both:

- a gradient search with a GAN, beside a bare loop that decodes, classifies through the same adapter and back-propagates
  into the latents, without views, projection and optimiser: at least 85 % of its throughput is wanted;
- a guided search through the clean image, beside one through the prior: at most 60 % of the time that the other spends
  on the prior is wanted. That is measured with a target that costs nothing; the whole is printed too.

Exit code 1 where it is not so.

python scripts/bench_search.py configs/quickstart.yaml --steps 8 --rounds 4
"""

import argparse
import dataclasses
import gc
import itertools
import platform
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from gmi import cli
from gmi.assets.catalogue import resolve
from gmi.errors import GmiError
from gmi.inversion.plan import Audit
from gmi.oracles.local import WhiteBox
from gmi.priors.gan import Dcgan
from gmi.protocols import Prior
from gmi.rng import Rng
from gmi.search.gradient import Gradient
from gmi.search.guided import Guided
from gmi.search.signature import refuse_misfit, shared_queries
from gmi.settings import read
from gmi.targets.module import Input, ModuleTarget, Target

FLOOR = 0.85  # of the bare loop's throughput
CEILING = 0.6  # of the time through the prior

Work = Callable[[], object]


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", type=Path, metavar="CONFIG", default=Path("configs/quickstart.yaml"))
    parser.add_argument("--batch", type=_positive, help="candidates at once; the configuration's unless given")
    parser.add_argument("--steps", type=_positive, default=8, help="steps of a round (default: 8)")
    parser.add_argument("--rounds", type=_positive, default=4, help="rounds of each of the two (default: 4)")
    options = parser.parse_args(arguments)
    plan, accelerator = read(options.config, Audit), cli.accelerator()
    device, rounds = accelerator.device, options.rounds
    target, prior = _target(plan).to(device), plan.prior.load(device)
    refuse_misfit(plan.search, WhiteBox(target), prior)
    print(f"{options.config}: {_hardware(device)}, {datetime.now().astimezone():%Y-%m-%d %H:%M %Z}")
    print(f"torch {torch.__version__}, precision {accelerator.mixed_precision}")
    with accelerator.autocast():
        batch = cost(plan.search, target, prior, options.batch or plan.batch, device)
        few: Any = dataclasses.replace(plan.search, steps=options.steps)
        kept = True
        if isinstance(few, Gradient) and isinstance(prior, Dcgan):
            kept = beside_bare(few, target, prior, batch, rounds, device)
        elif isinstance(few, Guided):
            kept = through_clean(few, target, prior, batch, rounds, device)
    if not kept:
        sys.exit(1)


def cost(search: Any, target: Target, prior: Prior, batch: int, device: torch.device) -> int:
    """Prints what an image costs. Returns the largest batch: the one given on a CPU, the one that fits on a GPU."""
    passes = search.passes(prior)
    print(
        f"{search.type} search, {search.steps} steps. Of an image: {search.queries(prior)} evaluations of the target,"
    )
    print(f"{sum(passes)} of the prior, {passes.with_gradient} of these with a gradient")
    memory, largest = _Memory(device), 1
    for count in (1, batch) if device.type == "cpu" else (2**power for power in itertools.count()):
        work = searched(search, target, prior, count, device)
        try:
            peak = memory.taken_by(work)
        except torch.OutOfMemoryError:
            break
        seconds = _seconds(work, device) / count
        print(f"batch {count:4}: {seconds:7.2f} seconds an image, {peak:6.0f} MB at the peak beside the networks")
        largest = count
    return largest


def beside_bare(search: Gradient, target: Target, prior: Dcgan, count: int, rounds: int, device: torch.device) -> bool:
    """Prints the search's throughput as a share of a bare loop's. Whether it is large enough."""
    latents, classes = prior.sample(Rng(range(count))), torch.arange(count, device=device) % len(target.classes)
    ours, bare = _alternating(
        searched(search, target, prior, count, device),
        lambda: loop(target, prior, latents, classes, search.steps, search.transforms),
        rounds,
        device,
    )
    return _ratio("bare loop / search", bare, ours, f"at least {FLOOR} is wanted") >= FLOOR


def through_clean(search: Guided, target: Target, prior: Prior, count: int, rounds: int, device: torch.device) -> bool:
    """Prints the time of guidance through the clean image as a share of that through the prior. Whether it is small."""
    free = Target(Blank(len(target.classes)), Input(size=(8, 8)), target.classes).to(device)
    ways = [dataclasses.replace(search, through=way) for way in ("clean", "prior")]
    share = 0.0
    for name, model in (("with this target", target), ("of the prior alone", free)):
        clean, whole = (searched(way, model, prior, count, device) for way in ways)
        seconds = _alternating(clean, whole, rounds, device)
        share = _ratio(f"clean / prior, {name}", *seconds, f"at most {CEILING} is wanted" if model is free else "")
    return share <= CEILING


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


def loop(target: Target, prior: Dcgan, latents: Tensor, classes: Tensor, steps: int, passes: int) -> None:
    """The bare loop: `passes` of the target for each decoded image, as many as the search makes views."""
    latents = latents.detach().clone().requires_grad_()
    for _ in range(steps):
        images = prior.decode(latents, classes)
        sums = [target(images).gather(1, classes[:, None]).sum() for _ in range(passes)]
        torch.autograd.grad(torch.stack(sums).sum(), latents)


def _alternating(first: Work, second: Work, rounds: int, device: torch.device) -> tuple[list[float], list[float]]:
    """Seconds of each round of both, after one to warm up."""
    times = [[_seconds(work, device) for work in (first, second)] for _ in range(rounds + 1)]
    return [pair[0] for pair in times[1:]], [pair[1] for pair in times[1:]]


def _ratio(name: str, above: Sequence[float], below: Sequence[float], wanted: str) -> float:
    ratio, each = median(above) / median(below), [a / b for a, b in zip(above, below, strict=True)]
    print(f"{name}: {ratio:.3f} [{min(each):.3f}, {max(each):.3f}] over {len(each)} rounds  {wanted}".rstrip())
    return ratio


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


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{device.type}, {next(names, platform.processor())}, {torch.get_num_threads()} torch threads"


def _positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


if __name__ == "__main__":
    cli.run(main)
