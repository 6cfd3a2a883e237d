"""What hardens a target where it answers: changes of its output before anybody sees it.

Each is opened for a target, and makes of logits (N, K) float64, and the bytes (N, C, H, W) that were asked about, other
logits (N, K). What is random is a function of the 8-bit image and of a secret: asking again does not average it away.
"""

import hmac
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Annotated, Literal

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from gmi.assets import resolve
from gmi.errors import GmiError
from gmi.rng import Rng
from gmi.weights import read_weights

Guard = Callable[[Tensor, Tensor], Tensor]
Positive = Annotated[float, Field(gt=0)]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Noise:
    """Gaussian noise on the logits. scale: its standard deviation."""

    type: Literal["noise"] = "noise"
    scale: Positive

    def __str__(self) -> str:
        return f"noise {self.scale:g}"

    def open(self, people: int, secret: bytes) -> Guard:
        return lambda logits, images: logits + self.scale * drawn(images, secret, b"noise").normal(people)


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
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
        return f"stealthy {self.epsilon:g}"

    def open(self, people: int, secret: bytes) -> Guard:
        """Raises GmiError where the profile is missing, or another target's."""
        if self.profile is None:
            raise GmiError("stealthy: name the profile that pipelines/train_target.py writes beside the weights.")
        usual = read_weights(resolve(self.profile)).get("profile", torch.empty(0)).double()
        if usual.shape != (people, people):
            raise GmiError(
                f"{self.profile} is no profile of {people} classes: train the target again, which writes it."
            )

        def guard(logits: Tensor, images: Tensor) -> Tensor:
            scores = logits.softmax(1)
            chances = (scores / self.temperature).softmax(1).cumsum(1)
            draws = drawn(images, secret, b"stealthy").uniform(1).double()
            meant = torch.searchsorted(chances, draws).clamp_max(people - 1).squeeze(1)
            room = self.epsilon * torch.special.entr(scores).sum(1)
            return nearest(scores, usual[meant], room).clamp_min(1e-300).log()

        return guard


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


def guard(defences: Sequence[AnyGuard], people: int, secret: bytes) -> Guard:
    """All of them, one after another. Raises GmiError as they do."""
    opened = [one.open(people, secret) for one in defences]

    def through(logits: Tensor, images: Tensor) -> Tensor:
        for one in opened:
            logits = one(logits, images)
        return logits

    return through


def drawn(images: Tensor, secret: bytes, name: bytes) -> Rng:
    """A generator for each of the images (N, C, H, W), bytes."""
    seeds = [hmac.digest(secret, name + sha256(one.numpy().tobytes()).digest(), "sha256") for one in images]
    return Rng([int.from_bytes(seed[:7]) for seed in seeds])
