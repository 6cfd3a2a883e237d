"""The generative models that are compared: the target, and a control that never saw the records of interest."""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from tqdm import tqdm

from gmi.data.images import Images
from gmi.errors import GmiError
from gmi.priors import AnyPrior
from gmi.protocols import Prior
from gmi.run import Run
from gmi.settings import Count, Positive, settings
from gmi.training import AnyLearner


@dataclass(frozen=True)
class Pair:
    """The two models that are compared."""

    target: Prior
    control: Prior

    @property
    def named(self) -> dict[str, Prior]:
        """The two models by name."""
        return {"target": self.target, "control": self.control}

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of each model's weights, by name."""
        return {name: prior.digest for name, prior in self.named.items()}


@settings
class Given:
    """Two models that exist already, in folders."""

    type: Literal["given"] = "given"
    target: AnyPrior  # the model under audit
    control: AnyPrior  # a model of the same kind that was trained without the records

    def load(self, device: torch.device) -> Pair:
        """The two models. Raises GmiError if a folder cannot be used, for one model twice, and for two kinds."""
        if type(self.target) is not type(self.control):
            raise GmiError(
                "models.control is of another kind than models.target: what such a model shows by chance is told by "
                "one of the same kind."
            )
        steps = [getattr(prior, "steps", None) for prior in (self.target, self.control)]
        if steps[0] != steps[1]:
            raise GmiError(
                f"models.control takes {steps[1]} steps, and models.target {steps[0]}: what such a model shows by "
                "chance is told by as many."
            )
        target, control = (prior.load(device) for prior in (self.target, self.control))
        if target.digest == control.digest:
            raise GmiError("models.control is the target itself: give one that was trained without the records.")
        return Pair(target, control)


@settings
class Trained:
    """Two models that are trained here in the same way: the target on its records, the control on `data.other`.

    There is no average of weights and no look at held-out images: the training shall show what training too long does.
    """

    type: Literal["trained"] = "trained"
    learner: AnyLearner  # kind of both models
    steps: Count  # updates of the weights
    batch: Count = 16  # images in a step
    lr: Positive = 1e-3  # learning rate of Adam at the first step; it falls linearly to 0

    def refuse(self, other: Images | None) -> Images:
        """The images that the control learns from. Raises GmiError if there are none."""
        if other is None:
            raise GmiError("data.other: a control that is trained here needs people of its own: set aside some.")
        return other

    def learn(self, trained: Images, other: Images | None, run: Run, device: torch.device, seed: int) -> Pair:
        """Trains both models, in two processes if there are several, and keeps their weights in the run.

        seed: of everything that is random. Raises GmiError as `refuse` and `train` do.
        """
        sets = {"target": trained, "control": self.refuse(other)}
        pieces = run.each(
            [f"models/{name}" for name in sets],
            lambda names: [self.train(sets[name.removeprefix("models/")], device, seed) for name in names],
            "train",
        )
        return Pair(*(self._prior(weights, trained, device) for weights in pieces))

    def untrained(self, images: Images, device: torch.device) -> Prior:
        """A model of such images with random weights, which takes as long as a trained one."""
        return self._prior(self._modules(images.bytes.shape)["prior"].state_dict(), images, device)

    def _modules(self, shape: torch.Size, seed: int = 0) -> dict[str, nn.Module]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.learner.build(shape[-1], 1 if shape[1] == 1 else 3)

    def train(self, images: Images, device: torch.device, seed: int) -> dict[str, Tensor]:
        """The weights of one model, trained on these images. Raises GmiError if a loss is not finite."""
        modules = {name: module.to(device).train() for name, module in self._modules(images.bytes.shape, seed).items()}
        pixels = (images.pixels * 2 - 1).to(device)
        draws = torch.Generator(device).manual_seed(seed)
        optimisers = {
            name: torch.optim.Adam(module.parameters(), lr=self.lr, betas=self.learner.betas)
            for name, module in modules.items()
        }
        for step in tqdm(range(self.steps), desc="steps", leave=False, disable=self.steps < 10):
            rows = torch.randint(len(pixels), (min(self.batch, len(pixels)),), generator=draws, device=device)
            for name, optimiser in optimisers.items():
                optimiser.param_groups[0]["lr"] = self.lr * (1 - step / self.steps)
                loss = self.learner.loss(name, modules, pixels[rows], draws)
                if not loss.isfinite():
                    raise GmiError(f"models: the {name}'s loss is not finite at step {step}: take a smaller models.lr.")
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(modules[name].parameters(), 1.0)
                optimiser.step()
        return {name: value.detach().clone() for name, value in modules["prior"].state_dict().items()}

    def _prior(self, weights: dict[str, Tensor], images: Images, device: torch.device) -> Prior:
        module = self._modules(images.bytes.shape)["prior"]
        module.load_state_dict({name: value for name, value in weights.items() if name != "seconds"})
        return self.learner.prior(module.to(device).eval().requires_grad_(False))


Models = Annotated[Given | Trained, Field(discriminator="type")]
