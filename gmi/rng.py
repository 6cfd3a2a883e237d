"""One random generator per candidate, so that results depend neither on batches, nor on processes, nor on resuming."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def seed_of(*parts: object) -> int:
    """A 63-bit seed from a root seed and names of its purpose: `seed_of(0, "search", person, candidate)`."""
    text = "\x1f".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def sent(draws: Tensor, like: Tensor) -> Tensor:
    """Draws where another tensor is, and of its type, without waiting for what is still computed there."""
    return draws.pin_memory().to(like, non_blocking=True) if like.is_cuda else draws.to(like)


class Rng:
    """Independent `torch.Generator`s, one per candidate. Draws come on the CPU, the same for every device."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __len__(self) -> int:
        return len(self._generators)

    def __getitem__(self, rows: slice) -> "Rng":
        """Some of the generators, which go on from where they are."""
        part = Rng([])
        part._generators = self._generators[rows]
        return part

    def normal(self, *shape: int) -> Tensor:
        """Standard normal draws (len(self), *shape)."""
        return torch.stack([torch.randn(shape, generator=generator) for generator in self._generators])

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Uniform draws (len(self), *shape) in [low, high)."""
        draws = torch.stack([torch.rand(shape, generator=generator) for generator in self._generators])
        return low + (high - low) * draws
