"""GAN priors from a folder: `config.json` for the shape, `model.safetensors` for the weights."""

import json
from itertools import pairwise
from typing import Literal

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from gmi.assets.weights import digest, load_weights
from gmi.errors import GmiError
from gmi.priors.folder import prior_folder
from gmi.rng import Rng
from gmi.settings import settings


@settings
class DcganShape:
    """A prior folder's config.json."""

    type: Literal["dcgan"]
    latent: int
    channels: tuple[int, ...]
    size: int  # pixels, square: 4 * 2 ** len(channels)
    colours: Literal[1, 3]
    range: Literal["tanh"] = "tanh"


class Dcgan(nn.Module):
    """The generator of Radford et al., DCGAN, ICLR 2016: latents (N, D) to images (N, C, S, S).

    Differs from the paper: nothing.
    """

    def __init__(self, shape: DcganShape) -> None:
        super().__init__()
        made = 4 * 2 ** len(shape.channels)
        if shape.size != made:
            raise GmiError(f"A DCGAN of {len(shape.channels)} stages makes {made} px, not {shape.size}.")
        widths = (shape.latent, *shape.channels)
        layers: list[nn.Module] = []
        for stage, (before, after) in enumerate(pairwise(widths)):
            first = stage == 0
            convolution = nn.ConvTranspose2d(before, after, 4, 1 if first else 2, 0 if first else 1, bias=False)
            layers += [convolution, nn.BatchNorm2d(after), nn.ReLU()]
        layers += [nn.ConvTranspose2d(widths[-1], shape.colours, 4, 2, 1, bias=False), nn.Tanh()]
        self.main = nn.Sequential(*layers)
        self.shape = shape
        self.eval().requires_grad_(False)

    @property
    def digest(self) -> str:
        return digest(self.state_dict().items())

    @property
    def evaluations(self) -> int:
        return 1

    def sample(self, rng: Rng) -> Tensor:
        """Standard normal latents (len(rng), D)."""
        return rng.normal(self.shape.latent).to(next(self.parameters()).device)

    def decode(self, latents: Tensor, classes: Tensor | None = None) -> Tensor:
        """Images (N, C, S, S) in [0, 1]; differentiable. An unconditional prior: classes are not used."""
        return (self(latents) + 1) / 2

    def forward(self, latents: Tensor) -> Tensor:
        """Images in [-1, 1], as it is trained."""
        return self.main(latents[:, :, None, None])


@settings
class Gan:
    """A GAN prior in a folder."""

    type: Literal["gan"] = "gan"
    folder: str  # or "asset:NAME"

    def load(self, device: torch.device) -> Dcgan:
        """Raises GmiError where the folder is missing, its config unknown, or its weights misfit or are broken."""
        folder = prior_folder(self.folder)
        try:
            shape = TypeAdapter(DcganShape).validate_python(json.loads((folder / "config.json").read_text()))
        except (OSError, ValueError, ValidationError) as error:
            raise GmiError(
                f"{folder} is no prior folder: its config.json cannot be used ({error}); a folder of diffusers needs "
                "prior.type diffusion."
            ) from error
        prior = Dcgan(shape)
        load_weights(prior, folder / "model.safetensors")
        return prior.to(device)
