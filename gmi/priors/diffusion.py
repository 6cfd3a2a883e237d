"""Diffusion and flow-matching priors from a folder that diffusers wrote, or that its users published.

unet/ or transformer/              UNet2DModel or DiTTransformer2DModel; its files may lie in the folder itself
unet_ema/                          the same with averaged weights, as training scripts write it: it is taken first
scheduler/scheduler_config.json    the path from noise to image
vae/ or vqvae/                     AutoencoderKL, AutoencoderTiny or VQModel, if the model works on latents

Weights in several files, and those of a variant (fp16), are read as they are.
"""

import copy
import sys
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gmi.assets.weights import digest
from gmi.errors import GmiError
from gmi.priors.diffusers_folder import (
    AUTOENCODERS,
    NETWORKS,
    PARTS,
    read_autoencoder,
    read_json,
    read_model,
    read_path,
)
from gmi.priors.folder import prior_folder, refuse_other_type
from gmi.priors.path import stamps, step
from gmi.protocols import NoisePath
from gmi.rng import Rng
from gmi.settings import Whole, settings
from gmi.views import at_least_single


class DiffusionPrior:
    """A diffusion or flow prior of diffusers' networks. It is a `gmi.protocols.Denoiser`.

    Latents are noise (N, C, H, W); `decode` follows the path from there, in `steps`.
    """

    def __init__(
        self,
        network: nn.Module,
        path: NoisePath,
        vae: nn.Module | None = None,
        steps: int = 20,
        null_class: int | None = None,
        classes: tuple[int, ...] | None = None,
    ) -> None:
        """A prior from networks with diffusers' calling convention.

        Args:
            network: predicts what the path says.
            path: the way from noise to image.
            vae: its autoencoder; None: the path is one of pixels.
            steps: of a decode.
            null_class: the class that means none, of a network with classes; None: it has none, or is a DiT.
            classes: the network's own class for each of the target's; None: it is asked for none of them.
        """
        self.path = path
        self.steps = steps
        self.network = network.eval().requires_grad_(False)
        self._vae = None if vae is None else vae.eval().requires_grad_(False)
        config: Any = network.config
        size = config.sample_size
        self._shape = (config.in_channels, *((size, size) if isinstance(size, int) else size))
        # DiT: the class that means "unconditional"; its output holds a variance after the prediction
        self._null_class, self.classes = null_class, classes
        self._own = None if classes is None else torch.tensor(classes, device=next(network.parameters()).device)
        self._unconditional: int | None = getattr(config, "num_embeds_ada_norm", null_class)
        self._counted = getattr(config, "time_embedding_type", None) == "learned"  # times are numbers of a table
        self._spread = None if vae is None else _spread(vae)

    @property
    def digest(self) -> str:
        """SHA-256 of the weights, of the path, which a scheduler's settings change, and of what else decides images."""
        parts = [self.network] if self._vae is None else [self.network, self._vae]
        weights = digest(pair for part in parts for pair in part.state_dict().items())
        spread = "" if self._spread is None else f" {[part.tolist() for part in self._spread]}"
        null = "" if self._null_class is None else f" {self._null_class}"
        own = "" if self.classes is None else f" {self.classes}"
        return sha256(f"{weights} {self.path}{spread}{null}{own}".encode()).hexdigest()

    @property
    def evaluations(self) -> int:
        """Evaluations of the network for one `decode`; a gradient through it takes as many again."""
        return self.steps

    def sample(self, rng: Rng) -> Tensor:
        """Standard normal latents (len(rng), C, H, W)."""
        return rng.normal(*self._shape).to(next(self.network.parameters()).device)

    def decode(self, latents: Tensor, classes: Tensor | None = None) -> Tensor:
        """Images (N, C, H, W) in [0, 1], differentiable.

        classes: the target's (N,), for which `classes` of the prior stand; None: no class.
        The memory for a gradient grows by one latent per step only: each step is computed again for its gradient.
        """
        for now, after in pairwise(self.path.times(self.steps)):
            latents = checkpoint(self._step, latents, now, after, classes, use_reentrant=False)  # pyright: ignore
        return self.image(latents)

    def denoise(self, noisy: Tensor, time: float, classes: Tensor | None = None) -> Tensor:
        """The clean latents (N, C, H, W) that the network predicts from noisy ones at a time in (0, 1].

        classes: as in `decode`.
        """
        labels: dict[str, Tensor] = {}
        if self._own is not None and classes is not None:
            labels["class_labels"] = self._own[classes]
        elif self._unconditional is not None:
            labels["class_labels"] = noisy.new_full((len(noisy),), self._unconditional).long()
        when = stamps(self.path, time, noisy)
        when = when.round().long().clamp_max(self.path.timesteps - 1) if self._counted else when
        gain = self.path.gain(time)
        output = self.network(noisy if gain == 1 else gain * noisy, when, return_dict=False, **labels)[0]
        return self.path.clean(at_least_single(output[:, : noisy.shape[1]]), noisy, time)

    def image(self, clean: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] of clean latents; the gradient passes where a pixel is clamped."""
        if self._vae is not None and self._spread is not None:
            vae: Any = self._vae
            mean, scale = (part.to(clean) for part in self._spread)
            clean = vae.decode(clean * scale + mean, return_dict=False)[0]
        pixels = (at_least_single(clean) + 1) / 2
        return pixels + (pixels.clamp(0, 1) - pixels).detach()

    def clean(self, images: Tensor) -> Tensor:
        """Clean latents (N, C, H, W) of images (N, C, H, W) in [0, 1], which `image` turns back into these."""
        pixels = images * 2 - 1
        if self._vae is None or self._spread is None:
            return pixels
        vae: Any = self._vae
        found = vae.encode(pixels, return_dict=False)[0]
        latents = at_least_single(found if isinstance(found, Tensor) else found.mode())
        mean, scale = (part.to(latents) for part in self._spread)
        return (latents - mean) / scale

    def conditional(self, classes: int) -> nn.Module:
        """A copy of the network that takes `class_labels`: so many classes, and then one that stands for none.

        All its parameters can be trained. Until they are, it says the same for each class as without one. Raises
        GmiError if the network has no place for classes.
        """
        network: Any = copy.deepcopy(self.network)
        if getattr(network, "class_embedding", self) is not None:
            raise GmiError(
                f"The prior's network, {type(network).__name__}, cannot learn classes: take a prior with a UNet2DModel."
            )
        width = network.time_embedding.linear_2.out_features
        start = torch.zeros(classes + 1, width, device=next(self.network.parameters()).device)
        network.class_embedding = nn.Embedding.from_pretrained(start, freeze=False)
        return network.requires_grad_(True)

    def following(self, network: nn.Module) -> "DiffusionPrior":
        """The same path, followed by another network."""
        return DiffusionPrior(network, self.path, self._vae, self.steps, self._null_class)

    def _step(self, noisy: Tensor, now: float, after: float, classes: Tensor | None = None) -> Tensor:
        def field(noisy: Tensor, time: float) -> Tensor:
            return self.path.direction(noisy, self.denoise(noisy, time, classes), time)

        return step(self.path, field, noisy, now, after, heun=False)


@settings
class Diffusion:
    """A diffusion or flow prior in a folder."""

    type: Literal["diffusion"] = "diffusion"
    folder: str  # folder of the prior, "asset:NAME", or "hub:OWNER/NAME@REVISION"
    variant: str | None = None  # of the weights, such as fp16; None: those without one, or the only one there is
    null_class: Whole | None = None  # of a UNet with classes: the one that means none, with which it was trained
    # the network's own class for each of the target's, in their order, where both know the same ones; None: it is asked
    # for none of its classes
    classes: Annotated[tuple[Whole, ...], Field(min_length=1)] | None = None
    steps: Annotated[int, Field(ge=1, le=1000)] = 20  # steps of a decode, one evaluation of the network each

    def load(self, device: torch.device) -> DiffusionPrior:
        """The prior. Raises GmiError if the folder is missing, of another kind or conditional, or if weights misfit.

        Where averaged weights are taken, that is said on standard error.
        """
        folder = prior_folder(self.folder)
        refuse_other_type(folder, self.type)
        part = next((name for name in PARTS if (folder / name / "config.json").is_file()), "")
        if part == PARTS[0]:
            print(f"{folder}: the averaged weights in {part} are taken.", file=sys.stderr)
        network = read_model(folder / part, NETWORKS, self.variant)
        config: Any = network.config
        self._refuse_classes(folder, config)
        if config.sample_size is None:
            raise GmiError(f"{folder} does not say the size of its images: set sample_size in its config.json.")
        if config.out_channels not in (config.in_channels, 2 * config.in_channels):
            raise GmiError(
                f"{folder} takes {config.in_channels} channels and makes {config.out_channels}: it needs an image "
                "beside the noise, and a prior that starts from noise alone is needed."
            )
        if (folder / "movq").is_dir():
            raise GmiError(f"{folder / 'movq'} is an autoencoder that cannot be used: AutoencoderKL, -Tiny or VQModel.")
        place = next((folder / name for name in AUTOENCODERS if (folder / name).is_dir()), None)
        vae = None if place is None else read_autoencoder(place, config.in_channels, self.variant)
        files = (folder / "scheduler" / "scheduler_config.json", folder / "scheduler_config.json")
        path = read_path(read_json(next((file for file in files if file.is_file()), files[0])))
        path.times(self.steps)
        vae = None if vae is None else vae.to(device)
        return DiffusionPrior(network.to(device), path, vae, self.steps, self.null_class, self.classes)

    def _refuse_classes(self, folder: Path, config: Any) -> None:
        """Raises GmiError where the network takes classes and none stands for no class, or the other way round."""
        count = config.get("num_class_embeds")
        if config.get("class_embed_type") is not None:
            raise GmiError(
                f"{folder} takes a condition ({config.get('class_embed_type')}): an unconditional prior is needed."
            )
        if count is not None and self.null_class is None:
            raise GmiError(
                f"{folder} is a prior of {count} classes of its own: name the one that means none in prior.null_class "
                "(often the last), or take an unconditional prior."
            )
        if self.null_class is not None and not self.null_class < (count or 0):
            raise GmiError(f"prior.null_class is {self.null_class}, and {folder} has {count or 0} classes.")
        most = count or config.get("num_embeds_ada_norm") or 0
        if self.classes is not None and not most:
            raise GmiError(f"{folder} is a prior without classes: leave prior.classes out.")
        if self.classes is not None and (self.null_class in self.classes or max(self.classes) >= most):
            raise GmiError(
                f"{folder} has the classes 0 to {most - 1}: name one of these in prior.classes for each of the "
                "target's, and not the one that means none."
            )


def _spread(vae: nn.Module) -> tuple[Tensor, Tensor]:
    """Mean and scale, each (C, 1, 1) or a number, of an autoencoder's latents, of which the path's are the standard."""
    config: Any = vae.config
    mean, std = (config.get(key) for key in ("latents_mean", "latents_std"))
    shift = torch.tensor(config.get("shift_factor") or 0.0)
    centre = shift if mean is None else torch.tensor(mean)[:, None, None]
    scale = torch.tensor(1.0) if std is None else torch.tensor(std)[:, None, None]
    return centre, scale / config.scaling_factor
