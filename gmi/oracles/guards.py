"""What hardens a target where it answers: changes of its output before anybody sees it.

Each is opened for a target, and makes of logits (N, K) float64, and the bytes (N, C, H, W) that were asked about, other
logits (N, K). What is random is a function of the 8-bit image and of a secret: asking again does not average it away.
"""

import hmac
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gmi.assets.catalogue import resolve
from gmi.errors import GmiError
from gmi.rng import Rng
from gmi.settings import Positive, settings
from gmi.targets.module import Target

Guard = Callable[[Tensor, Tensor], Tensor]


@settings
class Noise:
    """Gaussian noise on the logits. scale: its standard deviation."""

    type: Literal["noise"] = "noise"
    scale: Positive

    def __str__(self) -> str:
        return f"noise {self.scale:g}"

    def open(self, target: Target, secret: bytes) -> Guard:
        people = len(target.classes)
        return lambda logits, images: logits + self.scale * drawn(images, secret).normal(people)


@settings
class Stealthy:
    """Scores as near as may be to what the target usually says of a person, but not far from its own.

    Stealthy Shield Defense (SSD), ICLR 2025: with f the probabilities, y drawn from softmax(f / temperature) and q what
    is usual for y, the answer is argmin KL(p | q) where |p - f|_1 <= epsilon H(f).

    Differs from the paper: what is usual comes from training images, for the validation images are the judges'.

    profile: safetensors file that `pipelines/train_target.py` writes beside the weights: what is usual (K, K). A
        comparison has its own.
    """

    type: Literal["stealthy"] = "stealthy"
    profile: str | None = None
    epsilon: Positive = 0.5
    temperature: Positive = 0.1

    def __str__(self) -> str:
        return f"stealthy {self.epsilon:g}" + ("" if self.temperature == 0.1 else f" at {self.temperature:g}")

    def open(self, target: Target, secret: bytes) -> Guard:
        """Raises GmiError where the profile is missing, or another target's."""
        people, usual = len(target.classes), self._usual(target)

        def guard(logits: Tensor, images: Tensor) -> Tensor:
            scores = logits.softmax(1)
            chances = (scores / self.temperature).softmax(1).cumsum(1)
            draws = drawn(images, secret).uniform(1).double()
            meant = torch.searchsorted(chances, draws).clamp_max(people - 1).squeeze(1)
            room = self.epsilon * torch.special.entr(scores).sum(1)
            return nearest(scores, usual[meant], room).clamp_min(1e-300).log()

        return guard

    def _usual(self, target: Target) -> Tensor:
        """(K, K) of the profile."""
        if self.profile is None:
            raise GmiError("stealthy: name the profile that pipelines/train_target.py writes beside the weights.")
        path = resolve(self.profile)
        try:
            with safe_open(path, "pt") as file:
                whose, usual = (file.metadata() or {}).get("target"), file.get_tensor("profile").double()
        except (OSError, SafetensorError) as error:
            raise GmiError(f"{path} cannot be read as a profile ({error}): train the target again.") from error
        if whose != target.digest:
            raise GmiError(f"{path} is the profile of another target: train this one again, which writes its own.")
        return usual


def nearest(scores: Tensor, usual: Tensor, room: Tensor) -> Tensor:
    """argmin KL(p | usual) over distributions (N, K) with |p - scores|_1 <= room (N,); usual is positive.

    As much mass, room / 2, moves up from the smallest ratios of scores to usual to one level, as moves down from the
    largest: p = clip(scores, low usual, high usual).
    """
    half = room[:, None] / 2
    low = _level(scores, usual, half)
    high = -_level(-scores, usual, half)
    clipped = torch.maximum(torch.minimum(scores, high * usual), low * usual)
    near = (scores - usual).abs().sum(1, keepdim=True) <= 2 * half
    return torch.where(near, usual, clipped)


def _level(scores: Tensor, usual: Tensor, mass: Tensor) -> Tensor:
    """(N, 1): the w at which sum max(0, w usual - scores) is the mass (N, 1)."""
    ratios, order = (scores / usual).sort(1)
    below, weight = scores.gather(1, order).cumsum(1), usual.gather(1, order).cumsum(1)
    filled = ((ratios * weight - below) < mass).sum(1, keepdim=True).clamp_min(1)
    return (mass + below.gather(1, filled - 1)) / weight.gather(1, filled - 1)


AnyGuard = Annotated[Noise | Stealthy, Field(discriminator="type")]


def guard(defences: Sequence[AnyGuard], target: Target, secret: bytes) -> Guard:
    """All of them, one after another, each with draws of its own. Raises GmiError as they do."""
    opened = [one.open(target, secret + bytes([place])) for place, one in enumerate(defences)]

    def through(logits: Tensor, images: Tensor) -> Tensor:
        for one in opened:
            logits = one(logits, images)
        return logits

    return through


def drawn(images: Tensor, secret: bytes) -> Rng:
    """A generator for each of the images (N, C, H, W), bytes."""
    seeds = [hmac.digest(secret, one.numpy().tobytes(), "sha256") for one in images]
    return Rng([int.from_bytes(seed[:7]) for seed in seeds])
