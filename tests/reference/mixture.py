"""A network of diffusers' calling convention that is exact: the posterior mean of a mixture of Gaussians."""

from types import SimpleNamespace

import torch
from torch import Tensor, nn

from gmi.priors.path import DiffusionPath, FlowPath
from gmi.protocols import NoisePath

KEPT = tuple((1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0).tolist())
PATHS: dict[str, NoisePath] = {"flow": FlowPath(), "ddpm": DiffusionPath(KEPT)}


class Mixture(nn.Module):
    """Equal parts of N(atom, width^2); tells noise - clean on a straight path, and the noise on one of DDPM."""

    def __init__(self, atoms: Tensor, width: float, path: NoisePath) -> None:
        """atoms (M, C, S, S) in [-1, 1]."""
        super().__init__()
        self.register_buffer("atoms", atoms)
        self.anchor = nn.Parameter(torch.zeros(1))
        self.width, self.path = width, path
        self.config = SimpleNamespace(sample_size=atoms.shape[-1], in_channels=atoms.shape[1])

    def forward(self, noisy: Tensor, stamps: Tensor, return_dict: bool = True) -> tuple[Tensor]:
        straight = isinstance(self.path, FlowPath)
        time = stamps[0].item() / 1000 if straight else (stamps[0].item() + 1) / 1000
        signal, level = self.path.levels(time)
        spread = signal**2 * self.width**2 + level**2
        apart = noisy[:, None] - signal * self.atoms
        share = (-apart.flatten(2).square().sum(2) / (2 * spread)).softmax(1)[:, :, None, None, None]
        clean = (share * (self.atoms + signal * self.width**2 / spread * apart)).sum(1)
        return ((noisy - clean) / time if straight else (noisy - signal * clean) / level,)
