"""Throughput of a configuration's search beside a bare loop of its prior and target: what the search itself costs.

The bare loop decodes latents, classifies the images through the same adapter and back-propagates into the latents, at
the same batch size: no views, no projection, no optimiser. Rounds of both alternate, so that other load meets both.
Exit code 1 where the search falls under 85 % of it.

python scripts/bench_search.py configs/quickstart.yaml --steps 8 --rounds 4
"""

import argparse
import dataclasses
import platform
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from torch import Tensor

from gmi import cli
from gmi.assets import resolve
from gmi.config import Audit
from gmi.errors import GmiError
from gmi.oracles.local import WhiteBox
from gmi.priors.gan import Dcgan, Gan
from gmi.rng import Rng
from gmi.search.gradient import Gradient
from gmi.settings import read
from gmi.target import Target

FLOOR = 0.85  # of the bare loop's throughput


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", type=Path, metavar="CONFIG", default=Path("configs/quickstart.yaml"))
    parser.add_argument("--batch", type=_positive, help="candidates at once; the configuration's unless given")
    parser.add_argument("--steps", type=_positive, default=8, help="steps of a round (default: 8)")
    parser.add_argument("--rounds", type=_positive, default=4, help="rounds of each of the two (default: 4)")
    options = parser.parse_args(arguments)
    plan, accelerator = read(options.config, Audit), cli.accelerator()
    device, count = accelerator.device, options.batch or plan.batch
    if not isinstance(plan.search, Gradient) or not isinstance(plan.prior, Gan):
        raise GmiError("The bare loop is one of latents: name a configuration with a gradient search and a GAN.")
    target, prior = _target(plan).to(device), plan.prior.load(device)
    oracle, rng = WhiteBox(target), Rng(range(count))
    latents, classes = prior.sample(rng), torch.arange(count, device=device) % len(target.classes)
    search = dataclasses.replace(plan.search, steps=options.steps).prepare(oracle, prior, Rng(range(plan.batch)))

    def searched() -> None:
        search(oracle, prior, latents, classes, rng)

    def looped() -> None:
        bare(target, prior, latents, classes, options.steps, search.transforms)

    rates: dict[Callable[[], None], list[float]] = {searched: [], looped: []}
    with accelerator.autocast():
        for one in rates:
            _seconds(one, device)  # warms up
        for _ in range(options.rounds):
            for one, seen in rates.items():
                seen.append(count * options.steps / _seconds(one, device))

    ratio = median(rates[searched]) / median(rates[looped])
    rounds = [one / other for one, other in zip(rates[searched], rates[looped], strict=True)]
    print(f"{options.config}: batch {count}, {options.steps} steps, {options.rounds} rounds of each")
    print(f"{_hardware(device)}, {datetime.now().astimezone():%Y-%m-%d %H:%M %Z}, torch {torch.__version__}")
    print(f"search     {_spread(rates[searched])}")
    print(f"bare loop  {_spread(rates[looped])}")
    print(f"ratio      {ratio:.3f} [{min(rounds):.3f}, {max(rounds):.3f}] over rounds; at least {FLOOR} is wanted")
    if ratio < FLOOR:
        sys.exit(1)


def bare(target: Target, prior: Dcgan, latents: Tensor, classes: Tensor, steps: int, passes: int) -> None:
    """`passes` of the target for each decoded image, as many as the search makes views."""
    latents = latents.detach().clone().requires_grad_()
    for _ in range(steps):
        images = prior.decode(latents, classes)
        sums = [target(images).gather(1, classes[:, None]).sum() for _ in range(passes)]
        torch.autograd.grad(torch.stack(sums).sum(), latents)


def _target(plan: Audit) -> Target:
    """With the factory's own weights where the configuration's are not trained yet: they take the same time."""
    config = plan.target
    if config.weights is not None and not resolve(config.weights).is_file():
        config = dataclasses.replace(config, weights=None)
    return config.load(plan.data.load().names)


def _seconds(work: Callable[[], None], device: torch.device) -> float:
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


def _spread(rates: Sequence[float]) -> str:
    return f"{median(rates):.1f} [{min(rates):.1f}, {max(rates):.1f}] candidate steps a second"


def _positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


if __name__ == "__main__":
    cli.run(main)
