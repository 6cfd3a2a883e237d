"""The words of the toolkit as types. A search's signature says which access and which kind of prior it needs.

Everywhere: images are float (N, C, H, W) in [0, 1]; classes int64 (N,); latents (N, ...); scores are log-probabilities
(N, K). N counts candidates, K the target's classes, D the dimensions of a feature space.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar, get_type_hints, runtime_checkable

from torch import Tensor

from gmi.errors import GmiError
from gmi.priors.path import Path
from gmi.rng import Rng

Trace = Callable[[int, Tensor], object]
"""Called once a step with the step's number and the loss of each candidate (N,): progress bars, plots, tests."""


@dataclass(frozen=True)
class Candidates:
    """What a search or a control found: plain data."""

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
        """Of its network, for one decode."""
        ...

    def sample(self, rng: Rng) -> Tensor:
        """Latents (len(rng), ...), one from each of the generators."""
        ...

    def decode(self, latents: Tensor, classes: Tensor | None = None) -> Tensor:
        """Images (N, C, H, W) in [0, 1], differentiable."""
        ...


@runtime_checkable
class Denoiser(Prior, Protocol):
    """A diffusion or flow prior. Latents (N, C, H, W) are noise at the start of its path, and clean at the end."""

    path: Path

    def denoise(self, noisy: Tensor, time: float) -> Tensor:
        """The clean latents that it expects behind noisy ones (N, C, H, W) at a time in (0, 1], differentiable."""
        ...

    def image(self, clean: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] of clean latents, differentiable."""
        ...


@runtime_checkable
class LabelOracle(Protocol):
    """Access to the predicted class only. `classes` (N,) tells the ledger for whom each image is asked."""

    queries: int
    people: int  # K: how many classes there are is no secret

    def labels(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Predicted classes (N,)."""
        ...


@runtime_checkable
class ScoreOracle(LabelOracle, Protocol):
    """Access to the confidences."""

    def scores(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Log-probabilities (N, K), no graph."""
        ...


@runtime_checkable
class WhiteBoxOracle(ScoreOracle, Protocol):
    """Access to the model itself."""

    def logits(self, images: Tensor) -> Tensor:
        """Logits (N, K), differentiable."""
        ...

    def activations(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, K) and penultimate features (N, D) of one forward pass, differentiable."""
        ...


class Passes(NamedTuple):
    """Evaluations of the prior's network that a search makes for one candidate."""

    without_gradient: int
    with_gradient: int


Access = TypeVar("Access", bound=LabelOracle, contravariant=True)
Kind = TypeVar("Kind", bound=Prior, contravariant=True)


class Search(Protocol[Access, Kind]):
    """One paper's algorithm: a frozen dataclass of hyper-parameters, callable.

    `queries(prior)` and `passes(prior)` say what a candidate costs. One that first learns what all classes share has
    `shared`, the queries of that; `prepare(oracle, prior, rng)`, with as many generators, which gives tensors to keep;
    and `taught(tensors)`, the search that goes on from them. One that is made of others has `parts(oracle)`: each with
    the oracle that it is given, None for one of the search's own. One that teaches networks names them in `students`.
    """

    def __call__(
        self, oracle: Access, prior: Kind, latents: Tensor, classes: Tensor, rng: Rng, trace: Trace | None = None
    ) -> Candidates: ...


def access(search: Search) -> str:
    """What the search's signature asks of its oracle, in words: `white-box`, `scores` or `labels`."""
    return {WhiteBoxOracle: "white-box", ScoreOracle: "scores"}.get(_needs(search)["oracle"], "labels")


def shared_queries(search: Any) -> int:
    """What the search asks before any class is searched for."""
    return getattr(search, "shared", 0)


def students(search: Any) -> tuple[Any, ...]:
    """Configurations of networks that the search teaches, which cannot judge what it finds."""
    return getattr(search, "students", ())


def refuse_misfit(search: Any, oracle: LabelOracle | None, prior: Prior) -> None:
    """Raises GmiError where the search's signature asks for more than the oracle grants or the prior can.

    oracle: None: whatever it needs.
    """
    needs = _needs(search)
    for inner, its_own in search.parts(oracle) if hasattr(search, "parts") else ():
        refuse_misfit(inner, its_own, prior)
    for part, given in (("oracle", oracle), ("prior", prior)):
        if part == "oracle" and given is not None and not isinstance(given, needs[part]):
            raise GmiError(
                f"search: {search.type} needs access: {{type: {access(search)}}}, and this gives "
                f"{type(given).__name__} only: take another search, or another access."
            )
        if given is not None and not isinstance(given, needs[part]):
            wanted = (needs[part].__doc__ or "").split(".")[0].removeprefix("A ").strip()
            raise GmiError(
                f"The search {type(search).__name__} needs a {needs[part].__name__} as its {part} ({wanted}), and "
                f"{type(given).__name__} is none: choose another search or another {part}."
            )


def _needs(search: Search) -> dict[str, Any]:
    return get_type_hints(type(search).__call__)


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
        """(N, M) from templates (N, D) and (M, D); the greater, the more alike."""
        ...


class PerceptualJudge(Judge, Protocol):
    """A perceptual distance."""

    def distance(self, left: Tensor, right: Tensor) -> Tensor:
        """(N,) from images (N, C, H, W) pair by pair; 0 for equal images."""
        ...


class ClassifierJudge(Judge, Protocol):
    """An evaluation classifier trained on the private images: the literature's figure, never part of a verdict."""

    def fit(self, images: Tensor, classes: Tensor) -> None: ...

    def embed(self, images: Tensor) -> Tensor:
        """Features (N, D) float32 on the CPU."""
        ...

    def logits(self, images: Tensor) -> Tensor:
        """(N, K)."""
        ...
