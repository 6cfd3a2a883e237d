"""StyleGAN2 and StyleGAN3 priors from a folder: `config.json` for the shape, `model.safetensors` for weights, mean
style, noise or filters.
"""

from collections.abc import Iterable
from functools import partial
from hashlib import sha256
from typing import Annotated, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from gmi.assets.weights import digest, load_weights
from gmi.errors import GmiError
from gmi.priors import stylegan3_network
from gmi.priors.folder import prior_folder, refuse_few, refuse_other_type, shape_in
from gmi.priors.stylegan3_network import Piece
from gmi.priors.stylegan_network import Block, Generator
from gmi.protocols import Stage
from gmi.rng import Rng
from gmi.settings import Count, Share, settings
from gmi.views import at_least_single

Space = Literal["z", "w", "w+"]


@settings
class StyleGanShape:
    """The shape of a StyleGAN2: a prior folder's config.json."""

    type: Literal["stylegan2"] = "stylegan2"
    latent: Count  # Z, numbers in a latent z
    width: Count  # D, numbers in a style w
    layers: Count  # layers of the mapping from z to w
    channels: Annotated[tuple[Count, ...], Field(min_length=1)]  # by resolution, 4 px first
    size: Count  # S, height and width in pixels: 4 * 2 ** (len(channels) - 1)
    colours: Literal[1, 3]  # C, channels of the images

    def build(self) -> Generator:
        """The network, with random weights. Raises GmiError if the size is not that of the channels."""
        size = 4 * 2 ** (len(self.channels) - 1)
        if self.size != size:
            raise GmiError(
                f"A StyleGAN with channels for {len(self.channels)} resolutions makes {size} px, not {self.size}."
            )
        return Generator(self.latent, self.width, self.channels, self.colours, self.layers)


@settings
class StyleGan3Shape:
    """The shape of a StyleGAN3: a prior folder's config.json."""

    type: Literal["stylegan3"] = "stylegan3"
    latent: Count  # Z, numbers in a latent z
    width: Count  # D, numbers in a style w
    layers: Count  # layers of the mapping from z to w
    channels: Annotated[tuple[Count, ...], Field(min_length=3)]  # by layer of the synthesis, but for the last
    size: Annotated[int, Field(ge=16)]  # S, height and width in pixels
    colours: Literal[1, 3]  # C, channels of the images
    kernel: Literal[1, 3]  # side of the convolutions: 3 in the paper's T, 1 in R
    radial: bool  # filters that are the same in all directions, as in R

    def __post_init__(self) -> None:
        if self.size & (self.size - 1):
            raise ValueError(f"size: {self.size} is no power of 2")

    def build(self) -> stylegan3_network.Generator:
        """The network, with random weights."""
        return stylegan3_network.Generator(
            self.latent,
            self.width,
            self.channels,
            self.colours,
            self.layers,
            size=self.size,
            kernel=self.kernel,
            radial=self.radial,
        )


AnyShape = Annotated[StyleGanShape | StyleGan3Shape, Field(discriminator="type")]


class StyleGanPrior:
    """A `gmi.protocols.Prior` whose latents are z (N, Z), styles w (N, D), or w+ (N, L, D), one style for each layer.

    Karras et al., StyleGAN2, CVPR 2020, and StyleGAN3, NeurIPS 2021; truncation: Karras et al., StyleGAN, CVPR 2019,
    app. B. A StyleGAN2's images come with its constant noise, so that equal latents make equal images.

    Differs from the papers: images are clamped to [0, 1], where a clamped pixel passes no gradient on.
    """

    def __init__(
        self,
        network: Generator | stylegan3_network.Generator,
        shape: StyleGanShape | StyleGan3Shape,
        space: Space = "w",
        psi: float = 1.0,
        cutoff: int | None = None,
    ) -> None:
        """Raises GmiError if `cutoff` is above the number of layers L."""
        if cutoff is not None and cutoff > network.synthesis.layers:
            raise GmiError(
                f"prior.cutoff is {cutoff}, but this network has {network.synthesis.layers} layers: leave it out to "
                "truncate all of them."
            )
        self.network = network.eval().requires_grad_(False)
        self.shape, self.space, self.psi, self.cutoff = shape, space, psi, cutoff

    @property
    def digest(self) -> str:
        """SHA-256 of the weights, of the space and of the truncation."""
        weights = digest(self.network.state_dict().items())
        return sha256(f"{weights} {self.space} {self.psi} {self.cutoff}".encode()).hexdigest()

    @property
    def evaluations(self) -> int:
        """Evaluations of the network for one `decode`."""
        return 1

    def parameters(self) -> Iterable[nn.Parameter]:
        """The network's weights."""
        return self.network.parameters()

    def sample(self, rng: Rng) -> Tensor:
        """Latents of standard normal z: z itself, or its style (space w) or styles (w+), truncated."""
        z = rng.normal(self.shape.latent).to(self.network.mapping.w_avg.device)
        if self.space == "z":
            return z
        with torch.no_grad():
            styles = self.truncated(self.network.mapping(z))
        return styles[:, 0] if self.space == "w" else styles

    def truncated(self, w: Tensor) -> Tensor:
        """Styles (N, L, D) of w (N, D): the first `cutoff` layers' (None: all) are at w_avg + psi (w - w_avg)."""
        near = self.network.mapping.w_avg.lerp(w, self.psi)
        layers = self.network.synthesis.layers
        first = layers if self.cutoff is None else self.cutoff
        return torch.cat([near[:, None].expand(-1, first, -1), w[:, None].expand(-1, layers - first, -1)], 1)

    def styles(self, latents: Tensor) -> Tensor:
        """Styles (N, L, D) of latents in the prior's space; differentiable."""
        if self.space == "z":
            return self.truncated(self.network.mapping(latents))
        if self.space == "w":
            return latents[:, None].expand(-1, self.network.synthesis.layers, -1)
        return latents

    def decode(self, latents: Tensor, classes: Tensor | None = None) -> Tensor:
        """Images (N, C, S, S) in [0, 1], differentiable twice. The prior is unconditional: classes are not used."""
        return self.image(self.network.synthesis(self.styles(latents)))

    def image(self, colours: Tensor) -> Tensor:
        """Images in [0, 1] of the network's colours (N, C, H, W), which are about [-1, 1]."""
        return ((at_least_single(colours) + 1) / 2).clamp(0, 1)

    def stages(self, least: int = 0) -> list[Stage]:
        """The pieces of `decode`, one for each resolution or layer, as `gmi.protocols.StagedPrior` has them."""
        blocks = self.network.synthesis.blocks()
        refuse_few(len(blocks), least)
        return [
            partial(self._stage, block, layers, number == len(blocks) - 1)
            for number, (block, layers) in enumerate(blocks)
        ]

    def _stage(
        self,
        block: Block | Piece,
        layers: slice,
        last: bool,
        features: Tensor | None,
        colours: Tensor | None,
        latents: Tensor,
    ) -> tuple[Tensor, Tensor]:
        mixed, added = block(features, colours, self.styles(latents)[:, layers])
        return mixed, self.image(added) if last else added


@settings
class StyleGan:
    """A StyleGAN2 or StyleGAN3 prior in a folder.

    Latents are normal in space z only. Unless told otherwise, `gradient` keeps latents on a sphere about 0. That suits
    z, and styles that are about as long as its radius, as those of priors/stylegan64 are; `constraint: box` leaves any
    styles free, as its default radius is wider.
    """

    type: Literal["stylegan"] = "stylegan"
    folder: str  # folder of the prior, or "asset:NAME"
    space: Space = "w"  # where searches look: z, normal latents; w, one style for all layers; w+, one for each
    psi: Share = 1.0  # truncation, share of the way from the mean style, 1: none; in w and w+ that of the starts only
    cutoff: Count | None = None  # layers that are truncated, from the first; None: all; not in space w

    def __post_init__(self) -> None:
        if self.space == "w" and self.cutoff is not None:
            raise ValueError("cutoff: a latent of space w is the style of every layer: leave it out, or take w+ or z")

    def load(self, device: torch.device) -> StyleGanPrior:
        """The prior. Raises GmiError if the folder is missing, its config unusable, or its weights misfit or broken."""
        folder = prior_folder(self.folder)
        refuse_other_type(folder, self.type)
        shape = shape_in(folder, cast("type[StyleGanShape | StyleGan3Shape]", AnyShape), "StyleGAN")
        network = shape.build()
        load_weights(network, folder / "model.safetensors")
        return StyleGanPrior(network.to(device), shape, self.space, self.psi, self.cutoff)
