"""Training of the shipped targets: a new head on a frozen backbone, or a whole network from scratch."""

import json
from collections.abc import Callable
from dataclasses import asdict
from hashlib import sha256
from typing import Literal

import torch
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from gmi.assets.catalogue import resolve
from gmi.data.people import People
from gmi.defences.base import Defence, Loss, Promise, part_of
from gmi.defences.bottleneck import Noisy
from gmi.errors import GmiError, Untrained
from gmi.rng import Rng, seed_of
from gmi.settings import Count, NonNegative, Positive, plain, settings
from gmi.targets.module import Input, ModuleTarget, Target
from gmi.targets.quality import accuracy, profile
from gmi.views import Views

RECORD = "training.json"  # lies next to the weights
PROFILE = "profile.safetensors"  # lies next to the weights

UNDEFENDED = Defence()
Progress = Callable[[int, float], None]
"""Called once per step with the step's number and the loss."""


@settings
class Head:
    """Trains one linear layer, or a bottleneck in its place, on the features of the frozen rest: full-batch Adam."""

    type: Literal["head"] = "head"
    part: str = "head"  # name of the layer in the module
    steps: Count = 300  # steps of Adam, each on all images
    lr: Positive = 0.05  # learning rate
    mirror: bool = True  # train on the images' mirror images too
    seed: int = 0  # seed of the layer's first weights

    def __call__(
        self,
        module: nn.Module,
        input: Input,
        images: Tensor,
        loss: Loss,
        progress: Progress | None = None,
        defence: Defence = UNDEFENDED,
    ) -> None:
        """Trains the module in place on images (N, C, H, W), given as bytes.

        Raises GmiError if the module has no such layer, or if the defence needs the whole network to learn.
        """
        device = next(module.parameters()).device
        head = part_of(module, self.part, "training.part")
        if not isinstance(head, nn.Linear | Noisy):
            raise GmiError(f"training.part: {self.part} is a {type(head).__name__}, not a linear layer.")
        self.refuse(defence)
        features = _inputs_of(
            head, module.eval().to(memory_format=torch.channels_last), input, images, device, self.mirror
        )
        rows = torch.arange(len(images), device=device).repeat(1 + self.mirror)
        loss(head, features[:1], rows[:1], 0.0)  # if it raises, then before anything is changed
        generator = torch.Generator().manual_seed(self.seed)
        with torch.no_grad():
            for layer in (part for part in head.modules() if isinstance(part, nn.Linear)):
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) / layer.in_features**0.5)
                if layer.bias is not None:
                    layer.bias.zero_()
        head.train().requires_grad_(True)
        adam = torch.optim.Adam(head.parameters(), lr=self.lr)
        with defence.learning(head, adam, len(rows), len(rows), self.steps, self.seed) as (answer, optimiser):
            for step in range(self.steps):
                optimiser.zero_grad()
                value = loss(answer, features, rows, step / self.steps)
                value.backward()
                optimiser.step()
                if progress is not None:
                    progress(step, value.item())
        head.eval()

    def refuse(self, defence: Defence) -> None:
        """Raises GmiError if the defence does not suit this training."""
        defence.refuse(self.part, self.mirror)

    def promise(self, defence: Defence, classes: Tensor) -> Promise | None:
        """The defence's guarantee after this training on images of these classes (N,); None: there is no guarantee."""
        return defence.promise(classes, len(classes), self.steps)


@settings
class Scratch:
    """Trains every weight on random views with AdamW; the learning rate falls to zero along half a cosine."""

    type: Literal["scratch"] = "scratch"
    steps: Count = 400  # steps of AdamW
    batch: Count = 64  # images in a step
    lr: Positive = 2e-3  # learning rate of the first step
    weight_decay: NonNegative = 1e-4  # of AdamW
    views: Views = Views(shift=0.1, rotate=5.0, exposure=0.2)  # random views of the training images
    seed: int = 0  # seed of batches and views

    def __call__(
        self,
        module: nn.Module,
        input: Input,
        images: Tensor,
        loss: Loss,
        progress: Progress | None = None,
        defence: Defence = UNDEFENDED,
    ) -> None:
        """Trains the module in place on images (N, C, H, W), given as bytes.

        Dropout and defences draw from the global generator: fork and seed it first. Raises GmiError if the defence does
        not suit the module.
        """
        self.refuse(defence)
        device = next(module.parameters()).device
        module.train()
        adam = torch.optim.AdamW(module.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, self.steps)
        order = torch.Generator().manual_seed(self.seed)
        with defence.learning(module, adam, len(images), self.batch, self.steps, self.seed) as (network, optimiser):
            for step in range(self.steps):
                chosen = defence.draw(len(images), self.batch, order)
                rng = Rng([seed_of(self.seed, "view", step, index) for index in range(len(chosen))])
                views = self.views(images[chosen].float() / 255, rng).to(device)
                value = loss(lambda inputs: network(input(inputs)), views, chosen.to(device), step / self.steps)
                optimiser.zero_grad()
                value.backward()
                optimiser.step()
                schedule.step()
                if progress is not None:
                    progress(step, value.item())

    def refuse(self, defence: Defence) -> None:
        """Raises GmiError if the defence does not suit this training."""
        defence.refuse(None, False)

    def promise(self, defence: Defence, classes: Tensor) -> Promise | None:
        """The defence's guarantee after this training on images of these classes (N,); None: there is no guarantee."""
        return defence.promise(classes, self.batch, self.steps)


def fit(
    target: ModuleTarget,
    training: Head | Scratch,
    images: Tensor,
    classes: Tensor,
    device: torch.device,
    progress: Progress | None = None,
) -> nn.Module:
    """The target's module, trained on images (N, C, H, W), given as bytes, of these classes (N,).

    The training's seed decides everything; the global generator stays as it was. Raises GmiError as the training.
    """
    defence = target.defence or UNDEFENDED
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        module = target.build().to(device)
        training(module, target.input, images, defence.loss(module, classes), progress, defence)
    return module


def _inputs_of(
    layer: nn.Module,
    module: nn.Module,
    input: Input,
    images: Tensor,
    device: torch.device,
    mirrored: bool,
    batch: int = 20,
) -> Tensor:
    """The layer's inputs (N or 2N, D) for the images, then, if `mirrored`, for their mirror images."""
    features: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    try:
        with torch.no_grad():
            for mirror in (False, True)[: 1 + mirrored]:
                for chunk in images.split(batch):
                    pixels = chunk.to(device).float() / 255
                    inputs = input(pixels.flip(-1) if mirror else pixels)
                    module(inputs.contiguous(memory_format=torch.channels_last))
    finally:
        hook.remove()
    return torch.cat(features)


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
    if record is not None and (record.config_digest, record.data_digest) == (digest, people.private_digest):
        whole = path.exists() and (path.with_name(PROFILE).exists() or record.promise is not None)
        if whole:
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
    path.parent.mkdir(parents=True, exist_ok=True)
    for name in (RECORD, PROFILE):
        path.with_name(name).unlink(missing_ok=True)  # they were of other weights
    save_file({key: value.contiguous() for key, value in module.state_dict().items()}, path)
    if record.promise is None:  # otherwise the profile would tell what the weights do not
        path.with_name(PROFILE).write_bytes(profile(target, people.training))
    path.with_name(RECORD).write_text(json.dumps(asdict(record), indent=1) + "\n")
    return record


def refuse_untrained(target: object, training: Head | Scratch | None, people: People) -> None:
    """Raises GmiError unless the weights are those that the configuration's training makes of this split."""
    if training is None or not isinstance(target, ModuleTarget):
        return
    weights, record = target.weights, record_of(target)
    if weights is not None and not resolve(weights).exists():
        raise Untrained(f"There are no weights at {weights} yet")
    asked = (people.private_digest, training_digest(target, training))
    if record is None or (record.data_digest, record.config_digest) != asked:
        raise Untrained(
            f"The weights at {weights} were trained on another split of the people, with other settings or by another "
            "gmi"
        )


def training_digest(target: ModuleTarget, training: Head | Scratch) -> str:
    """SHA-256 of everything besides the images that decides a trained target's weights."""
    tree = plain(target)
    files = () if target.defence is None else target.defence.files
    contents = [sha256(resolve(file).read_bytes()).hexdigest() for file in files if resolve(file).exists()]
    parts = [*(tree[key] for key in ("factory", "arguments", "input", "defence")), plain(training), contents]
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
