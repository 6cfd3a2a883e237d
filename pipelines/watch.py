"""Would query auditing notice? Every attack of a ladder, and people at a camera, asked of a watched target.

Windows overlap, and those of one attack are alike: the shares are counts, not estimates.

python pipelines/watch.py configs/ladder_orl.yaml --audit.data.attacked 2
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from gmi import cli
from gmi.audits import Hardware
from gmi.errors import GmiError
from gmi.inversion.attacker import Attacker
from gmi.inversion.inputs import Inputs, load
from gmi.ladder.plan import Ladder, Rung, points
from gmi.oracles.access import WholeModel
from gmi.rng import Rng, seed_of
from gmi.run import Run
from gmi.search.attack import Attack
from gmi.serving.watch import STATISTICS, TRAFFIC, Stream, Watch, Watcher, features, overheard
from gmi.targets.module import Target

ROUNDS = 10  # of all enrolment photographs, as real traffic


def main(arguments: Sequence[str]) -> None:
    parser = cli.parser(__doc__ or "")
    parser.add_argument("--window", type=int, default=64, help="queries that are looked at together")
    parser.add_argument("--alarm", type=float, default=0.01, help="share of real windows that may be flagged")
    options, plan = cli.configured(parser, arguments, Ladder)
    accelerator = cli.accelerator()
    if accelerator.num_processes > 1:
        raise GmiError("A watch sees one process: start this without torchrun or accelerate launch.")
    inputs = load(
        replace(plan.audit, controls=replace(plan.audit.controls, oracle=False)), Hardware(accelerator.device)
    )
    target = inputs.target
    if not isinstance(target, Target):
        raise GmiError("A target is watched where it is served: this needs its weights.")
    points(plan, inputs)  # raises where a search does not fit
    watcher = Watch(window=options.window, alarm=options.alarm).learn(target, inputs.people.training.pixels)
    print(f"{'asked by':48}{'queries':>9}{'windows':>9}{'flagged':>16}{'first after':>12}  why")
    tell("people at a camera", *camera(inputs, target), watcher)
    for rung in plan.rungs:
        if not isinstance(rung.access, WholeModel):
            for number in range(len(rung.searches)):
                tell(f"{rung.name} ({number + 1})", *attacked(plan, inputs, target, rung, number), watcher)


def camera(inputs: Inputs, target: Target) -> tuple[Tensor, Tensor]:
    """Unit features and classes of other photographs than those that the watcher knows."""
    photographs, found = inputs.people.enrolment.pixels, []
    for round in range(ROUNDS):
        order = torch.randperm(len(photographs), generator=torch.Generator().manual_seed(round))
        rng = Rng([seed_of("camera", round, place) for place in range(len(order))])
        found.append(features(target, TRAFFIC(photographs[order], rng).clamp(0, 1)))
    seen, named = zip(*found, strict=True)
    return torch.cat(seen), torch.cat(named)


def attacked(plan: Ladder, inputs: Inputs, target: Target, rung: Rung, number: int) -> tuple[Tensor, Tensor]:
    """Of one attack by one key, from the choice of starts to that of what is released."""
    attack = Attack(rung.searches[number], plan.audit.selection, plan.audit.batch, plan.audit.seed)
    device = next(target.module.parameters()).device
    with TemporaryDirectory() as folder, overheard(target) as heard:
        oracle = rung.access.open(target, None)
        run = Run.open(Path(folder, "run"), {})
        Attacker(attack, inputs.prior, inputs.people, run, Hardware(device)).attack("search", oracle)
    seen, named = zip(*heard, strict=True)
    return torch.cat(seen), torch.cat(named)


def tell(who: str, seen: Tensor, named: Tensor, watcher: Watcher) -> None:
    size = watcher.plan.window
    flags = Stream(watcher).see(seen, named)
    if not flags:
        print(f"{who:48}{len(seen):9,}  fewer than a window of {size}", flush=True)
        return
    flagged = [bool(one) for one in flags]
    first = f"{size + flagged.index(True) * (size // 2):,}" if any(flagged) else "never"
    why = ", ".join(f"{what} {sum(what in one for one in flags) / len(flags):.0%}" for what in STATISTICS)
    share = f"{sum(flagged)} ({sum(flagged) / len(flagged):.1%})"
    print(f"{who:48}{len(seen):9,}{len(flags):9,}{share:>16}{first:>12}  {why}", flush=True)


if __name__ == "__main__":
    cli.run(main)
