"""Weights of targets that gmi trains, and the record that lies next to them."""

import json
from dataclasses import asdict
from hashlib import sha256

import torch
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from safetensors.torch import save_file
from tqdm import tqdm

from gmi.assets.catalogue import resolve
from gmi.data.people import People
from gmi.defences.base import Promise
from gmi.errors import GmiError, Untrained
from gmi.files import private, put, written
from gmi.settings import plain
from gmi.targets.module import ModuleTarget, Target
from gmi.targets.quality import accuracy, profile
from gmi.training.targets import UNDEFENDED, Head, Scratch, fit

RECORD = "training.json"  # lies next to the weights
PROFILE = "profile.safetensors"  # lies next to the weights


@dataclass(frozen=True, kw_only=True)
class Record:
    """The file that lies next to the weights of a target that gmi trained."""

    data_digest: str  # SHA-256 of the split into training and enrolment images
    config_digest: str  # SHA-256 of target and training, see `training_digest`
    training_accuracy: float  # share of training images that the target puts into the right class
    enrolment_accuracy: float  # share of enrolment images that the target puts into the right class
    promise: Promise | None = None  # guarantee of differential privacy; None: there is no guarantee


def record_of(target: ModuleTarget) -> Record | None:
    """The record next to the target's weights; None if it is missing. Raises GmiError if it is damaged."""
    if target.weights is None:
        return None
    path = resolve(target.weights).with_name(RECORD)
    if not path.exists():
        return None
    try:
        return TypeAdapter(Record).validate_json(path.read_bytes())
    except ValidationError as error:
        raise GmiError(f"{path} is damaged: remove it and train the target again.") from error


def train(
    config: ModuleTarget, training: Head | Scratch, people: People, device: torch.device, overwrite: bool = True
) -> Record:
    """Trains the target on the people's training images, unless weights of the same data and settings are there.

    Raises GmiError if it cannot be trained so, and, unless `overwrite`, if weights of another target are there.
    """
    digest, path = training_digest(config, training), resolve(config.weights or "")
    record, defence = record_of(config), config.defence or UNDEFENDED
    if record is not None and record.config_digest != digest and not overwrite:
        raise GmiError(f"{path} are another target's weights: name others with --target.weights, or remove them.")
    fits = record is not None and (record.config_digest, record.data_digest) == (digest, people.private_digest)
    if record is not None and fits and path.exists() and (path.with_name(PROFILE).exists() or record.promise):
        return record
    with tqdm(total=training.steps, desc="train target") as bar:

        def progress(step: int, loss: float) -> None:
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            bar.update()

        module = fit(config, training, people.training.bytes, people.training.classes, device, progress)
    target = Target(module, config.input, people.names)
    record = Record(
        data_digest=people.private_digest,
        config_digest=digest,
        training_accuracy=accuracy(target, people.training),
        enrolment_accuracy=accuracy(target, people.enrolment),
        promise=training.promise(defence, people.training.classes),
    )
    with written(path):
        private(path.parent)
        for name in (RECORD, PROFILE):
            path.with_name(name).unlink(missing_ok=True)  # they were of other weights
        save_file({key: value.contiguous() for key, value in module.state_dict().items()}, path)
        if record.promise is None:  # otherwise the profile would tell what the weights do not
            put(path.with_name(PROFILE), profile(target, people.training))
        put(path.with_name(RECORD), json.dumps(asdict(record), indent=1) + "\n")
    return record


def refuse_untrained(target: object, training: Head | Scratch | None, people: People) -> None:
    """Raises GmiError unless the weights are those that the configuration's training makes of this split."""
    if training is None or not isinstance(target, ModuleTarget):
        return
    weights, record = target.weights, record_of(target)
    if weights is not None and not resolve(weights).exists():
        raise Untrained(f"There are no weights at {weights} yet")
    expected = (people.private_digest, training_digest(target, training))
    if record is None or (record.data_digest, record.config_digest) != expected:
        raise Untrained(
            f"The weights at {weights or 'target.weights, which is not set,'} were trained on another split of the "
            "people, with other settings or by another gmi"
        )


def training_digest(target: ModuleTarget, training: Head | Scratch) -> str:
    """SHA-256 of everything besides the images that decides a trained target's weights."""
    tree = plain(target)
    files = () if target.defence is None else target.defence.files
    contents = [sha256(resolve(file).read_bytes()).hexdigest() for file in files if resolve(file).exists()]
    parts = [*(tree[key] for key in ("factory", "arguments", "input", "defence")), plain(training), contents]
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
