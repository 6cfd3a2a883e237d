"""Searches by gradients never wait for the device: nothing in their loops asks it for a value."""

from traceback import extract_stack
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from gmi.priors.diffusion import DiffusionPrior
from gmi.priors.path import FlowPath
from gmi.rng import Rng
from gmi.search.gradient import Gradient
from gmi.search.guided import Guided
from gmi.search.variational import Variational
from gmi.views import Views

WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "is_nonzero")
"""Operations whose result, or its size, the host has to know."""
VIEWS = Views(rotate=10.0, ratio=(0.9, 1.1), exposure=0.2, noise=0.05)
SEARCHES: list[Any] = [
    *(Gradient(steps=3, objective=objective, views=VIEWS) for objective in ("logit", "max_margin", "poincare")),
    Gradient(steps=3, objective="cross_entropy", confidence=0.9, decay="cosine", transforms=2, constraint="ball"),
    Variational(steps=3, views=VIEWS),
    Guided(steps=3, heun=True, views=VIEWS),
    Guided(steps=3, through="clean", views=VIEWS),
]


class Network(nn.Module):
    """A denoiser of grey images of 16 px, of no use."""

    config = SimpleNamespace(sample_size=16, in_channels=1)

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, noisy: Tensor, stamps: Tensor, return_dict: bool = True) -> tuple[Tensor]:
        return (self.layer(noisy),)


class Waits(TorchDispatchMode):
    """Notes every operation for which the host would wait."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        name = function.overloadpacket.__name__
        masks = name == "index" and any(part is not None and part.dtype == torch.bool for part in arguments[1])
        # the number of an optimiser's step, which lies with the host whatever the device
        counts = name == "_local_scalar_dense" and any("/optim/" in frame.filename for frame in extract_stack())
        if (masks or name in WAITING) and not counts:
            self.found.append(name)
        return function(*arguments, **(named or {}))


@pytest.mark.parametrize("search", SEARCHES, ids=lambda search: f"{search.type} {search.objective}")
def test_a_search_by_gradients_does_not_wait(world, search: Any) -> None:
    prior: Any = world.prior
    if isinstance(search, Guided):
        prior = DiffusionPrior(Network(), FlowPath())
    oracle, rng, classes = world.oracle(), Rng(range(6)), torch.arange(6)
    latents = prior.sample(rng)
    with Waits() as waits:
        search(oracle, prior, latents, classes, rng)
    assert waits.found == []


def test_what_waits_is_noticed() -> None:
    values = torch.rand(5)
    with Waits() as waits:
        values[values > 0.5], values.sum().item()
    assert {"index", "_local_scalar_dense"} <= {*waits.found}
