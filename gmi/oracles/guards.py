"""Defences of a target's answers: changes to its output before anybody sees it.

A guard, opened for a target, turns logits (N, K) float64 and the images (N, C, H, W) that were sent, as bytes, into
other logits (N, K). Its randomness is a function of the 8-bit image and of a secret: repeated queries do not average it
away.
"""

import hmac
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gmi.assets.catalogue import resolve
from gmi.errors import GmiError, because
from gmi.rng import Rng
from gmi.settings import Positive, settings
from gmi.targets.module import Target

Guard = Callable[[Tensor, Tensor], Tensor]
"""Logits (N, K) from logits (N, K) and the images (N, C, H, W) that they are for, as bytes."""


@settings
class Noise:
    """Gaussian noise on the logits."""

    type: Literal["noise"] = "noise"
    scale: Positive  # standard deviation of the noise

    def __str__(self) -> str:
        return f"noise {self.scale:g}"

    def open(self, target: Target, secret: bytes) -> Guard:
        """The guard of this target, with noise that depends on the secret."""
        people = len(target.classes)
        return lambda logits, images: logits + self.scale * generators_of(images, secret).normal(people)


@settings
class Stealthy:
    """Scores moved towards the target's usual scores for a person, but not far from its own.

    Stealthy Shield Defense (SSD), ICLR 2025: with probabilities f, a class y drawn from softmax(f / temperature), and
    the usual scores q of y, the answer is argmin KL(p | q) subject to |p - f|_1 <= epsilon H(f).

    Differs from the paper: the usual scores come from training images, since the validation images are the judges'.
    """

    type: Literal["stealthy"] = "stealthy"
    # safetensors file with the usual scores (K, K), which training a target writes next to the weights; None: only in a
    # comparison, which makes its own
    profile: str | None = None
    epsilon: Positive = 0.5  # the answer changes by at most this times its entropy, in L1
    temperature: Positive = 0.1  # at which a class is drawn: the lower, the more often the likeliest

    def __str__(self) -> str:
        return f"stealthy {self.epsilon:g}" + ("" if self.temperature == 0.1 else f" at {self.temperature:g}")

    def open(self, target: Target, secret: bytes) -> Guard:
        """The guard of this target. Raises GmiError if the profile is missing, or another target's."""
        people, usual = len(target.classes), self._usual(target)

        def guard(logits: Tensor, images: Tensor) -> Tensor:
            scores = logits.softmax(1)
            chances = (scores / self.temperature).softmax(1).cumsum(1)
            draws = generators_of(images, secret).uniform(1).double()
            classes = torch.searchsorted(chances, draws).clamp_max(people - 1).squeeze(1)
            room = self.epsilon * torch.special.entr(scores).sum(1)
            return nearest(scores, usual[classes], room).clamp_min(1e-300).log()

        return guard

    def _usual(self, target: Target) -> Tensor:
        """The usual scores (K, K) in the profile: a row for each class."""
        if self.profile is None:
            raise GmiError("stealthy: name the profile that gmi train-target writes next to the weights.")
        path = resolve(self.profile)
        try:
            with safe_open(path, "pt") as file:
                owner, usual = (file.metadata() or {}).get("target"), file.get_tensor("profile").double()
        except (OSError, SafetensorError) as error:
            raise GmiError(f"{path} cannot be read as a profile ({because(error)}): train the target again.") from error
        if owner != target.digest:
            raise GmiError(f"{path} is the profile of another target: train this one again, which writes its own.")
        return usual


def nearest(scores: Tensor, usual: Tensor, room: Tensor) -> Tensor:
    """The distributions p (N, K) that minimise KL(p | usual) subject to |p - scores|_1 <= room (N,); usual is positive.

    The mass room / 2 raises the smallest ratios of scores to usual to one level, and the same mass comes from lowering
    the largest to another: p = clip(scores, low usual, high usual).
    """
    half = room[:, None] / 2
    low = _level(scores, usual, half)
    high = -_level(-scores, usual, half)
    clipped = torch.maximum(torch.minimum(scores, high * usual), low * usual)
    near = (scores - usual).abs().sum(1, keepdim=True) <= 2 * half
    return torch.where(near, usual, clipped)


def _level(scores: Tensor, usual: Tensor, mass: Tensor) -> Tensor:
    """The level w (N, 1) at which sum max(0, w usual - scores) equals the mass (N, 1)."""
    ratios, order = (scores / usual).sort(1)
    below, weight = scores.gather(1, order).cumsum(1), usual.gather(1, order).cumsum(1)
    filled = ((ratios * weight - below) < mass).sum(1, keepdim=True).clamp_min(1)
    return (mass + below.gather(1, filled - 1)) / weight.gather(1, filled - 1)


AnyGuard = Annotated[Noise | Stealthy, Field(discriminator="type")]


def guard(defences: Sequence[AnyGuard], target: Target, secret: bytes) -> Guard:
    """A guard that applies all defences in turn, each with draws of its own. Raises GmiError as they do."""
    guards = [defence.open(target, secret + bytes([number])) for number, defence in enumerate(defences)]

    def through(logits: Tensor, images: Tensor) -> Tensor:
        for step in guards:
            logits = step(logits, images)
        return logits

    return through


def generators_of(images: Tensor, secret: bytes) -> Rng:
    """One generator for each of the images (N, C, H, W), given as bytes, that depends on the image and the secret."""
    seeds = [hmac.digest(secret, image.numpy().tobytes(), "sha256") for image in images]
    return Rng([int.from_bytes(seed[:7]) for seed in seeds])
