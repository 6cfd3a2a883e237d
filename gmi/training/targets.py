"""How the shipped targets are trained: a new head on a backbone that is there, or a whole network from scratch."""

import json
from collections.abc import Callable
from hashlib import sha256
from typing import Literal

import torch
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from gmi.assets.catalogue import resolve
from gmi.defences.base import Defence, Loss, Promise, part_of
from gmi.defences.bottleneck import Noisy
from gmi.errors import GmiError
from gmi.rng import Rng, seed_of
from gmi.settings import Count, NonNegative, Positive, plain, settings
from gmi.targets.module import Input, ModuleTarget
from gmi.views import Views

RECORD = "training.json"  # beside the weights
PROFILE = "profile.safetensors"

UNDEFENDED = Defence()
Progress = Callable[[int, float], None]
"""Called once a step with the step's number and the loss."""


@settings
class Head:
    """Trains one linear layer on what the frozen rest makes of the images and, with `mirror`, their mirror images.

    Full-batch Adam. In place of the layer there may be a bottleneck with one.
    """

    type: Literal["head"] = "head"
    part: str = "head"  # the layer's name in the module
    steps: Count = 300
    lr: Positive = 0.05
    mirror: bool = True
    seed: int = 0

    def __call__(
        self,
        module: nn.Module,
        input: Input,
        images: Tensor,
        lesson: Loss,
        progress: Progress | None = None,
        defence: Defence = UNDEFENDED,
    ) -> None:
        """In place, on bytes (N, C, H, W). Raises GmiError where there is no such layer, or the defence needs more."""
        device = next(module.parameters()).device
        head = part_of(module, self.part, "training.part")
        if not isinstance(head, nn.Linear | Noisy):
            raise GmiError(f"training.part: {self.part} is a {type(head).__name__}, not a linear layer.")
        self.refuse(defence)
        features = _inputs_of(
            head, module.eval().to(memory_format=torch.channels_last), input, images, device, self.mirror
        )
        rows = torch.arange(len(images), device=device).repeat(1 + self.mirror)
        lesson(head, features[:1], rows[:1], 0.0)  # raises, if it does, before anything is changed
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
                far = lesson(answer, features, rows, step / self.steps)
                far.backward()
                optimiser.step()
                if progress is not None:
                    progress(step, far.item())
        head.eval()

    def refuse(self, defence: Defence) -> None:
        """Raises GmiError where this training cannot have the defence."""
        defence.refuse(self.part, self.mirror)

    def promise(self, defence: Defence, classes: Tensor) -> Promise | None:
        """What the defence guarantees after this training on images of these classes (N,)."""
        return defence.promise(classes, len(classes), self.steps)


@settings
class Scratch:
    """Trains every weight on random views: AdamW, the learning rate falling to zero along half a cosine."""

    type: Literal["scratch"] = "scratch"
    steps: Count = 400
    batch: Count = 64
    lr: Positive = 2e-3
    weight_decay: NonNegative = 1e-4
    views: Views = Views(shift=0.1, rotate=5.0, exposure=0.2)
    seed: int = 0

    def __call__(
        self,
        module: nn.Module,
        input: Input,
        images: Tensor,
        lesson: Loss,
        progress: Progress | None = None,
        defence: Defence = UNDEFENDED,
    ) -> None:
        """In place, on bytes (N, C, H, W). Dropout and defences draw from the global generator: fork and seed that.

        Raises GmiError where the defence does not fit the module.
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
                rng = Rng([seed_of(self.seed, "view", step, place) for place in range(len(chosen))])
                views = self.views(images[chosen].float() / 255, rng).to(device)
                far = lesson(lambda inputs: network(input(inputs)), views, chosen.to(device), step / self.steps)
                optimiser.zero_grad()
                far.backward()
                optimiser.step()
                schedule.step()
                if progress is not None:
                    progress(step, far.item())

    def refuse(self, defence: Defence) -> None:
        """Raises GmiError where this training cannot have the defence."""
        defence.refuse(None, False)

    def promise(self, defence: Defence, classes: Tensor) -> Promise | None:
        """What the defence guarantees after this training on images of these classes (N,)."""
        return defence.promise(classes, self.batch, self.steps)


def _inputs_of(
    layer: nn.Module,
    module: nn.Module,
    input: Input,
    images: Tensor,
    device: torch.device,
    mirrored: bool,
    batch: int = 20,
) -> Tensor:
    """(N or 2N, D): what the layer is given for the images, then for their mirror images."""
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        with torch.no_grad():
            for mirror in (False, True)[: 1 + mirrored]:
                for chunk in images.split(batch):
                    pixels = chunk.to(device).float() / 255
                    inputs = input(pixels.flip(-1) if mirror else pixels)
                    module(inputs.contiguous(memory_format=torch.channels_last))
    finally:
        hook.remove()
    return torch.cat(seen)


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is written beside the weights of a target that gmi trained."""

    data_digest: str  # of the split
    config_digest: str  # of data, target and training
    training_accuracy: float
    enrolment_accuracy: float
    promise: Promise | None = None  # of differential privacy


def record_of(target: ModuleTarget) -> Record | None:
    """The record beside the target's weights; None where there is none. Raises GmiError where it is damaged."""
    if target.weights is None:
        return None
    path = resolve(target.weights).with_name(RECORD)
    if not path.exists():
        return None
    try:
        return TypeAdapter(Record).validate_json(path.read_bytes())
    except ValidationError as error:
        raise GmiError(f"{path} is damaged: remove it and train the target again.") from error


def training_digest(target: ModuleTarget, training: Head | Scratch) -> str:
    """Of what decides a trained target's weights, beside the images."""
    tree = plain(target)
    files = () if target.defence is None else target.defence.files
    contents = [sha256(resolve(file).read_bytes()).hexdigest() for file in files if resolve(file).exists()]
    asked = [*(tree[key] for key in ("factory", "arguments", "input", "defence")), plain(training), contents]
    return sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
