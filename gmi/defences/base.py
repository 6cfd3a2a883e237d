"""What a defence may change of a target's training, each of it left alone here: the undefended training."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmi.errors import GmiError

Answer = Callable[[Tensor], Tensor]
"""Outputs (B, K) of the network that is trained, for inputs (B, ...)."""
Loss = Callable[[Answer, Tensor, Tensor, float], Tensor]
"""What a step minimises, a scalar: of the network, its inputs (B, ...), the numbers (B,) of the images that they are,
and the share of the training that is done. Inputs are images in [0, 1], or the features that a head is trained on.
"""


@dataclass(frozen=True)
class Privacy:
    """A promise of differential privacy: (epsilon, delta). epsilon None: none that is finite."""

    epsilon: float | None
    delta: float


@dataclass(frozen=True)
class Promise:
    """What a private training guarantees, for neighbouring data that differ by one image, or by all of one person's."""

    noise: float  # standard deviation, in units of the clipped norm
    image: Privacy
    person: Privacy
    images: int  # of the person who has most

    def __str__(self) -> str:
        of_person = "none" if self.person.epsilon is None else f"{self.person.epsilon:.2f}"
        return (
            f"differential privacy at delta {self.image.delta:g}: epsilon {self.image.epsilon:.2f} for one image, "
            f"{of_person} for one person's {self.images} (noise {self.noise:.2f}), while nobody knows the seed"
        )


class Defence:
    """A frozen dataclass of hyper-parameters whose methods replace some of these."""

    whole: ClassVar[bool] = False  # needs images and the whole network; else a head on frozen features can have it too

    def refuse(self, part: str | None, mirror: bool) -> None:
        """Raises GmiError where a training of that part alone (None: all), maybe on mirror images, cannot have this."""
        if self.whole and part is not None:
            raise GmiError(
                "target.defence: this one needs the whole network to learn, not its head alone: choose training: "
                "{type: scratch}."
            )

    @property
    def changes(self) -> str | None:
        """What becomes of the network's form, in words; None: it stays."""
        return None

    @property
    def files(self) -> tuple[str, ...]:
        """What the weights depend on beside the settings."""
        return ()

    def harden(self, module: nn.Module) -> nn.Module:
        """The network's form, before it learns and before weights are loaded. Raises GmiError where it does not fit."""
        return module

    def lesson(self, module: nn.Module, classes: Tensor) -> Loss:
        """For images of these classes (N,). Called once a training; what it draws is the global generator's."""
        return naming(classes)

    @contextmanager
    def learning(
        self, module: nn.Module, optimiser: torch.optim.Optimizer, count: int, batch: int, steps: int, seed: int
    ) -> Iterator[tuple[Answer, torch.optim.Optimizer]]:
        """The network and the optimiser that take `steps` steps, of about `batch` of `count` images each."""
        yield module, optimiser

    def draw(self, count: int, batch: int, draws: torch.Generator) -> Tensor:
        """The images (B,) of one step."""
        return torch.randint(count, (batch,), generator=draws)

    def promise(self, classes: Tensor, batch: int, steps: int) -> Promise | None:
        """Of differential privacy; None: none."""
        return None


def naming(classes: Tensor) -> Loss:
    """Cross-entropy with the classes (N,). Raises GmiError where there is not one output a person."""
    people = int(classes.max()) + 1

    def lesson(answer: Answer, inputs: Tensor, rows: Tensor, done: float) -> Tensor:
        outputs = answer(inputs)
        refuse_misfit(outputs, people)
        return F.cross_entropy(outputs, classes.to(rows.device)[rows])

    return lesson


@contextmanager
def aside(module: nn.Module) -> Iterator[None]:
    """Nothing here moves batch normalisation's averages."""
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    kept = [part.track_running_stats for part in norms]
    for part in norms:
        part.track_running_stats = part.track_running_stats and not part.training
    try:
        yield
    finally:
        for part, before in zip(norms, kept, strict=True):
            part.track_running_stats = before


def refuse_misfit(outputs: Tensor, people: int) -> None:
    """Raises GmiError unless outputs are (B, people)."""
    if outputs.shape[1] != people:
        raise GmiError(
            f"The target has {outputs.shape[1]} outputs for {people} people: set their number in target.arguments."
        )


def part_of(module: nn.Module, name: str, key: str) -> nn.Module:
    """Raises GmiError, which names the configuration's key, where there is none of that name."""
    try:
        return module.get_submodule(name)
    except AttributeError as error:
        raise GmiError(f"{key}: the module has no part named {name!r}.") from error


def replace(module: nn.Module, name: str, part: nn.Module) -> nn.Module:
    """The module with another part of that name."""
    if not name:
        return part
    parent, _, own = name.rpartition(".")
    setattr(module.get_submodule(parent), own, part)
    return module


@contextmanager
def listening(*parts: nn.Module) -> Iterator[list[Tensor]]:
    """What the parts put out, in the order in which they do, while this is open."""
    heard: list[Tensor] = []

    def hear(part: nn.Module, inputs: object, output: Tensor) -> None:
        heard.append(output)

    hooks = [part.register_forward_hook(hear) for part in parts]
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()
