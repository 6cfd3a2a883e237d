"""Transfer learning: the first layers come from public data and stay as they are, so less is learnt from private data.

Ho et al., Model Inversion Robustness: Can Transfer Learning Help? (TL-DMI), CVPR 2024: the first layers matter most to
an inversion; they are pre-trained on public data and frozen, and the others are fine-tuned on private data.

Differs from the paper: nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from gmi.assets.catalogue import resolve
from gmi.defences.base import Answer, Defence, part_of
from gmi.errors import GmiError, because
from gmi.settings import settings


@settings
class Transfer(Defence):
    """TL-DMI: some parts are frozen, the rest of the network learns."""

    type: Literal["transfer"] = "transfer"
    whole_network: ClassVar[bool] = True
    frozen: Annotated[tuple[str, ...], Field(min_length=1)]  # names of the parts that do not learn
    # safetensors file of a network of the same form, trained on public data, whose tensors are taken where they fit;
    # None: the factory's network is already trained on public data
    start: str | None = None

    @property
    def files(self) -> tuple[str, ...]:
        return () if self.start is None else (self.start,)

    def harden(self, module: nn.Module) -> nn.Module:
        for name in self.frozen:
            part_of(module, name, "target.defence.frozen")
        return module

    @contextmanager
    def learning(
        self, module: nn.Module, optimiser: torch.optim.Optimizer, count: int, batch: int, steps: int, seed: int
    ) -> Iterator[tuple[Answer, torch.optim.Optimizer]]:
        if self.start is not None:
            self._begin(module, self.start)
        for name in self.frozen:
            module.get_submodule(name).eval().requires_grad_(False)  # batch normalisation's averages stay, too
        if not any(weight.requires_grad for weight in module.parameters()):
            raise GmiError("target.defence.frozen: nothing is left to learn: name fewer parts.")
        yield module, optimiser

    def _begin(self, module: nn.Module, start: str) -> None:
        try:
            public = load_file(resolve(start))
        except (OSError, SafetensorError) as error:
            raise GmiError(f"target.defence.start: {start} cannot be read ({because(error)}).") from error
        state = module.state_dict()
        fitting = {name: value for name, value in public.items() if name in state and value.shape == state[name].shape}
        missing = [name for name in state if name not in fitting and any(name.startswith(f"{f}.") for f in self.frozen)]
        if missing:
            raise GmiError(f"target.defence.start: {start} has no fitting {missing[0]}, which is to be frozen.")
        module.load_state_dict(state | fitting)
