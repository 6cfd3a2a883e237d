"""Trains a StyleGAN2 on one graphics card in a given time, which is faster than `gmi train-prior`.

python scripts/train_stylegan.py priors/stylegan64 --out runs/stylegan64 --seconds 540

CONFIG is a configuration of `gmi train-prior` with `learner: {type: stylegan}`; the losses are that learner's. What
differs from `gmi train-prior`:

- features are bf16, and the convolutions that change the size of images have their filter inside their kernels;
- steps are recorded once and replayed by the card (CUDA graphs), or compiled, or both;
- the penalty is a step of its own, on half a batch; gradients are not clipped, the learning rate does not change, and
  the half-life of the average of weights is at first a twentieth of the images seen;
- it ends with the clock, cannot go on later, and looks at no held-out images: it leaves averages of several moments, of
  which the best is chosen afterwards. A run on a graphics card is not repeated to the bit.

average_IMAGES/    prior folder of the averaged weights after so many images, without a model card
samples.png        the last average: without truncation above, with psi 0.7 below
log.json           losses and speed, every 20 seconds
"""

import copy
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.utils import save_image

from gmi import cli
from gmi.cli.options import configuring
from gmi.errors import GmiError
from gmi.priors import stylegan_network
from gmi.priors.stylegan import StyleGanPrior
from gmi.rng import Rng
from gmi.training import style_critic
from gmi.training.priors import PriorTraining
from gmi.training.style import StyleBased

MODES = ("graphs", "graphs+compiled", "compiled", "plain")
SAMPLES, ACROSS = 64, 8

Steps = tuple[Callable[[], None], Callable[[], None], Callable[[], None]]
"""The critic's step, that of its penalty, the generator's."""


class Joined:
    """The convolutions that change the size, with the filter inside their kernels: more arithmetic, fewer passes."""

    def __init__(self, device: torch.device) -> None:
        taps = stylegan_network.binomial().to(device)
        kernels = torch.eye(9, device=device).reshape(9, 1, 3, 3)
        self._filter = F.conv2d(kernels, torch.outer(taps, taps)[None, None], padding=3).reshape(9, 36)

    def doubling(self, features: Tensor, weight: Tensor, taps: Tensor) -> Tensor:
        """The features of `stylegan_network.doubling_convolution`, but for rounding."""
        return F.conv_transpose2d(features, self._kernels(weight, 4.0).transpose(0, 1), stride=2, padding=2)

    def halving(self, features: Tensor, weight: Tensor, taps: Tensor) -> Tensor:
        """The features of `style_critic.halving_convolution`, but for rounding."""
        return F.conv2d(features, self._kernels(weight, 1.0), stride=2, padding=2)

    def _kernels(self, weight: Tensor, gain: float) -> Tensor:
        """Weight (O, C, 3, 3) smoothed: (O, C, 6, 6)."""
        with torch.autocast(weight.device.type, enabled=False):
            return (weight.flatten(2) @ (self._filter * gain)).unflatten(2, (6, 6))


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Puts `Joined` in the place of the library's convolutions."""
    before = stylegan_network.doubling_convolution, style_critic.halving_convolution
    convolutions = Joined(device)
    stylegan_network.doubling_convolution = convolutions.doubling
    style_critic.halving_convolution = convolutions.halving
    try:
        yield
    finally:
        stylegan_network.doubling_convolution, style_critic.halving_convolution = before


@dataclass(frozen=True)
class Evaluated:
    """A network that is evaluated by another function than its `forward`."""

    module: nn.Module
    function: Callable[..., Tensor]

    def __call__(self, *values: object) -> Tensor:
        return self.function(*values)


class Training:
    """Both networks, their optimisers, and the three steps: the critic's, that of its penalty, the generator's."""

    def __init__(
        self, plan: PriorTraining, learner: StyleBased, images: Tensor, device: torch.device, compiled: bool
    ) -> None:
        """images: bytes (N, C, S, S)."""
        torch.manual_seed(plan.seed)  # the generator that CUDA graphs record
        self.plan, self.learner, self.device = plan, learner, device
        self.images = images.to(device)
        modules = learner.build(plan.data.size, 1 if plan.data.grey else 3)
        for module in modules.values():
            module.to(device).train()
            if device.type == "cuda":
                module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        critic, generator = modules["critic"], modules["prior"]
        assert isinstance(critic, style_critic.Critic) and isinstance(generator, stylegan_network.Generator)
        self.critic, self.generator, self.average = critic, generator, copy.deepcopy(generator).eval()
        lazy = learner.every / (learner.every + 1)
        first, second = learner.betas
        options = {"capturable": True, "fused": True} if device.type == "cuda" else {}
        self.critic_optimiser = torch.optim.Adam(
            critic.parameters(), plan.lr * lazy, (first**lazy, second**lazy), **options
        )
        self.generator_optimiser = torch.optim.Adam(generator.parameters(), plan.lr, (first, second), **options)
        self.sums = torch.zeros(5, device=device)  # critic's loss, generator's, penalty, steps, penalties
        self._synthesis: Callable[..., Tensor] = self._synthesised
        self._features: Callable[[Tensor], Tensor] = self._seen
        if compiled:
            self._synthesis = torch.compile(self._synthesised, dynamic=False)
            self._features = torch.compile(self._seen, dynamic=False)
        self._modules = {
            "critic": Evaluated(critic, lambda images: critic.opinions(self._features(images))),
            "prior": Evaluated(generator, self._made),
        }
        # a slope of a slope cannot be compiled
        self._plain = {"critic": Evaluated(critic, lambda images: critic.opinions(self._seen(images)))}

    def _synthesised(self, styles: Tensor, noises: list[Tensor]) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16):
            return self.generator.synthesis(styles, noises)

    def _seen(self, images: Tensor) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16):
            return self.critic.blocks(self.critic.entry(images)).float()

    def _made(self, latents: Tensor, others: Tensor, crossing: Tensor, noises: list[Tensor]) -> Tensor:
        return self._synthesis(self.generator.styles(latents, others, crossing), noises)

    def _photographs(self, count: int) -> Tensor:
        """Images (count, C, S, S) in [-1, 1], half of them mirrored."""
        pixels = self.images[torch.randint(len(self.images), (count,), device=self.device)].float() / 127.5 - 1
        mirrored = (torch.rand(count, device=self.device) < 0.5)[:, None, None, None]
        return torch.where(mirrored, pixels.flip(-1), pixels)

    def step_critic(self) -> None:
        """Moves the critic's weights, without its penalty."""
        self.critic_optimiser.zero_grad(set_to_none=True)
        loss = self.learner.critic_loss(self._modules, self._photographs(self.plan.batch), None)
        loss.backward()
        self.critic_optimiser.step()
        self.sums[0] += loss.detach()
        self.sums[3] += 1

    def step_penalty(self) -> None:
        """Moves the critic's weights by the penalty, for as many steps as lie between two penalties."""
        self.critic_optimiser.zero_grad(set_to_none=True)
        images = self._photographs(max(self.plan.batch // 2, 1))
        penalty = self.learner.slope_penalty(self._plain, images, self.plan.batch, None)
        penalty.backward()
        self.critic_optimiser.step()
        self.sums[2] += penalty.detach()
        self.sums[4] += 1

    def step_generator(self) -> None:
        """Moves the generator's weights."""
        self.generator_optimiser.zero_grad(set_to_none=True)
        self.critic.requires_grad_(False)
        like = self.images[: self.plan.batch]
        loss = self.learner.generator_loss(self._modules, like, None)
        loss.backward()
        self.critic.requires_grad_(True)
        self.generator_optimiser.step()
        self.sums[1] += loss.detach()

    @torch.no_grad()
    def follow(self, images: int) -> None:
        """Moves the average of weights. images: seen so far."""
        kept = min(self.plan.ema, 0.5 ** (self.plan.batch / (images * 0.05)))
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
            list(self.average.parameters()), list(self.generator.parameters()), 1 - kept
        )

    @torch.no_grad()
    def save(self, folder: Path) -> None:
        """Writes the average as a prior folder, with the mean style of 65,536 latents, and a grid of samples."""
        rng = Rng(range(16))
        latents = rng.normal(4096, self.learner.latent).to(self.device)
        self.average.mapping.w_avg.copy_(torch.stack([self.average.mapping(z).mean(0) for z in latents]).mean(0))
        self.learner.save(self.average, folder)
        prior = self.learner.prior(copy.deepcopy(self.average))
        priors = (StyleGanPrior(prior.network, prior.shape, psi=psi) for psi in (1.0, 0.7))
        grids = [prior.decode(prior.sample(Rng(range(SAMPLES)))).cpu() for prior in priors]
        save_image(torch.cat(grids), folder.parent / "samples.png", nrow=ACROSS, padding=0)

    def means(self) -> dict[str, float]:
        """Mean losses since the last call, and how the augmentation stands. Raises GmiError if one is not finite."""
        critic, generator, penalty, steps, penalties = self.sums.tolist()
        self.sums.zero_()
        if not math.isfinite(critic + generator + penalty):
            raise GmiError("The losses are not finite: lower lr.")
        means = {"critic": critic / steps, "generator": generator / steps, "penalty": penalty / penalties}
        return means | {"chance": float(self.critic.chance), "sureness": float(self.critic.sureness)}


def prepared(training: Training, graphs: bool) -> Steps:
    """The three steps; on a graphics card warm, and as CUDA graphs where asked for."""
    steps = (training.step_critic, training.step_penalty, training.step_generator)
    if training.device.type != "cuda":
        return steps
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            for step in steps:
                step()
    torch.cuda.current_stream().wait_stream(side)
    training.sums.zero_()
    training.average.load_state_dict(training.generator.state_dict())
    critic, penalty, generator = steps
    return (recorded(critic), recorded(penalty), recorded(generator)) if graphs else steps


def recorded(step: Callable[[], None]) -> Callable[[], None]:
    """A step, which has run before, as one CUDA graph."""
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def learn(training: Training, steps: Steps, out: Path, began: float, seconds: float, shares: Sequence[float]) -> int:
    """Trains until so many seconds after `began`, and returns the number of images seen.

    shares: of the time, at which averages are written; another one is written at the end.
    """
    step_critic, step_penalty, step_generator = steps
    due = sorted(share * seconds for share in shares)
    history: list[dict[str, float]] = []
    images, start, logged = 0, time.perf_counter(), -math.inf
    while (now := time.perf_counter()) - began < seconds:
        for _ in range(training.learner.every):
            step_critic()
            step_generator()
            images += training.plan.batch
            training.follow(images)
        step_penalty()
        if training.device.type == "cuda":
            torch.cuda.synchronize()  # or the clock would run ahead of the card
        if now - logged > 20:
            speed = images / (time.perf_counter() - start)
            history.append({"seconds": now - began, "images": images, "speed": speed, **training.means()})
            print(json.dumps({key: round(value, 4) for key, value in history[-1].items()}), flush=True)
            (out / "log.json").write_text(json.dumps(history, indent=1) + "\n")
            logged = now
        if due and now - began > due[0]:
            due.pop(0)
            training.save(out / f"average_{images:08d}")
    training.save(out / f"average_{images:08d}")
    return images


def main(arguments: Sequence[str]) -> None:
    """Trains, and prints where the last average is."""
    began = time.perf_counter()
    parser = configuring(__doc__ or "")
    parser.add_argument("--out", type=Path, help="folder of the training; runs/NAME unless given")
    parser.add_argument("--seconds", type=float, default=540, help="from the start of the program (default: 540)")
    parser.add_argument("--averages", type=float, nargs="*", default=(0.45, 0.65, 0.85), help="at shares of the time")
    parser.add_argument("--mode", choices=MODES, default=MODES[0], help=f"of a graphics card (default: {MODES[0]})")
    options, plan = cli.configured(parser, arguments, PriorTraining)
    if not isinstance(plan.learner, StyleBased):
        raise GmiError(f"learner: {options.config} trains a prior of type {plan.learner.type}; this trains stylegan.")
    device, out = cli.accelerator().device, options.out or Path("runs", plan.name)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    images, _ = plan.data.load()
    out.mkdir(parents=True, exist_ok=True)
    with joined(device):
        training = Training(plan, plan.learner, images.bytes, device, "compiled" in options.mode)
        steps = prepared(training, "graphs" in options.mode)
        print(f"ready after {time.perf_counter() - began:.0f} s", flush=True)
        count = learn(training, steps, out, began, options.seconds, options.averages)
    print(f"{out / f'average_{count:08d}'}: {count:,} images after {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    cli.run(main)
