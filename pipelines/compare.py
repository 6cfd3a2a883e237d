"""What each defence of a target buys and what it costs: targets by defences by attacks by seeds, resumed cell by cell.

python pipelines/compare.py configs/defences_orl.yaml --dry-run
python pipelines/compare.py configs/defences_orl.yaml
"""

from collections.abc import Sequence
from pathlib import Path

from gmi import cli
from gmi.comparison.audit import compare
from gmi.comparison.plan import Comparison, cells
from gmi.comparison.trials import promises
from gmi.protocols import Prior


def main(arguments: Sequence[str]) -> None:
    parser = cli.parser(__doc__ or "")
    parser.add_argument("--out", type=Path, help="run folder; runs/NAME unless given")
    parser.add_argument(
        "--dry-run", action="store_true", help="print what there is to train and to attack; spend nothing"
    )
    options, plan = cli.configured(parser, arguments, Comparison)
    accelerator = cli.accelerator()
    if options.dry_run:
        if accelerator.is_main_process:
            people, prior = plan.data.load(), plan.prior.load(accelerator.device)
            promises(plan, people, prior)  # raises where something does not fit
            print(forecast(plan, len(people.attacked), prior))
        return
    page = compare(plan, options.out or Path("runs", plan.name), accelerator.device, lambda: accelerator.autocast())
    if accelerator.is_main_process:
        print(page)


def forecast(plan: Comparison, people: int, prior: Prior) -> str:
    """A table of the attacks: what each asks of its target, for all of these people together."""
    known = {one.key: one for one in reversed(list(cells(plan)))}  # what is shared is its first arm's
    rows = [("target", "defence", "attack", "access", "seed", "queries")]
    for one in reversed(known.values()):
        shared, person = plan.selection.asked(one.attack.search, prior)
        asked = f"{shared + people * person:,}"
        rows.append((one.subject.name, one.arm.name, one.attack.name, str(one.access), str(one.seed), asked))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    trained = {one.weights for one in known.values()}
    return "\n".join([*lines, f"{len(trained)} targets to train, {len(known)} attacks"])


if __name__ == "__main__":
    cli.run(main)
