"""What each defence of a target buys and what it costs: targets by defences by attacks by seeds, resumed cell by cell.

python pipelines/compare.py configs/defences_orl.yaml --dry-run
python pipelines/compare.py configs/defences_orl.yaml
"""

from collections.abc import Sequence
from pathlib import Path

from gmi import cli
from gmi.comparison import Comparison, cells
from gmi.training import UNDEFENDED
from gmi.weighing import compare


def main(arguments: Sequence[str]) -> None:
    parser = cli.parser(__doc__ or "")
    parser.add_argument("--out", type=Path, help="run folder; runs/NAME unless given")
    parser.add_argument(
        "--dry-run", action="store_true", help="print what there is to train and to attack; spend nothing"
    )
    options, plan = cli.configured(parser, arguments, Comparison)
    accelerator = cli.accelerator()
    for arm in plan.arms:
        for subject in plan.targets:
            (arm.training or subject.training).refuse(arm.defence or UNDEFENDED)
    if options.dry_run:
        if accelerator.is_main_process:
            known = {one.key: one for one in reversed(list(cells(plan)))}  # what is shared is its first arm's
            print(f"{'target':12}{'defence':24}{'attack':32}{'access':40}{'seed':>5}")
            for one in reversed(known.values()):
                print(f"{one.subject.name:12}{one.arm.name:24}{one.attack.name:32}{one.access!s:40}{one.seed:5}")
            trained = {one.weights for one in known.values()}
            print(f"{len(trained)} targets to train, {len(known)} attacks")
        return
    page = compare(plan, options.out or Path("runs", plan.name), accelerator.device, lambda: accelerator.autocast())
    if accelerator.is_main_process:
        print(page)


if __name__ == "__main__":
    cli.run(main)
