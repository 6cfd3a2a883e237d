"""Trains the target of an audit on the training images of its split, and writes its weights where the audit reads them.

python pipelines/train_target.py configs/quickstart.yaml
python pipelines/train_target.py configs/orl_cnn.yaml --defence "{type: bottleneck, beta: 0.01}" \\
    --target.weights runs/hardened/model.safetensors
"""

import json
from collections.abc import Sequence
from dataclasses import asdict

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from tqdm import tqdm

from gmi import cli
from gmi.assets.catalogue import resolve
from gmi.errors import GmiError
from gmi.inversion.plan import Audit
from gmi.targets.module import ModuleTarget, Target
from gmi.targets.quality import accuracy, profile
from gmi.training.targets import PROFILE, RECORD, UNDEFENDED, Head, Record, Scratch, record_of, training_digest


def main(arguments: Sequence[str]) -> None:
    options, plan = cli.hardened(cli.parser(__doc__ or ""), arguments)
    if plan.training is None or not isinstance(plan.target, ModuleTarget) or plan.target.weights is None:
        raise GmiError("The configuration has no training block and target.weights: there is nothing to train.")
    accelerator = cli.accelerator()
    if accelerator.is_main_process:
        train(plan, plan.target, plan.training, accelerator, options.defence is not None)
    accelerator.wait_for_everyone()


def train(
    plan: Audit, config: ModuleTarget, training: Head | Scratch, accelerator: Accelerator, named: bool = False
) -> None:
    """Unless weights of the same data, target and training are there.

    named: whether the defence came from the command line; then the configuration's own target is not overwritten.
    """
    people = plan.data.load()
    digest = training_digest(config, training)
    path = resolve(config.weights or "")
    done, defence = record_of(config), config.defence or UNDEFENDED
    whole = path.exists() and (path.with_name(PROFILE).exists() or (done is not None and done.promise is not None))
    if done is not None and done.config_digest != digest and named:
        raise GmiError(f"{path} are another target's weights: name others with --target.weights, or remove them.")
    if done is None or (done.config_digest, done.data_digest) != (digest, people.private_digest) or not whole:
        with torch.random.fork_rng():
            torch.manual_seed(training.seed)
            module = config.build().to(accelerator.device)
            with tqdm(total=training.steps, desc="train target") as bar:

                def progress(step: int, loss: float) -> None:
                    bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
                    bar.update()

                lesson = defence.loss(module, people.training.classes)
                training(module, config.input, people.training.bytes, lesson, progress, defence)
        target = Target(module, config.input, people.names)
        done = Record(
            data_digest=people.private_digest,
            config_digest=digest,
            training_accuracy=accuracy(target, people.training),
            enrolment_accuracy=accuracy(target, people.enrolment),
            promise=training.promise(defence, people.training.classes),
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        for name in (RECORD, PROFILE):
            path.with_name(name).unlink(missing_ok=True)  # they were of other weights
        save_file({key: value.contiguous() for key, value in module.state_dict().items()}, path)
        if done.promise is None:  # else it would tell what the weights do not
            path.with_name(PROFILE).write_bytes(profile(target, people.training))
        path.with_name(RECORD).write_text(json.dumps(asdict(done), indent=1) + "\n")
    print(
        f"{path}: accuracy {done.training_accuracy:.3f} on training, {done.enrolment_accuracy:.3f} on enrolment images"
    )
    if defence.changes is not None:
        print(f"{defence.changes}: the weights fit a configuration with the same target.defence only")
    if done.promise is not None:
        print(done.promise)


if __name__ == "__main__":
    cli.run(main)
