"""Small StyleGANs with random weights, in memory and in folders."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from gmi.priors.stylegan import Space, StyleGanPrior, StyleGanShape

SHAPE = StyleGanShape(latent=6, width=5, layers=2, channels=(8, 7, 6), size=16, colours=3)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def made(shape: StyleGanShape = SHAPE, space: Space = "w", **settings) -> StyleGanPrior:
    """With random weights, a mean style that is not 0 and noise that is seen."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = shape.build()
        network.mapping.w_avg.copy_(torch.randn(shape.width))
    for name, value in network.named_parameters():
        if name.endswith("noise_strength"):
            value.data.fill_(0.3)
    return StyleGanPrior(network, shape, space, **settings)


def written(folder: Path, config: dict | None = None, weights: dict[str, Tensor] | None = None) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(asdict(SHAPE) if config is None else config))
    save_file(made().network.state_dict() if weights is None else weights, folder / "model.safetensors")
    return str(folder)
