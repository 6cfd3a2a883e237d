"""Learners of priors: a denoising network (flow matching, DDPM), or a DCGAN with its critic.

A learner is its hyper-parameters. It builds the modules that are trained, in the order in which they take their steps;
the averaged weights of the module "prior" become a prior folder.
"""

import json
from dataclasses import asdict
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from gmi.errors import GmiError
from gmi.priors.diffusers_folder import read_path
from gmi.priors.diffusion import Diffusion, DiffusionPrior
from gmi.priors.gan import Dcgan, DcganShape
from gmi.protocols import NoisePath, Prior
from gmi.settings import Count, Positive, Share, settings

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler


class Learner(Protocol):
    """A kind of prior, and how it is trained. Images are (N, C, S, S) in [-1, 1]."""

    @property
    def betas(self) -> tuple[float, float]:
        """Adam's betas."""
        ...

    def build(self, size: int, colours: Literal[1, 3]) -> dict[str, nn.Module]:
        """The modules by name, with random weights, for images of S = size and C = colours.

        Raises GmiError if the hyper-parameters do not allow that size.
        """
        ...

    def loss(self, name: str, modules: dict[str, Any], images: Tensor, draws: torch.Generator) -> Tensor:
        """The scalar that the module `name` minimises, averaged over images; everything random comes from `draws`."""
        ...

    def prior(self, module: nn.Module) -> Prior:
        """The prior of this module "prior", for looks at its samples."""
        ...

    def save(self, module: nn.Module, folder: Path) -> None:
        """Writes the module "prior" as a prior folder, with weights in half precision."""
        ...


@settings
class Denoising:
    """A UNet of diffusers that learns to separate noise from image.

    "flow": it predicts noise - clean from (1 - t) clean + t noise, where logit t is normal (Lipman et al., Flow
    Matching, ICLR 2023, eq. 23; Esser et al., Stable Diffusion 3, ICML 2024, sec. 3.1). "ddpm": it predicts the noise
    at one of 1,000 timesteps (Ho et al., NeurIPS 2020, alg. 1).

    Differs from the papers: time runs from image to noise, as in diffusers; the logit's mean is SFMI's; gradients are
    clipped.
    """

    type: Literal["flow", "ddpm"]  # flow matching, or DDPM
    channels: tuple[Count, ...] = (64, 128, 256, 256)  # of each level, which halves the size of its images
    layers: Count = 2  # residual blocks per level
    attention: tuple[int, ...] = (2, 3)  # levels with attention, counted from 0
    groups: Count = 16  # groups of the group norms
    logit: tuple[float, Positive] = (0.8, 0.8)  # mean and standard deviation of logit t; above 0: more noise
    uniform: Share = 0.0  # share of flow's times drawn evenly from [0, 1], so that late steps are learnt, too
    steps: Count = 20  # steps along the path for the looks during training
    start: str | None = None  # prior folder with a network of this shape, which goes on learning; None: random weights
    betas: tuple[float, float] = (0.9, 0.999)  # Adam's betas

    def build(self, size: int, colours: Literal[1, 3]) -> dict[str, nn.Module]:
        from diffusers.models.unets.unet_2d import UNet2DModel

        if any(level not in range(len(self.channels)) for level in self.attention):
            raise GmiError(f"learner.attention: the levels of learner.channels are 0 to {len(self.channels) - 1}.")
        if size % 2 ** (len(self.channels) - 1):
            raise GmiError(
                f"data.size: {size} px cannot be halved {len(self.channels) - 1} times, as learner.channels with "
                f"{len(self.channels)} levels wants: take a multiple of {2 ** (len(self.channels) - 1)}."
            )
        kinds = ["Attn" if level in self.attention else "" for level in range(len(self.channels))]
        try:
            network = UNet2DModel(
                sample_size=size,
                in_channels=colours,
                out_channels=colours,
                block_out_channels=self.channels,
                layers_per_block=self.layers,
                down_block_types=tuple(f"{kind}DownBlock2D" for kind in kinds),
                up_block_types=tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)),
                norm_num_groups=self.groups,
                add_attention=bool(self.attention),
            )
        except ValueError as error:
            raise GmiError(
                f"learner: diffusers cannot make this UNet ({error}); learner.channels are multiples of learner.groups."
            ) from error
        if self.start is not None:
            self._begin(network, self.start)
        return {"prior": network}

    def loss(self, name: str, modules: dict[str, Any], images: Tensor, draws: torch.Generator) -> Tensor:
        noise = torch.randn(images.shape, generator=draws, device=images.device)
        scheduler: Any = self._scheduler
        if self.type == "flow":
            mean, spread = self.logit
            time = torch.sigmoid(mean + spread * torch.randn(len(images), generator=draws, device=images.device))
            if self.uniform > 0:
                even, pick = torch.rand(2, len(images), generator=draws, device=images.device)
                time = torch.where(pick < self.uniform, even, time)
            noisy, wanted = torch.lerp(images, noise, time[:, None, None, None]), noise - images
            stamps = time * scheduler.config.num_train_timesteps
        else:
            count = scheduler.config.num_train_timesteps
            stamps = torch.randint(count, (len(images),), generator=draws, device=images.device)
            noisy, wanted = scheduler.add_noise(images, noise, stamps), noise
        return F.mse_loss(modules["prior"](noisy, stamps, return_dict=False)[0].float(), wanted)

    def prior(self, module: nn.Module) -> Prior:
        return DiffusionPrior(module, self._path, steps=self.steps)

    def save(self, module: nn.Module, folder: Path) -> None:
        network: Any = module
        network.half().save_pretrained(folder / "unet")
        self._scheduler.save_pretrained(folder / "scheduler")

    def _begin(self, network: nn.Module, folder: str) -> None:
        try:
            prior = Diffusion(folder=folder).load(torch.device("cpu"))
        except GmiError as error:
            raise GmiError(f"learner.start: {error}") from error
        if prior.path != self._path:
            raise GmiError(f"learner.start: {folder} is a prior along another path than type {self.type}.")
        networks: tuple[Any, ...] = (network, prior.network)
        sizes = [module.config.sample_size for module in networks]  # no weight shows the size
        try:
            network.load_state_dict(prior.network.state_dict())
        except RuntimeError:
            sizes = []
        if len(set(sizes)) != 1:
            raise GmiError(
                f"learner.start: {folder} holds a network of another shape: give learner and data.size its own."
            )

    @property
    def _path(self) -> NoisePath:
        return read_path({**self._scheduler.config, "_class_name": type(self._scheduler).__name__})

    @cached_property
    def _scheduler(self) -> "DDPMScheduler | FlowMatchEulerDiscreteScheduler":
        from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
        from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

        return FlowMatchEulerDiscreteScheduler() if self.type == "flow" else DDPMScheduler()


@settings
class Adversarial:
    """A DCGAN (Radford et al., ICLR 2016) under the non-saturating loss with the R1 penalty (Mescheder et al., Which
    Training Methods for GANs do actually Converge?, ICML 2018, eq. 9).

    Differs from the papers: the critic has no batch norm, because the penalty is taken image by image; gradients are
    clipped.
    """

    type: Literal["gan"] = "gan"
    latent: Count = 100  # dimensions of the latents
    channels: tuple[Count, ...] = (512, 256, 128, 64)  # of each generator layer; the critic has them in reverse
    penalty: Positive = 1.0  # gamma, the weight of R1
    betas: tuple[float, float] = (0.5, 0.99)  # Adam's betas

    def build(self, size: int, colours: Literal[1, 3]) -> dict[str, nn.Module]:
        shape = DcganShape(type="dcgan", latent=self.latent, channels=self.channels, size=size, colours=colours)
        generator = Dcgan(shape).requires_grad_(True)
        widths = (colours, *reversed(self.channels))
        layers = [
            part
            for before, after in pairwise(widths)
            for part in (nn.Conv2d(before, after, 4, 2, 1), nn.LeakyReLU(0.2))
        ]
        critic = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4), nn.Flatten(0))
        for part in (*generator.modules(), *critic.modules()):
            if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(part.weight, std=0.02)
        return {"critic": critic, "prior": generator}

    def loss(self, name: str, modules: dict[str, Any], images: Tensor, draws: torch.Generator) -> Tensor:
        latents = torch.randn(len(images), self.latent, generator=draws, device=images.device)
        if name == "prior":
            return F.softplus(-modules["critic"](modules["prior"](latents))).mean()
        with torch.no_grad():
            samples = modules["prior"](latents)
        real = images.requires_grad_()
        opinion = modules["critic"](real)
        (slope,) = torch.autograd.grad(opinion.sum(), real, create_graph=True)
        penalty = self.penalty / 2 * slope.square().sum((1, 2, 3)).mean()
        return (F.softplus(-opinion) + F.softplus(modules["critic"](samples))).mean() + penalty

    def prior(self, module: nn.Module) -> Prior:
        assert isinstance(module, Dcgan)
        return module

    def save(self, module: nn.Module, folder: Path) -> None:
        assert isinstance(module, Dcgan)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(asdict(module.shape), indent=1) + "\n")
        weights = {
            key: value.half() if value.is_floating_point() else value for key, value in module.state_dict().items()
        }
        save_file(weights, folder / "model.safetensors")
