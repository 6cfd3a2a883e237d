"""Samples of the target's own classes: the prior learns them from what the target says of public images.

The target is asked once about photographs and samples; of each class the images of which it is surest are kept, an
image perhaps for several (the top-n selection of PLG-MI: Yuan et al., Pseudo Label-Guided Model Inversion Attack via
Conditional GAN, AAAI 2023). They teach the prior's network the class as a condition. Diffusion models are
conditioned so by Diff-MI (Li et al., Model Inversion Attacks Through Target-Specific Conditional Diffusion Models,
2024), and from labels alone by CDM (Liu et al., Unstoppable Attack: Label-Only Model Inversion via Conditional
Diffusion Model, IEEE TIFS 2024). Sampling is classifier-free guidance: the network's output without a class is led
beyond that with it (Ho & Salimans, Classifier-Free Diffusion Guidance, 2022, eq. 6; a tenth of the labels are dropped
in training, alg. 1). It asks nothing more, unless `guide` bends the path by the target's gradient, too.

Differs from the papers: a network that is there is tuned, as a whole, where the papers train one from nothing or tune
a part; its embeddings of classes start at zero, that is, at the unconditional prior, where a class without an image
stays; times are drawn evenly from the path; batches are balanced over classes; where there are labels alone, images
come first whose mirror images have the label, too; Diff-MI's search with the target's gradients is that of `guide`;
`guidance` is 1 + w of eq. 6: 1 is conditional, 0 unconditional.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmi.errors import GmiError
from gmi.priors.diffusion import DiffusionPrior
from gmi.protocols import Candidates, ComparingOracle, NoisePath, ScoreOracle, Trace, VerificationOracle
from gmi.rng import Rng, seed_of
from gmi.search.guided import Guided
from gmi.search.selection import opinion, pool_scores, preselect
from gmi.search.signature import Passes
from gmi.search.strangers import Strangers, questions
from gmi.settings import Count, NonNegative, Positive, Rate, Whole, settings
from gmi.training.precision import learning
from gmi.views import at_least_single, grey

_BATCH = 50  # images that are asked about, or encoded, at once
_TAKEN = 0.25  # probability above which labels alone have named the class, for an image or its mirror image
_CLIP = 1.0  # greatest norm of a gradient


@settings
class Conditional:
    """Classifier-free guidance of a prior that has learnt the target's classes from its answers."""

    type: Literal["conditional"] = "conditional"
    questions: Count = 2500  # images that the target is asked about
    # photographs to ask about first, of people whom the target does not know; samples of the prior come after them
    photographs: Strangers | None = None
    mirrored: bool = True  # ask about each one's mirror image, too, which tells sure labels apart: twice the queries
    top: Count = 30  # images that stand for each class; from labels alone, at most these
    steps: Whole = 2000  # updates of the network's weights
    batch: Count = 64  # images in an update
    lr: Positive = 1e-4  # learning rate of AdamW, which falls linearly to 0
    class_lr: Positive = 1e-2  # the same for the embeddings of classes, which start at zero
    dropped: Rate = 0.1  # share of images that are shown without their class
    guidance: NonNegative = 3.0  # 0: unconditional samples; 1: conditional ones; above: more typical of the class
    path_steps: Count = 20  # steps along the prior's path, by Euler's method; `guide` has its own
    guide: Guided | None = None  # search with the target's gradients along the conditional path; None: none

    @property
    def shared(self) -> int:
        """Queries of `prepare`, which all classes share."""
        return self.questions * (1 + self.mirrored)

    def queries(self, prior: DiffusionPrior) -> int:
        """Queries of the target for each candidate."""
        return self.walk.queries(prior)

    def passes(self, prior: DiffusionPrior) -> Passes:
        """Evaluations of the prior's network for each candidate: two, with a class and without, for one of the path."""
        both = 1 if self.guidance in (0, 1) else 2
        alone, steep = self.walk.passes(prior)
        return Passes(both * alone, both * steep)

    def parts(self, oracle: VerificationOracle | None) -> list[tuple[Any, VerificationOracle | None]]:
        """The search with the target's gradients, which needs these."""
        return [] if self.guide is None else [(self.guide, oracle)]

    @property
    def walk(self) -> Guided:
        """The way along the path; without `guide` the target has no part in it."""
        return self.guide or Guided(steps=self.path_steps, heun=False, strength=0.0)

    def prepare(self, oracle: VerificationOracle, prior: DiffusionPrior, rng: Rng) -> dict[str, Tensor]:
        """The weights of the conditional network, and `known` (K,): which classes it has been shown.

        Raises GmiError if the prior's network cannot learn classes, or photographs cannot be used.
        """
        network = prior.conditional(oracle.people)
        seed = int(rng.uniform(1)[0, 0] * 2**24)
        drawn = Rng([seed_of(seed, "question", number) for number in range(self.questions)])
        images = questions(self.photographs, prior, drawn)[: self.questions]
        device = prior.sample(Rng([0])).device
        ask = pool_scores if self.mirrored else opinion
        scores = torch.cat([ask(oracle, batch.to(device).float() / 255).cpu() for batch in images.split(_BATCH)])
        chosen = preselect(scores, torch.arange(oracle.people), self.top)
        counts = torch.full((oracle.people,), chosen.shape[1])
        if not isinstance(oracle, ScoreOracle | ComparingOracle):
            counts = (scores.exp() > _TAKEN).sum(0).clamp_max(chosen.shape[1])
        used, rows = chosen.unique(return_inverse=True)
        clean = _encoded(prior, images[used], device)
        draws = torch.Generator().manual_seed(seed_of(seed, "steps"))
        with learning(device):
            self._tune(network.train(), prior.path, clean, rows, counts, draws)
        state = {name: value.contiguous() for name, value in network.state_dict().items()}
        if not all(value.isfinite().all() for value in state.values()):
            raise GmiError("The prior's weights are no longer finite once it has learnt the classes: lower search.lr.")
        return state | {"known": counts > 0}

    def taught(self, learned: Mapping[str, Tensor]) -> "Taught":
        """The search with the network that has learnt this."""
        return Taught(self, learned)

    def __call__(
        self,
        oracle: VerificationOracle,
        prior: DiffusionPrior,
        latents: Tensor,
        classes: Tensor,
        rng: Rng,
        trace: Trace | None = None,
    ) -> Candidates:
        raise GmiError("The prior must learn first: search.taught(search.prepare(oracle, prior, rng)).")

    def _tune(
        self, network: nn.Module, path: NoisePath, clean: Tensor, rows: Tensor, counts: Tensor, draws: torch.Generator
    ) -> None:
        """Trains the network.

        Args:
            network: takes `class_labels` (B,).
            path: the network's.
            clean: latents (2, M, C, H, W) of images and of their mirror images.
            rows: numbers (K, top) of the images of each class, in M.
            counts: how many of these are the class's (K,), from the first on.
            draws: on the CPU.
        """
        known, batch = counts.nonzero().squeeze(1), self.batch
        levels = torch.tensor([path.levels((step + 1) / path.timesteps) for step in range(path.timesteps)])
        stamps = torch.tensor([path.stamp((step + 1) / path.timesteps) for step in range(path.timesteps)])
        gains = torch.tensor([path.gain((step + 1) / path.timesteps) for step in range(path.timesteps)])
        optimiser = torch.optim.AdamW(self._groups(network))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / max(1, self.steps))
        for _ in range(self.steps if len(known) else 0):
            labels = known[torch.randint(len(known), (batch,), generator=draws)]
            place, drop = torch.rand(2, batch, generator=draws)
            images = rows[labels, (place * counts[labels]).long()]
            mirror = torch.randint(2, (batch,), generator=draws)
            times = torch.randint(path.timesteps, (batch,), generator=draws)
            noise = torch.randn(batch, *clean.shape[2:], generator=draws).to(clean)
            labels = torch.where(drop < self.dropped, len(counts), labels)
            wanted = clean[mirror.to(clean.device), images.to(clean.device)]
            signal, level = levels[times].T.to(clean)[:, :, None, None, None]
            output = network(
                gains[times].to(clean)[:, None, None, None] * (signal * wanted + level * noise),
                stamps[times].to(clean.device),
                class_labels=labels.to(clean.device),
                return_dict=False,
            )[0][:, : wanted.shape[1]]
            optimiser.zero_grad()
            F.mse_loss(output.float(), path.output(wanted, noise, signal, level)).backward()
            nn.utils.clip_grad_norm_(network.parameters(), _CLIP)
            optimiser.step()
            schedule.step()

    def _groups(self, network: nn.Module) -> list[dict[str, Any]]:
        """The network's parameters by their learning rates."""
        named = {name: value for name, value in network.named_parameters() if not name.startswith("class_embedding.")}
        embeddings = [value for name, value in network.named_parameters() if name not in named]
        return [{"params": [*named.values()], "lr": self.lr}, {"params": embeddings, "lr": self.class_lr}]


@dataclass(frozen=True)
class Taught:
    """A conditional search whose prior has learnt the target's classes."""

    plan: Conditional
    learned: Mapping[str, Tensor]

    def __call__(
        self,
        oracle: Any,
        prior: DiffusionPrior,
        latents: Tensor,
        classes: Tensor,
        rng: Rng,
        trace: Trace | None = None,
    ) -> Candidates:
        """Candidates (N) from noise (N, C, H, W); their latents are clean, so `prior.image` decodes them."""
        known = self.learned["known"].to(classes.device)
        network = prior.conditional(len(known))
        network.load_state_dict({name: self.learned[name] for name in network.state_dict()})
        labels = torch.where(known[classes], classes, len(known))
        steered = prior.following(Steered(network, labels, len(known), self.plan.guidance))
        return self.plan.walk(oracle, steered, latents, classes, rng, trace)


class Steered(nn.Module):
    """A conditional network for one batch of classes, with diffusers' calling convention of an unconditional one."""

    def __init__(self, network: nn.Module, labels: Tensor, none: int, guidance: float) -> None:
        """labels: of the batch (N,). none: the label that stands for no class."""
        super().__init__()
        self.network, self.config, self.guidance = network, network.config, guidance
        self._labels, self._none = labels, torch.full_like(labels, none)

    def forward(self, noisy: Tensor, stamps: Tensor, return_dict: bool = False) -> tuple[Tensor]:
        """The output without a class and `guidance` times what the class changes in it: (N, C, H, W)."""
        if self.guidance in (0, 1):
            return self.network(noisy, stamps, (self._none, self._labels)[int(self.guidance)], return_dict=False)
        labels, twice = torch.cat([self._none, self._labels]), noisy.repeat(2, 1, 1, 1)
        output = at_least_single(self.network(twice, stamps.repeat(2), labels, return_dict=False)[0])
        without, named = output.chunk(2)
        return (without + self.guidance * (named - without),)


@torch.no_grad()
def _encoded(prior: DiffusionPrior, images: Tensor, device: torch.device) -> Tensor:
    """Clean latents (2, N, ...) of images (N, C, H, W), given as bytes, and of their mirror images, on the device."""
    colours, *size = prior.image(prior.sample(Rng([0]))).shape[1:]
    parts = []
    for batch in images.split(_BATCH):
        pixels = batch.to(device).float() / 255
        pixels = grey(pixels) if colours == 1 else pixels.expand(-1, colours, -1, -1)
        if list(pixels.shape[2:]) != size:
            pixels = F.interpolate(pixels, size, mode="bilinear", antialias=True)
        parts.append(torch.stack([prior.clean(pixels), prior.clean(pixels.flip(-1))]))
    return torch.cat(parts, 1)
