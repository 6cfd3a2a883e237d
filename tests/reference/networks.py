"""Small networks that a configuration can name."""

from torch import nn


def mlp(people: int = 6, side: int = 16, width: int = 64) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(side * side, width), nn.ReLU(), nn.Linear(width, people))
