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
