"""What each level of access gives away of one target: attacks by whole model, scores and labels, at growing cost.

python pipelines/ladder.py configs/ladder_orl.yaml --dry-run
python pipelines/ladder.py configs/ladder_orl.yaml
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gmi import cli
from gmi.audits import Hardware
from gmi.inversion.inputs import load
from gmi.ladder.audit import climb
from gmi.ladder.plan import Ladder, points


def main(arguments: Sequence[str]) -> None:
    parser = cli.parser(__doc__ or "")
    parser.add_argument("--out", type=Path, help="run folder; runs/NAME unless given")
    parser.add_argument("--dry-run", action="store_true", help="print the queries of each point; spend nothing")
    options, plan = cli.configured(parser, arguments, Ladder)
    accelerator = cli.accelerator()
    controls = replace(plan.audit.controls, oracle=False)  # a ladder has none
    inputs = load(replace(plan.audit, controls=controls), Hardware(accelerator.device))
    if options.dry_run:
        if accelerator.is_main_process:
            people = len(inputs.people.attacked)
            print(f"{'rung':44}{'search':12}{'shared':>10}{'a person':>10}{'in all':>10}")
            for one in points(plan, inputs).values():
                asked = one.shared + people * one.person
                print(f"{one.rung:44}{one.search:12}{one.shared:10,}{one.person:10,}{asked:10,}")
        return
    out = options.out or Path("runs", plan.name)
    page = climb(plan, inputs, out, accelerator.device, lambda: accelerator.autocast())
    if accelerator.is_main_process:
        print(page)


if __name__ == "__main__":
    cli.run(main)
