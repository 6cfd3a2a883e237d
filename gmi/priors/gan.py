"""GAN priors from a folder that holds `config.json` (the shape) and `model.safetensors` (the weights)."""

from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from gmi.assets.weights import digest, load_weights
from gmi.errors import GmiError
from gmi.priors.folder import prior_folder, refuse_few, refuse_other_type, shape_in
from gmi.protocols import Stage
from gmi.rng import Rng
from gmi.settings import settings
from gmi.views import at_least_single


@settings
class DcganShape:
    """The shape of a DCGAN: a prior folder's config.json."""

    type: Literal["dcgan"]
    latent: int  # D, dimensions of the latents
    channels: tuple[int, ...]  # channels of each stage
    size: int  # S, height and width in pixels: 4 * 2 ** len(channels)
    colours: Literal[1, 3]  # C, channels of the images
    range: Literal["tanh"] = "tanh"  # range of the generator's output, [-1, 1]


class Dcgan(nn.Module):
    """The generator of Radford et al., DCGAN, ICLR 2016: latents (N, D) to images (N, C, S, S).

    Differs from the paper: nothing.
    """

    def __init__(self, shape: DcganShape) -> None:
        super().__init__()
        size = 4 * 2 ** len(shape.channels)
        if shape.size != size:
            raise GmiError(f"A DCGAN of {len(shape.channels)} stages makes {size} px, not {shape.size}.")
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
        """SHA-256 of the weights."""
        return digest(self.state_dict().items())

    @property
    def evaluations(self) -> int:
        """Evaluations of the network for one `decode`."""
        return 1

    def sample(self, rng: Rng) -> Tensor:
        """Standard normal latents (len(rng), D)."""
        return rng.normal(self.shape.latent).to(next(self.parameters()).device)

    def decode(self, latents: Tensor, classes: Tensor | None = None) -> Tensor:
        """Images (N, C, S, S) in [0, 1], differentiable. The prior is unconditional: classes are not used."""
        return (at_least_single(self(latents)) + 1) / 2

    def forward(self, latents: Tensor) -> Tensor:
        """Images (N, C, S, S) in [-1, 1], as in training."""
        return self.main(latents[:, :, None, None])

    def stages(self, least: int = 0) -> list[Stage]:
        """The pieces of `decode`, one for each convolution, as `gmi.protocols.StagedPrior` has them."""
        starts = [place for place, layer in enumerate(self.main) if isinstance(layer, nn.ConvTranspose2d)]
        refuse_few(len(starts), least)
        return [
            partial(self._stage, self.main[start:end], end == len(self.main))
            for start, end in pairwise([*starts, len(self.main)])
        ]

    def _stage(
        self, layers: nn.Module, last: bool, features: Tensor | None, colours: Tensor | None, latents: Tensor
    ) -> tuple[Tensor, Tensor]:
        """There are colours at the end alone: until then, the features stand for them."""
        made = layers(latents[:, :, None, None] if features is None else features)
        return made, (at_least_single(made) + 1) / 2 if last else made


@settings
class Gan:
    """A GAN prior in a folder."""

    type: Literal["gan"] = "gan"
    folder: str  # folder of the prior, or "asset:NAME"

    def load(self, device: torch.device) -> Dcgan:
        """The prior. Raises GmiError if the folder is missing, its config unusable, or its weights misfit or broken."""
        folder = prior_folder(self.folder)
        refuse_other_type(folder, self.type)
        prior = Dcgan(shape_in(folder, DcganShape, "DCGAN"))
        load_weights(prior, folder / "model.safetensors")
        return prior.to(device)
