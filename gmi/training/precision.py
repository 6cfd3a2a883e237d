"""Half precision while weights learn."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def learning(device: torch.device) -> Iterator[None]:
    """A context with gradients in which every step sees the weights as they are; under bf16 where it is entered there.

    Autocast keeps the weights that it has cast until its outermost context ends: in a loop within, each step would take
    its gradient at the weights of the first. So nothing is kept here. Nor is float16 used, which loses small gradients.
    """
    kind = device.type
    half = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) is torch.bfloat16
    with torch.enable_grad(), torch.autocast(kind, enabled=half, cache_enabled=False):
        yield
