"""The learner of StyleGAN2 priors, next to those of `gmi.training.learners`."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from gmi.errors import GmiError
from gmi.priors.stylegan import StyleGanPrior, StyleGanShape
from gmi.priors.stylegan_network import Generator, noise_sizes
from gmi.settings import Count, Positive, Share, settings
from gmi.training.style_critic import Critic, augmented


@dataclass(frozen=True)
class Draws:
    """Whatever is random in a batch of made images: the arguments of `Generator.forward`."""

    latents: Tensor  # z (N, Z)
    others: Tensor  # z (N, Z), whose styles take over
    crossing: Tensor  # (N,), the layer from which on they do
    noises: list[Tensor]  # (N, 1, H, W) for each convolution


@settings
class StyleBased:
    """StyleGAN2 under the non-saturating loss with the R1 penalty, on few images: with adaptive augmentation.

    Karras et al., StyleGAN2, CVPR 2020, sec. 3 and 4; Mescheder et al., Which Training Methods for GANs do actually
    Converge?, ICML 2018, eq. 9; Karras et al., Training Generative Adversarial Networks with Limited Data ("ADA"),
    NeurIPS 2020.

    Differs from the papers: no regularisation of path lengths; the penalty is on the slope at the augmented image, and
    comes with the loss rather than in a step of its own; one learning rate for both networks; gradients are clipped.
    """

    type: Literal["stylegan"] = "stylegan"
    latent: Count = 256  # numbers in a latent z
    width: Count = 256  # numbers in a style w
    layers: Count = 4  # layers of the mapping from z to w
    channels: tuple[Count, ...] = (320, 320, 320, 192, 96)  # of the generator by resolution, 4 px first
    critic: tuple[Count, ...] = (384, 384, 256, 128, 64)  # channels of the critic by resolution, 4 px first
    penalty: Positive | None = None  # gamma, the weight of R1; None: 0.0002 size ** 2 / batch, ADA's rule (app. C)
    every: Count = 16  # steps between two penalties, each so many times as great
    mixing: Share = 0.9  # share of images made of two latents, from a random layer on of the second
    wanted: Share = 0.6  # mean sign of the critic's opinions of photographs; above it augmentation grows
    pace: Count = 500_000  # images in which the chance of each augmentation can go from 0 to 1
    betas: tuple[float, float] = (0.0, 0.99)  # Adam's betas

    def build(self, size: int, colours: Literal[1, 3]) -> dict[str, nn.Module]:
        """The critic and the prior. Raises GmiError if the channels are not those of images of this size."""
        if len(self.critic) != len(self.channels):
            raise GmiError("learner.critic and learner.channels are of the same resolutions: give them equal lengths.")
        return {"critic": Critic(self.critic, colours), "prior": self._shape(size, colours).build()}

    def loss(self, name: str, modules: dict[str, Any], images: Tensor, draws: torch.Generator) -> Tensor:
        """The scalar that the module `name` minimises; the critic's step adapts the augmentation."""
        if name == "prior":
            return self.generator_loss(modules, images, draws)
        due = int(_critic(modules).step) % self.every == 0
        loss = self.critic_loss(modules, images, draws)
        return loss + self.slope_penalty(modules, images, len(images), draws) if due else loss

    def generator_loss(self, modules: dict[str, Any], images: Tensor, draws: torch.Generator | None) -> Tensor:
        """The generator's loss (), over as many made images as `images` has. draws: None: torch's own generator."""
        made = augmented(self._made(modules, images, draws), _critic(modules).chance, draws)
        return F.softplus(-modules["critic"](made)).mean()

    def critic_loss(self, modules: dict[str, Any], images: Tensor, draws: torch.Generator | None) -> Tensor:
        """The critic's loss () without its penalty; `step`, `sureness` and `chance` of the critic move."""
        critic = _critic(modules)
        with torch.no_grad():
            made = augmented(self._made(modules, images, draws), critic.chance, draws)
            photographs = augmented(images, critic.chance, draws)
        opinions = modules["critic"](photographs)
        loss = (F.softplus(-opinions) + F.softplus(modules["critic"](made))).mean()
        critic.adapt(opinions.detach(), self.wanted, self.pace)
        return loss

    def slope_penalty(
        self, modules: dict[str, Any], images: Tensor, batch: int, draws: torch.Generator | None
    ) -> Tensor:
        """R1 () for all the steps between two penalties. batch: images in a step, for ADA's rule."""
        photographs = augmented(images, _critic(modules).chance, draws).detach().requires_grad_()
        (slope,) = torch.autograd.grad(modules["critic"](photographs).sum(), photographs, create_graph=True)
        gamma = 0.0002 * images.shape[-1] ** 2 / batch if self.penalty is None else self.penalty
        return self.every * gamma / 2 * slope.float().square().sum((1, 2, 3)).mean()

    def draw(self, count: int, device: torch.device, draws: torch.Generator | None) -> Draws:
        """What `count` images are made of."""

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=draws, device=device)

        def uniform() -> Tensor:
            return torch.rand(count, generator=draws, device=device)

        layers = 2 * len(self.channels)
        crossing = torch.where(uniform() < self.mixing, (1 + uniform() * (layers - 1)).long(), layers)
        noises = [normal(count, 1, size, size) for size in noise_sizes(len(self.channels))]
        return Draws(normal(count, self.latent), normal(count, self.latent), crossing, noises)

    def prior(self, module: nn.Module) -> StyleGanPrior:
        """The prior of the module "prior", for looks at its samples."""
        assert isinstance(module, Generator)
        return StyleGanPrior(module, self._shape_of(module))

    def save(self, module: nn.Module, folder: Path) -> None:
        """Writes the module "prior" as a prior folder, with weights in half precision."""
        assert isinstance(module, Generator)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(asdict(self._shape_of(module)), indent=1) + "\n")
        weights = {key: value.half().contiguous() for key, value in module.state_dict().items()}
        save_file(weights, folder / "model.safetensors")

    def _made(self, modules: dict[str, Any], images: Tensor, draws: torch.Generator | None) -> Tensor:
        """As many colours as images, each with noise of its own."""
        drawn = self.draw(len(images), images.device, draws)
        return modules["prior"](drawn.latents, drawn.others, drawn.crossing, drawn.noises)

    def _shape_of(self, module: Generator) -> StyleGanShape:
        last = module.synthesis.blocks()[-1][0]
        return self._shape(module.synthesis.sizes[-1], last.torgb.weight.shape[0])

    def _shape(self, size: int, colours: Any) -> StyleGanShape:
        return StyleGanShape(
            latent=self.latent,
            width=self.width,
            layers=self.layers,
            channels=self.channels,
            size=size,
            colours=colours,
        )


def _critic(modules: dict[str, Any]) -> Critic:
    """The critic itself: where processes share it, it is wrapped."""
    return getattr(modules["critic"], "module", modules["critic"])
