"""The model under audit: a torch module with its preprocessing, built from a config and weights without unpickling."""

from collections.abc import Callable, Iterable
from dataclasses import field
from itertools import chain
from typing import Any, ClassVar, Literal

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from gmi.assets.catalogue import resolve
from gmi.assets.factory import make_network
from gmi.assets.weights import digest, load_weights
from gmi.defences import AnyDefence
from gmi.errors import GmiError, foreign
from gmi.settings import settings
from gmi.targets.outputs import Named, Outputs, outputs
from gmi.views import Input, at_least_single


class Target:
    """A classifier `target(images) -> logits` with class names and a digest; frozen, in evaluation mode."""

    def __init__(
        self,
        module: nn.Module,
        input: Callable[[Tensor], Tensor],
        classes: tuple[str, ...],
        trained_on: frozenset[str] = frozenset(),
        penultimate: str | None = None,
        outputs: Outputs | None = None,
    ) -> None:
        """A target from a network and what is known of it.

        Args:
            module: the network.
            input: makes what it expects of images (N, 1 or 3, H, W) in [0, 1], as an `Input` does.
            classes: names of the people (K,).
            trained_on: names of data sets besides the private one.
            penultimate: name of the part whose input is the feature vector; None: the last linear layer.
            outputs: whom the module's outputs mean; None: they are the people in their order.
        Raises GmiError if weights are not finite.
        """
        self.order = Outputs.sorted(classes) if outputs is None else outputs
        with foreign(
            lambda why: (
                "The target's network cannot be frozen and read as tensors "
                f"({why}): hand over a plain torch module in floating point; a scripted or quantised one can be served "
                "or exported to ONNX, and audited by its scores."
            )
        ):
            for name, value in module.state_dict().items():
                if value.is_floating_point() and not value.isfinite().all():
                    raise GmiError(f"The target's weights are broken: {name} holds NaN or infinite values.")
            self.module = module.float().eval().requires_grad_(False).to(memory_format=torch.channels_last)
            self.digest = self.order.digest(digest(module.state_dict().items()))
        self.input = input
        self.classes = classes
        self.trained_on = trained_on
        self._penultimate = penultimate

    def __call__(self, images: Tensor) -> Tensor:
        """Logits (N, K) of images (N, 1 or 3, H, W) in [0, 1], differentiable with respect to the images.

        Raises GmiError if the module's outputs have another shape.
        """
        return self.classify(self.input(images))

    def classify(self, prepared: Tensor) -> Tensor:
        """Logits (N, K) of images (N, C, H, W) that are prepared already. Raises GmiError as a call does."""
        logits, named = self.outputs(prepared), self.order.names
        if logits.ndim != 2 or logits.shape[1] != len(named):
            outputs = f"{len(self.classes)} classes of people" if self.order.plain else f"{len(named)} named outputs"
            raise GmiError(
                f"The target gives outputs of shape {tuple(logits.shape)} for {outputs}: its class count does not fit "
                "the data. If it has outputs for others, too, name them all in target.outputs. If it makes templates "
                "(embeddings), it is the recogniser of a target of type templates."
            )
        return self.order.of_people(logits)

    def outputs(self, prepared: Tensor) -> Tensor:
        """What the module itself gives for images (N, C, H, W) that are prepared already; of any shape."""
        output = self.module(prepared.contiguous(memory_format=torch.channels_last))
        logits = getattr(output, "logits", output)  # transformers wraps them
        if not isinstance(logits, Tensor):
            raise GmiError(
                f"The target's network returns a {type(logits).__name__}, where a tensor of logits is needed: name a "
                "factory whose network returns the logits alone."
            )
        return at_least_single(logits)

    def activations(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, K) and penultimate features (N, D) of one forward pass, differentiable.

        Raises GmiError if the module does not call the part after the features with a tensor.
        """
        features: list[Tensor] = []
        hook = self.head.register_forward_pre_hook(lambda _, inputs: features.extend(inputs[:1]))
        try:
            logits = self(images)
        finally:
            hook.remove()
        if not features:
            raise GmiError("target.penultimate names a part that the module does not call with a tensor: name another.")
        return logits, at_least_single(features[-1].flatten(1))

    def weights(self) -> Iterable[Tensor]:
        """The module's parameters, to compare with a judge's."""
        return self.module.parameters()

    def to(self, device: torch.device) -> "Target":
        """The same target, moved to the device."""
        self.module.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where its weights are; a module of buffers alone, as when quantised, has no parameters."""
        held = next(chain(self.module.parameters(), self.module.buffers()), None)
        return torch.device("cpu") if held is None else held.device

    @property
    def head(self) -> nn.Module:
        """The part after the penultimate features. Raises GmiError if there is none."""
        if self._penultimate is not None:
            try:
                return self.module.get_submodule(self._penultimate)
            except AttributeError as error:
                raise GmiError(f"target.penultimate: the module has no part named {self._penultimate!r}.") from error
        linear = [part for part in self.module.modules() if isinstance(part, nn.Linear)]
        if not linear:
            raise GmiError("The target has no linear layer: name the one after its features in target.penultimate.")
        return linear[-1]


def _own_names(module: nn.Module) -> tuple[str, ...] | None:
    """The names that a network of transformers has for its outputs; None: it has none of its own."""
    named: Any = getattr(getattr(module, "config", None), "id2label", None)
    if not isinstance(named, dict) or not named or all(f"{name}".startswith("LABEL_") for name in named.values()):
        return None
    return tuple(str(named[number]) for number in sorted(named, key=int))


@settings
class ModuleTarget:
    """A torch module as the target. The factory is code that you name and therefore trust; weights are never code."""

    networked: ClassVar = False  # True for a target behind a network, whose audit needs an authorisation
    type: Literal["module"] = "module"
    factory: str  # "package.module:callable" that returns a torch module
    arguments: dict[str, JsonValue] = field(default_factory=dict)  # the factory's; strings "asset:..." become paths
    weights: str | None = None  # .safetensors, or a .pt that holds one state_dict; None: the factory loads its own
    input: Input  # the input that the module expects
    # names of the outputs in the model's order, or a text file with one a line: a person's is the folder's, another
    # word stands for nobody (a background class) and is ignored; natural: the people, 2 before 10; model: the
    # model's own names (id2label); None: the people, sorted
    outputs: Named = None
    penultimate: str | None = None  # name of the part whose input is the feature vector; None: the last linear layer
    trained_on: tuple[str, ...] = ()  # data sets besides the private one; judges trained on them are refused
    # defence with which the weights were trained or are to be trained; it may change the module's form
    defence: AnyDefence | None = None

    def build(self, complete: bool = False) -> nn.Module:
        """The module with the factory's own weights. Raises GmiError if the factory cannot be found or called.

        complete: nobody loads weights, or trains them, afterwards; raises GmiError where some are drawn at random.
        """
        module = make_network(self.factory, self.arguments, complete=complete)
        return module if self.defence is None else self.defence.harden(module)

    def load(self, classes: tuple[str, ...], untrained: bool = False) -> Target:
        """The target for these people. Raises GmiError on missing, pickled, misfitting or non-finite weights.

        untrained: its weights are still to be made, and those that a checkpoint lacks may be drawn at random.

        Random weights of the factory are the same each time, because a resumed run needs the same target.
        """
        with torch.random.fork_rng():
            torch.manual_seed(0)
            module = self.weighed(complete=self.weights is None and not untrained)
        order = outputs(self.outputs, classes, _own_names(module))
        return Target(module, self.input, classes, frozenset(self.trained_on), self.penultimate, order)

    def weighed(self, complete: bool = False) -> nn.Module:
        """The module with the configuration's weights. Raises GmiError as `load` and `build` do."""
        module = self.build(complete)
        if self.weights is not None:
            load_weights(module, resolve(self.weights))
        return module
