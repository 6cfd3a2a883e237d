"""Small networks that a configuration can name."""

import torch
from torch import nn


def mlp(people: int = 6, side: int = 16, width: int = 64) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(side * side, width), nn.ReLU(), nn.Linear(width, people))


def fixed(people: int = 6) -> nn.Module:
    """An `mlp` whose weights are the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(11)
        return mlp(people)


class Rounded(nn.Module):
    """Passes on what it gets; once trained, rounded, so that no gradient comes back."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values if self.training else (4 * values).round() / 4


def masked(people: int = 6) -> nn.Module:
    """A `fixed` one that hides its gradients."""
    return nn.Sequential(fixed(people), Rounded())
