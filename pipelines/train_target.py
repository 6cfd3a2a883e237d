"""Trains the target of an audit on the training images of its split, and writes its weights where the audit reads them.

python pipelines/train_target.py configs/quickstart.yaml
"""

import json
from collections.abc import Sequence
from dataclasses import asdict

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from tqdm import tqdm

from gmi import cli
from gmi.assets import resolve
from gmi.config import Audit
from gmi.errors import GmiError
from gmi.images import Images
from gmi.target import Target, TargetConfig
from gmi.training import RECORD, Head, Record, Scratch, naming, record_of, training_digest


def main(arguments: Sequence[str]) -> None:
    _, plan = cli.configured(cli.parser(__doc__ or ""), arguments, Audit)
    if plan.training is None or not isinstance(plan.target, TargetConfig) or plan.target.weights is None:
        raise GmiError("The configuration has no training block and target.weights: there is nothing to train.")
    accelerator = cli.accelerator()
    if accelerator.is_main_process:
        train(plan, plan.target, plan.training, accelerator)
    accelerator.wait_for_everyone()


def train(plan: Audit, config: TargetConfig, training: Head | Scratch, accelerator: Accelerator) -> None:
    """Unless weights of the same data, target and training are there."""
    people = plan.data.load()
    digest = training_digest(config, training)
    path = resolve(config.weights or "")
    done = record_of(config)
    if done is None or (done.config_digest, done.data_digest) != (digest, people.private_digest) or not path.exists():
        with torch.random.fork_rng():
            torch.manual_seed(training.seed)
            module = config.build().to(accelerator.device)
            with tqdm(total=training.steps, desc="train target") as bar:

                def progress(step: int, loss: float) -> None:
                    bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
                    bar.update()

                smoothing = training.label_smoothing if isinstance(training, Scratch) else 0.0
                loss = naming(people.training.classes, smoothing)
                training(module, config.input, people.training.bytes, loss, progress)
        target = Target(module, config.input, people.names)
        done = Record(
            data_digest=people.private_digest,
            config_digest=digest,
            training_accuracy=accuracy(target, people.training, accelerator.device),
            enrolment_accuracy=accuracy(target, people.enrolment, accelerator.device),
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(RECORD).unlink(missing_ok=True)  # it was of other weights
        save_file({key: value.contiguous() for key, value in module.state_dict().items()}, path)
        path.with_name(RECORD).write_text(json.dumps(asdict(done), indent=1) + "\n")
    print(
        f"{path}: accuracy {done.training_accuracy:.3f} on training, {done.enrolment_accuracy:.3f} on enrolment images"
    )


def accuracy(target: Target, images: Images, device: torch.device) -> float:
    with torch.no_grad():
        logits = torch.cat([target(some.to(device).float() / 255) for some in images.bytes.split(32)])
    return (logits.argmax(1).cpu() == images.classes).double().mean().item()


if __name__ == "__main__":
    cli.run(main)
