"""Training of the shipped targets: a new head on a frozen backbone, or a whole network from scratch."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from gmi.defences.base import Defence, Loss, Promise, part_of
from gmi.defences.bottleneck import Noisy
from gmi.errors import GmiError, foreign
from gmi.rng import Rng, seed_of
from gmi.settings import Count, NonNegative, Positive, Whole, settings
from gmi.targets.module import Input, ModuleTarget
from gmi.views import Views

UNDEFENDED = Defence()
_FEW = 8  # images of a tried step of a head
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
    seed: Whole = 0  # seed of the layer's first weights
    # teach everybody's photographs as another person's: a target that knows nobody, to measure false alarms
    deranged: bool = False

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
    weight_decay: NonNegative = 1e-4  # AdamW's weight decay
    views: Views = Views(shift=0.1, rotate=5.0, exposure=0.2)  # random views of the training images
    seed: Whole = 0  # seed of batches and views
    deranged: bool = False  # as in `Head`

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
        if training.deranged:
            classes = derangement(int(classes.max()) + 1, training.seed)[classes]
        with foreign(
            lambda why: (
                f"The target cannot be trained so (in torch's words: {why}): check target.input, training (does "
                "a batch fit into memory?) and target.defence."
            )
        ):
            training(module, target.input, images, defence.loss(module, classes), progress, defence)
    return module


def try_step(
    target: ModuleTarget, training: Head | Scratch, images: Tensor, classes: Tensor, device: torch.device
) -> None:
    """One step of a training on a few of its images, so that what would fail in an hour fails at once.

    Raises GmiError as `fit`.
    """
    count = min(len(images), training.batch if isinstance(training, Scratch) else _FEW)
    few = torch.linspace(0, len(images) - 1, count).long()
    few[-1] = classes.argmax()  # a loss counts classes by the greatest
    fit(target, replace(training, steps=1), images[few], classes[few], device)


def derangement(people: int, seed: int) -> Tensor:
    """Another person (K,) for everybody: a permutation without fixed points, all of them equally likely."""
    generator = torch.Generator().manual_seed(seed_of(seed, "derangement"))
    while True:
        order = torch.randperm(people, generator=generator)
        if people > 1 and not (order == torch.arange(people)).any():
            return order


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
