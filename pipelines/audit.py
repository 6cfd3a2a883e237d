"""Audits a target: attack, controls, judges, verdict, report. Goes on where an earlier run of the same audit stopped.

python pipelines/audit.py configs/quickstart.yaml --search.steps 50 --out runs/mine
torchrun --nproc_per_node 2 pipelines/audit.py configs/quickstart.yaml
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from gmi import cli
from gmi.assets.catalogue import resolve
from gmi.inversion.audit import audit, refuse
from gmi.inversion.forecast import forecast
from gmi.inversion.inputs import load
from gmi.inversion.plan import Audit
from gmi.settings import plain
from gmi.targets.module import ModuleTarget


def main(arguments: Sequence[str]) -> None:
    parser = cli.parser(__doc__ or "")
    parser.add_argument("--out", type=Path, help="run folder; runs/NAME unless given")
    parser.add_argument("--dry-run", action="store_true", help="print configuration, queries and time; spend nothing")
    options, plan = cli.hardened(parser, arguments)
    accelerator = cli.accelerator()
    if options.dry_run:
        if accelerator.is_main_process:
            waiting = untrained(plan)
            inputs = load(waiting, accelerator.device)
            cost = forecast(plan, inputs, accelerator.device)
            print(yaml.safe_dump(plain(plan), sort_keys=False), end="")
            print(cost)
            if waiting is not plan:
                print("target.weights are not there yet: pipelines/train_target.py makes them")
            elif isinstance(plan.target, ModuleTarget) and plan.target.weights is None:
                print("target.weights is not set: the weights are those that the factory makes")
            refuse(plan, inputs)
        return
    inputs = load(plan, accelerator.device)
    out = options.out or Path("runs", plan.name)
    report = audit(plan, inputs, out, accelerator.device, lambda: accelerator.autocast())
    if accelerator.is_main_process:
        verdict = json.loads(report.with_suffix(".json").read_text("utf-8"))["verdict"]
        print(f"{verdict['finding'].capitalize()}. {' '.join(verdict['because'])}")
        print(report)


def untrained(plan: Audit) -> Audit:
    """The plan without weights that are still to be trained: a forecast needs the network's shape only."""
    target = plan.target
    if not isinstance(target, ModuleTarget) or plan.training is None:
        return plan
    if target.weights is None or resolve(target.weights).exists():
        return plan
    return replace(plan, training=None, target=replace(target, weights=None))


if __name__ == "__main__":
    cli.run(main)
