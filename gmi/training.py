"""How the shipped targets are trained: a new head on a backbone that is there, or a whole network from scratch."""

import json
from collections.abc import Callable
from hashlib import sha256
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from gmi.assets import resolve
from gmi.augment import Views
from gmi.errors import GmiError
from gmi.rng import Rng, seed_of
from gmi.settings import plain
from gmi.target import Input, TargetConfig

RECORD = "training.json"

Steps = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Loss = Callable[[Tensor, Tensor], Tensor]
"""A scalar, of outputs (B, K) of the images with these numbers (B,)."""
Progress = Callable[[int, float], None]
"""Called once a step with the step's number and the loss."""


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Head:
    """Trains one linear layer on what the frozen rest makes of the images and, with `mirror`, their mirror images.

    Full-batch Adam.
    """

    type: Literal["head"] = "head"
    part: str = "head"  # the layer's name in the module
    steps: Steps = 300
    lr: Positive = 0.05
    mirror: bool = True
    seed: int = 0

    def __call__(
        self, module: nn.Module, input: Input, images: Tensor, loss: Loss, progress: Progress | None = None
    ) -> None:
        """In place, on bytes (N, C, H, W). Raises GmiError where the module has no such layer."""
        device = next(module.parameters()).device
        try:
            head = module.get_submodule(self.part)
        except AttributeError as error:
            raise GmiError(f"training.part: the module has no part named {self.part!r}.") from error
        if not isinstance(head, nn.Linear):
            raise GmiError(f"training.part: {self.part} is a {type(head).__name__}, not a linear layer.")
        features = _inputs_of(
            head, module.eval().to(memory_format=torch.channels_last), input, images, device, self.mirror
        )
        rows = torch.arange(len(images), device=device).repeat(1 + self.mirror)
        loss(head(features[:1]), rows[:1])  # raises, if it does, before anything is changed
        generator = torch.Generator().manual_seed(self.seed)
        with torch.no_grad():
            head.weight.copy_(torch.randn(head.weight.shape, generator=generator) / head.in_features**0.5)
            if head.bias is not None:
                head.bias.zero_()
        head.requires_grad_(True)
        optimiser = torch.optim.Adam(head.parameters(), lr=self.lr)
        for step in range(self.steps):
            optimiser.zero_grad()
            far = loss(head(features), rows)
            far.backward()
            optimiser.step()
            if progress is not None:
                progress(step, far.item())


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Scratch:
    """Trains every weight on random views: AdamW, the learning rate falling to zero along half a cosine."""

    type: Literal["scratch"] = "scratch"
    steps: Steps = 400
    batch: Steps = 64
    lr: Positive = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    views: Views = Views(shift=0.1, rotate=5.0, exposure=0.2)
    seed: int = 0

    def __call__(
        self, module: nn.Module, input: Input, images: Tensor, loss: Loss, progress: Progress | None = None
    ) -> None:
        """In place, on bytes (N, C, H, W); dropout draws from the global generator: fork and seed that before."""
        device = next(module.parameters()).device
        module.train()
        optimiser = torch.optim.AdamW(module.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.steps)
        order = torch.Generator().manual_seed(self.seed)
        for step in range(self.steps):
            chosen = torch.randint(len(images), (self.batch,), generator=order)
            rng = Rng([seed_of(self.seed, "view", step, place) for place in range(self.batch)])
            views = self.views(images[chosen].float() / 255, rng)
            far = loss(module(input(views.to(device))), chosen.to(device))
            optimiser.zero_grad()
            far.backward()
            optimiser.step()
            schedule.step()
            if progress is not None:
                progress(step, far.item())


def naming(classes: Tensor, smoothing: float = 0.0) -> Loss:
    """Cross-entropy with the classes (N,). Raises GmiError where there is not one output a person."""
    people = int(classes.max()) + 1

    def loss(outputs: Tensor, rows: Tensor) -> Tensor:
        if outputs.shape[1] != people:
            raise GmiError(
                f"The target has {outputs.shape[1]} outputs for {people} people: set their number in target.arguments."
            )
        return F.cross_entropy(outputs, classes.to(rows.device)[rows], label_smoothing=smoothing)

    return loss


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


def record_of(target: TargetConfig) -> Record | None:
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


def training_digest(target: TargetConfig, training: Head | Scratch) -> str:
    """Of what decides a trained target's weights, beside the images."""
    tree = plain(target)
    asked = [*(tree[key] for key in ("factory", "arguments", "input")), plain(training)]
    return sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
