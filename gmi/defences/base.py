"""Base of the defences: the parts of a target's training that they may change. Its defaults change nothing."""

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
"""The scalar that a training step minimises, as a function of the network, a batch of inputs (B, ...), the indices (B,)
of their images, and the share of the training that is done. Inputs are images in [0, 1], or the features on which a
head is trained.
"""


@dataclass(frozen=True)
class Privacy:
    """A guarantee of differential privacy, (epsilon, delta); epsilon is None where it is not finite."""

    epsilon: float | None
    delta: float


@dataclass(frozen=True)
class Promise:
    """The guarantees of a private training."""

    noise: float  # standard deviation of the noise, in units of the clipped norm
    image: Privacy  # for data sets that differ by one image
    person: Privacy  # for data sets that differ by all the images of one person
    images: int  # largest number of images that one person has

    def __str__(self) -> str:
        of_person = "none" if self.person.epsilon is None else f"{self.person.epsilon:.2f}"
        return (
            f"differential privacy at delta {self.image.delta:g}: epsilon {self.image.epsilon:.2f} for one image, "
            f"{of_person} for one person's {self.images} (noise {self.noise:.2f}), while nobody knows the seed"
        )


class Defence:
    """Base of all defences: frozen dataclasses of hyper-parameters that override some of these methods."""

    whole_network: ClassVar[bool] = False  # needs images and the whole network; False: a head alone can have it too
    misleads: ClassVar[bool] = False  # whether a search that does not know of it is led to something else than people

    def refuse(self, part: str | None, mirror: bool) -> None:
        """Raises GmiError if this defence does not suit a training of that part alone (None: of the whole network).

        mirror: True: the training also takes the images' mirror images.
        """
        if self.whole_network and part is not None:
            raise GmiError(
                "target.defence: this one needs the whole network to learn, not its head alone: choose training: "
                "{type: scratch}."
            )

    @property
    def changes(self) -> str | None:
        """The change to the network's form, in words; None: it stays as it is."""
        return None

    @property
    def files(self) -> tuple[str, ...]:
        """Files on which the trained weights depend, besides the settings."""
        return ()

    def harden(self, module: nn.Module) -> nn.Module:
        """The network in its hardened form, before it learns or loads weights.

        Raises GmiError if the network does not suit the defence.
        """
        return module

    def loss(self, module: nn.Module, classes: Tensor) -> Loss:
        """The loss for images of these classes (N,). Called once per training; it draws from the global generator.

        Raises GmiError if the network or the number of people does not suit the defence.
        """
        return cross_entropy_loss(classes)

    @contextmanager
    def learning(
        self, module: nn.Module, optimiser: torch.optim.Optimizer, count: int, batch: int, steps: int, seed: int
    ) -> Iterator[tuple[Answer, torch.optim.Optimizer]]:
        """The network and optimiser for `steps` steps, each on about `batch` of the `count` images."""
        yield module, optimiser

    def draw(self, count: int, batch: int, draws: torch.Generator) -> Tensor:
        """Indices (B,) of the images of one step."""
        return torch.randint(count, (batch,), generator=draws)

    def promise(self, classes: Tensor, batch: int, steps: int) -> Promise | None:
        """The guarantee of differential privacy for such a training; None: there is no guarantee."""
        return None


def cross_entropy_loss(classes: Tensor) -> Loss:
    """Cross-entropy with the classes (N,). It raises GmiError unless the network has one output per person."""
    people = int(classes.max()) + 1

    def loss(answer: Answer, inputs: Tensor, rows: Tensor, done: float) -> Tensor:
        outputs = answer(inputs)
        refuse_misfit(outputs, people)
        return F.cross_entropy(outputs, classes.to(rows.device)[rows])

    return loss


@contextmanager
def frozen_norms(module: nn.Module) -> Iterator[None]:
    """A context in which forward passes leave batch normalisation's running averages as they are."""
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    flags = [part.track_running_stats for part in norms]
    for part in norms:
        part.track_running_stats = part.track_running_stats and not part.training
    try:
        yield
    finally:
        for part, flag in zip(norms, flags, strict=True):
            part.track_running_stats = flag


def refuse_misfit(outputs: Tensor, people: int) -> None:
    """Raises GmiError unless the outputs have the shape (B, people)."""
    if outputs.shape[1] != people:
        raise GmiError(
            f"The target has {outputs.shape[1]} outputs for {people} people: set their number in target.arguments."
        )


def part_of(module: nn.Module, name: str, key: str) -> nn.Module:
    """The part of a module with this dotted name. Raises GmiError, which names the configuration's `key`, if none has.

    name: "" is the module itself.
    """
    try:
        return module.get_submodule(name)
    except AttributeError as error:
        raise GmiError(f"{key}: the module has no part named {name!r}.") from error


def replace_part(module: nn.Module, name: str, part: nn.Module) -> nn.Module:
    """The module, changed in place, with `part` under this dotted name; with the name "" it is `part` itself."""
    if not name:
        return part
    parent, _, attribute = name.rpartition(".")
    setattr(module.get_submodule(parent), attribute, part)
    return module


@contextmanager
def outputs_of(*parts: nn.Module) -> Iterator[list[Tensor]]:
    """A context that collects the parts' outputs in a list, in the order in which they come."""
    outputs: list[Tensor] = []

    def collect(part: nn.Module, inputs: object, output: Tensor) -> None:
        outputs.append(output)

    hooks = [part.register_forward_hook(collect) for part in parts]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()
