"""The command that trains a prior."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from gmi import cli, processes
from gmi.cli.options import flags_of
from gmi.errors import GmiError
from gmi.judges.spaces import space_of
from gmi.run import Run
from gmi.settings import identity
from gmi.tracking import refuse_missing, tracking
from gmi.training.overlap import overlap
from gmi.training.priors import PriorTraining, train

EVERY = 20
"""Steps between two losses that trackers get; they get every distance."""


def main(arguments: Sequence[str]) -> None:
    """Trains the prior, and prints the folder that an audit takes."""
    options, plan = cli.configured(flags_of("train-prior"), arguments, PriorTraining)
    refuse_missing(plan.track)
    engine = cli.accelerator()
    images, held_out = plan.data.load()
    out = options.out or Path("runs", plan.name)
    try:
        people = None if plan.private is None else plan.private.load()
    except GmiError as error:
        raise GmiError(f"private: {error}") from error
    with processes.first():
        digests = [images.digest, held_out.digest, None if people is None else people.digest]
        run = Run.open(out, {"training": identity(plan), "data": digests})
    remark = "The public images were compared with nobody's private ones."
    if people is not None:
        by = "file and by face" if plan.subject == "faces" else "file"
        remark = f"Before the training, the public images were compared with private ones, by {by}."
        if engine.is_main_process and not (run.folder / "overlap.txt").exists():
            space = space_of(plan.subject, engine.device, plan.batch)
            comparisons = [overlap(people, public, space) for public in (images, held_out)]
            run.write("overlap.txt", "\n".join(comparisons).encode())
        processes.wait()
        if engine.is_main_process:
            print((run.folder / "overlap.txt").read_text())
    trackers = plan.track if engine.is_main_process else ()
    with (
        tracking(trackers, plan.name, out) as log,
        tqdm(total=plan.steps, desc="train prior", delay=2, disable=not engine.is_main_process) as bar,
    ):

        def report(step: int, values: Mapping[str, float]) -> None:
            bar.set_postfix(loss=f"{values['loss/prior']:.4f}", refresh=False)
            bar.update(step - bar.n)
            if step % EVERY == 0 or plan.distance in values:
                log(values, step)

        progress = train(plan, images, held_out, run, engine, remark, report)
    if engine.is_main_process:
        look = progress.history[progress.best]
        print(f"{out / 'prior'}: {plan.distance} {look['distance']:.4f} after {look['step']:,} steps")
