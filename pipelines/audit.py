"""Audits a target: attack, controls, judges, verdict, report. Goes on where an earlier run of the same audit stopped.

python pipelines/audit.py configs/quickstart.yaml --search.steps 50 --out runs/mine
torchrun --nproc_per_node 2 pipelines/audit.py configs/quickstart.yaml
"""

from collections.abc import Sequence
from pathlib import Path

import yaml

from gmi import cli
from gmi.audit import audit, load
from gmi.config import plain
from gmi.forecast import forecast


def main(arguments: Sequence[str]) -> None:
    parser = cli.parser(__doc__ or "")
    parser.add_argument("--out", type=Path, help="run folder; runs/NAME unless given")
    parser.add_argument("--dry-run", action="store_true", help="print configuration, queries and time; spend nothing")
    options, plan = cli.configured(parser, arguments)
    accelerator = cli.accelerator()
    inputs = load(plan, accelerator.device)
    if options.dry_run:
        print(yaml.safe_dump(plain(plan), sort_keys=False), end="")
        print(forecast(plan, inputs, accelerator.device))
        return
    out = options.out or Path("runs", plan.name)
    report = audit(plan, inputs, out, accelerator.device, lambda: accelerator.autocast())
    if accelerator.is_main_process:
        print(report)


if __name__ == "__main__":
    cli.run(main)
