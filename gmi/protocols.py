"""The words of the toolkit as types. A search's signature says which access and which kind of prior it needs.

Everywhere: images are float (N, C, H, W) in [0, 1]; classes int64 (N,); latents (N, ...); scores are log-probabilities
(N, K). N counts candidates, K the target's classes, D the dimensions of a feature space.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from gmi.rng import Rng


class NoisePath(Protocol):
    @property
    def timesteps(self) -> int:
        """How many times above 0, evenly spaced and up to 1, a network is taught."""
        ...

    def times(self, steps: int) -> list[float]:
        """The times (steps + 1) of so many steps, from 1 down to 0."""
        ...

    def levels(self, time: float) -> tuple[float, float]:
        """Signal and noise level; their share signal / (signal + level) is the way that has been gone."""
        ...

    def stamp(self, time: float) -> float:
        """The number that stands for the time in the network's input."""
        ...

    def gain(self, time: float) -> float:
        """The factor on noisy images by which they are shown to the network."""
        ...

    def clean(self, output: Tensor, noisy: Tensor, time: float) -> Tensor:
        """The clean image that the network's output stands for."""
        ...

    def output(self, clean: Tensor, noise: Tensor, signal: Tensor, level: Tensor) -> Tensor:
        """The output that a network is taught for signal * clean + level * noise."""
        ...

    def direction(self, noisy: Tensor, clean: Tensor, time: float) -> Tensor:
        """The direction that is integrated: the velocity (noise - clean) of flow matching, the noise of DDPM."""
        ...

    def advance(self, noisy: Tensor, direction: Tensor, now: float, after: float) -> Tensor:
        """Straight on in one direction, for one step (Euler's, which for DDPM is DDIM's)."""
        ...


Trace = Callable[[int, Tensor], object]
"""Called once a step with the step's number and the loss of each candidate (N,): progress bars, plots, tests."""


@dataclass(frozen=True)
class Candidates:
    """Candidates of a search or a control: plain data."""

    images: Tensor  # (N, C, H, W) in [0, 1]
    classes: Tensor  # (N,) int64
    latents: Tensor  # (N, ...)

    def __getitem__(self, index: Tensor) -> "Candidates":
        return Candidates(self.images[index], self.classes[index], self.latents[index])

    def __len__(self) -> int:
        return len(self.classes)


@runtime_checkable
class Prior(Protocol):
    """A generator of plausible inputs: public knowledge."""

    @property
    def digest(self) -> str:
        """SHA-256 of its weights."""
        ...

    @property
    def evaluations(self) -> int:
        """Evaluations of its network for one decode."""
        ...

    def sample(self, rng: Rng) -> Tensor:
        """Latents (len(rng), ...), one from each of the generators."""
        ...

    def decode(self, latents: Tensor, classes: Tensor | None = None) -> Tensor:
        """Images (N, C, H, W) in [0, 1], differentiable. classes: the target's (N,), for a prior that knows them."""
        ...


@runtime_checkable
class ClassPrior(Prior, Protocol):
    """A prior that may have classes of its own."""

    @property
    def classes(self) -> tuple[int, ...] | None:
        """Its class for each of the target's, in their order; None: `decode` is told of none."""
        ...


Stage = Callable[[Tensor | None, Tensor | None, Tensor], tuple[Tensor, Tensor]]
"""Features (N, C, H, W), colours (N, 1 or 3, H, W) and latents to features and colours one layer on."""


@runtime_checkable
class StagedPrior(Prior, Protocol):
    """A GAN prior, whose network may be walked layer by layer."""

    def stages(self, least: int = 0) -> list[Stage]:
        """The pieces of `decode`: what a piece makes is what the next one takes.

        The first one takes latents alone, None for the others. The last one's colours are the images in [0, 1]. least:
        raises GmiError unless there are more pieces than this.
        """
        ...


@runtime_checkable
class TunablePrior(Prior, Protocol):
    """A GAN prior, whose images one network makes of latents."""

    def parameters(self) -> Iterable[nn.Parameter]:
        """The network's weights, which may be tuned in a copy."""
        ...


@runtime_checkable
class Denoiser(Prior, Protocol):
    """A diffusion or flow prior. Latents (N, C, H, W) are noise at the start of its path, and clean at the end."""

    path: NoisePath

    def denoise(self, noisy: Tensor, time: float, classes: Tensor | None = None) -> Tensor:
        """The clean latents that it expects behind noisy ones (N, C, H, W) at a time in (0, 1], differentiable.

        classes: as in `decode`.
        """
        ...

    def image(self, clean: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] of clean latents, differentiable."""
        ...


@runtime_checkable
class VerificationOracle(Protocol):
    """Access to a yes or no: does the image pass for the person that it is said to show?"""

    queries: int
    people: int  # K: how many classes there are is no secret

    def accepts(self, images: Tensor, classes: Tensor) -> Tensor:
        """True (N,) where images (N, C, H, W) pass for these classes (N,)."""
        ...

    def everybody(self, images: Tensor) -> Tensor:
        """True (N, K) where images (N, C, H, W) pass for each class."""
        ...


@runtime_checkable
class ComparingOracle(VerificationOracle, Protocol):
    """Access to how alike an image and each enrolled person are."""

    def similarities(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Similarities (N, K), NaN for those that are hidden."""
        ...


@runtime_checkable
class LabelOracle(VerificationOracle, Protocol):
    """Access to the predicted class only. `classes` (N,) tells the ledger for whom each image is asked."""

    def labels(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Predicted classes (N,)."""
        ...


@runtime_checkable
class ScoreOracle(LabelOracle, Protocol):
    """Access to the confidences."""

    def scores(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Log-probabilities, or similarities to each person (N, K), no graph."""
        ...


@runtime_checkable
class SimilarityOracle(ScoreOracle, ComparingOracle, Protocol):
    """Access to the similarities to everybody at once. They are its scores, each by itself."""


@runtime_checkable
class WhiteBoxOracle(ScoreOracle, Protocol):
    """Access to the model itself."""

    def logits(self, images: Tensor) -> Tensor:
        """Logits (N, K), differentiable."""
        ...

    def activations(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, K) and penultimate features (N, D) of one forward pass, differentiable."""
        ...


class Judge(Protocol):
    """A model that never took part in the search."""

    name: str
    trained_on: frozenset[str]  # names of data sets

    def weights(self) -> Iterable[Tensor]:
        """Its parameters where they can be read, to compare with the target's; empty where they cannot."""
        ...


class FaceJudge(Judge, Protocol):
    """A face recogniser with its own alignment."""

    misses: int  # images so far in which it found no face, and embedded a fixed part

    def embed(self, images: Tensor) -> Tensor:
        """Templates (N, D) float32 on the CPU, of images (N, 1 or 3, H, W)."""
        ...

    def similarity(self, left: Tensor, right: Tensor) -> Tensor:
        """Similarities (N, M) of templates (N, D) and (M, D); the greater, the more alike."""
        ...


class PerceptualJudge(Judge, Protocol):
    """A perceptual distance."""

    def distance(self, left: Tensor, right: Tensor) -> Tensor:
        """Distances (N,) of images (N, C, H, W) pair by pair; 0 for equal images."""
        ...


class ClassifierJudge(Judge, Protocol):
    """An evaluation classifier trained on the private images: the literature's figure, never part of a verdict."""

    def fit(self, images: Tensor, classes: Tensor) -> None: ...

    def embed(self, images: Tensor) -> Tensor:
        """Features (N, D) float32 on the CPU."""
        ...

    def logits(self, images: Tensor) -> Tensor:
        """Logits (N, K)."""
        ...
