"""What a search is: its signature says which access and which kind of prior it needs."""

from typing import Any, NamedTuple, Protocol, TypeVar, get_type_hints

from torch import Tensor

from gmi.errors import GmiError
from gmi.protocols import Candidates, LabelOracle, Prior, ScoreOracle, Trace, WhiteBoxOracle
from gmi.rng import Rng


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
