"""Trains a generative prior on a folder of public images. Goes on where it stopped; one process or many.

python pipelines/train_prior.py configs/priors/flow64.yaml
accelerate launch pipelines/train_prior.py configs/priors/flow64.yaml
"""

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from gmi import cli
from gmi.prior_training import PriorTraining, overlap, train
from gmi.run import Run
from gmi.settings import plain


def main(arguments: Sequence[str]) -> None:
    parser = cli.parser(__doc__ or "")
    parser.add_argument("--out", type=Path, help="folder of the training; runs/NAME unless given")
    options, plan = cli.configured(parser, arguments, PriorTraining)
    accelerator = cli.accelerator()
    images, held_out = plan.data.load()
    out = options.out or Path("runs", plan.name)
    with accelerator.main_process_first():
        run = Run.open(out, {"training": plain(plan), "data": images.digest})
    with accelerator.main_process_first():
        remarks = overlap(plan, images, run, accelerator.device)
    with tqdm(total=plan.steps, desc="train prior", disable=not accelerator.is_main_process) as bar:

        def report(step: int, loss: float) -> None:
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            bar.update(step - bar.n)

        progress = train(plan, images, held_out, run, accelerator, remarks, report)
    if accelerator.is_main_process:
        look = progress.history[progress.best]
        print(f"{out / 'prior'}: FD-FaceNet {look['distance']:.4f} after {look['step']:,} steps")


if __name__ == "__main__":
    cli.run(main)
