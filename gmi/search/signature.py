"""What a search is: its signature says which access and which kind of prior it needs."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, TypeVar, get_type_hints, runtime_checkable

from torch import Tensor

from gmi.errors import GmiError
from gmi.protocols import (
    Candidates,
    ClassPrior,
    LabelOracle,
    Prior,
    ScoreOracle,
    Trace,
    VerificationOracle,
    WhiteBoxOracle,
)
from gmi.rng import Rng


class Passes(NamedTuple):
    """Evaluations of the prior's network that a search makes for one candidate."""

    without_gradient: int
    with_gradient: int


Access = TypeVar("Access", bound=VerificationOracle, contravariant=True)
Kind = TypeVar("Kind", bound=Prior, contravariant=True)


class Search(Protocol[Access, Kind]):
    """One paper's algorithm: a frozen dataclass of hyper-parameters, callable."""

    @property
    def type(self) -> str:
        """The word that chooses it in a configuration."""
        ...

    def queries(self, prior: Kind) -> int:
        """Images that one candidate asks of the target."""
        ...

    def passes(self, prior: Kind) -> Passes:
        """Evaluations of the prior's network that one candidate takes."""
        ...

    def __call__(
        self, oracle: Access, prior: Kind, latents: Tensor, classes: Tensor, rng: Rng, trace: Trace | None = None
    ) -> Candidates:
        """Candidates (N) from latents (N, ...) for classes (N,); one generator a candidate."""
        ...


@runtime_checkable
class LearningSearch(Protocol):
    """A search that may first learn what all classes share, such as a student of the target."""

    @property
    def shared(self) -> int:
        """Images that `prepare` asks of the target; 0 where nothing is learnt."""
        ...

    def prepare(self, oracle: Any, prior: Any, rng: Rng) -> dict[str, Tensor]:
        """The tensors that the search learns, to be kept; `rng` holds `shared` generators."""
        ...

    def taught(self, learned: Mapping[str, Tensor]) -> Any:
        """The search that goes on from what was learnt."""
        ...


@runtime_checkable
class OfflineSearch(LearningSearch, Protocol):
    """A search that asks the target nothing once it has learnt, not even which starts and finds are best."""

    @property
    def search(self) -> Any:
        """The search that goes on with what was learnt."""
        ...

    def refuse(self, oracle: VerificationOracle) -> None:
        """Raises GmiError where there is nothing to learn from the oracle."""
        ...

    def copy(self, learned: Mapping[str, Tensor], device: Any) -> ScoreOracle:
        """What it asks in the target's place."""
        ...


@runtime_checkable
class ConfinedSearch(Protocol):
    """A search within a part of the latent space, from which its starts are chosen, too."""

    def confine(self, latents: Tensor) -> Tensor:
        """Latents (N, ...), each moved to the nearest in that part."""
        ...


@runtime_checkable
class JointSearch(Protocol):
    """A search in which the candidates of a class depend on each other, so that they are searched at once."""

    joint: bool


@runtime_checkable
class TeachingSearch(Protocol):
    """A search that teaches networks, such as a student of the target."""

    @property
    def students(self) -> tuple[Any, ...]:
        """Configurations of the networks, which cannot judge what the search finds."""
        ...

    def refuse_students(self, people: int, prior: Prior) -> None:
        """Raises GmiError where they cannot take the prior's images, or have not so many classes."""
        ...


@runtime_checkable
class PackagedSearch(Protocol):
    """A search that needs a package which gmi does not bring."""

    def refuse_missing(self) -> None:
        """Raises GmiError where it is not installed."""
        ...


@runtime_checkable
class ComposedSearch(Protocol):
    """A search that is made of others."""

    def parts(self, oracle: VerificationOracle | None) -> list[tuple[Any, VerificationOracle | None]]:
        """The other searches, each with the oracle it is given; None: one of the search's own."""
        ...


def access(search: Search) -> str:
    """What the search's signature asks of its oracle, in words: `white-box`, `scores`, `labels` or `verification`."""
    words = {WhiteBoxOracle: "white-box", ScoreOracle: "scores", LabelOracle: "labels"}
    return words.get(_needs(search)["oracle"], "verification")


def climbs(search: Search, oracle: VerificationOracle) -> bool:
    """Whether the search, or one that it is made of, takes gradients of this oracle."""
    parts = ((part, its) for part, its in _parts(search, oracle) if its is oracle)
    return access(search) == "white-box" or any(climbs(part, oracle) for part, _ in parts)


def shared_queries(search: object) -> int:
    """Images that the search asks of the target before any class is searched for."""
    return search.shared if isinstance(search, LearningSearch) else 0


def students(search: object) -> tuple[Any, ...]:
    """Configurations of networks that the search teaches, which cannot judge what it finds."""
    return search.students if isinstance(search, TeachingSearch) else ()


def refuse_misfit(search: Any, oracle: VerificationOracle | None, prior: Prior) -> None:
    """Raises GmiError where the search's signature asks for more than the oracle grants or the prior can.

    oracle: None: whatever it needs.
    """
    named = prior.classes if isinstance(prior, ClassPrior) else None
    if named is not None and oracle is not None and len(named) != oracle.people:
        raise GmiError(
            f"prior.classes names {len(named)} classes, and the target has {oracle.people}: name one for each, in "
            "their order, or leave it out."
        )
    needs = _needs(search)
    own: object = search
    if isinstance(own, PackagedSearch):
        own.refuse_missing()
    if isinstance(own, OfflineSearch) and oracle is not None:
        own.refuse(oracle)
    if isinstance(own, TeachingSearch) and oracle is not None:
        own.refuse_students(oracle.people, prior)
    for part_search, its_oracle in _parts(search, oracle):
        refuse_misfit(part_search, its_oracle, prior)
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


def _parts(search: object, oracle: VerificationOracle | None) -> list[tuple[Any, VerificationOracle | None]]:
    return search.parts(oracle) if isinstance(search, ComposedSearch) else []


def _needs(search: Search) -> dict[str, Any]:
    return get_type_hints(type(search).__call__)
