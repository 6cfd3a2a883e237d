"""What a ladder is asked to climb: rungs of access, and what each point costs."""

from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from gmi.errors import GmiError
from gmi.inversion.inputs import Inputs
from gmi.inversion.plan import Audit
from gmi.oracles.access import Access, ScoresOnly
from gmi.search import AnySearch
from gmi.search.signature import refuse_misfit
from gmi.settings import OPERATIONAL, Count, settings

CONTROL = "best of N"


@settings
class Rung:
    """One level of access, and searches by it, the cheapest first."""

    name: str
    access: Access
    searches: tuple[AnySearch, ...]


@settings
class Ladder:
    """Rungs on one target.

    audit: the target, the people, the prior, the selection and the judges; its access and its search are not used.
    budget: queries that no point may exceed; None: any number.
    best_of: sizes of the pools of the control.
    The dearest search of the first rung is what the others are compared with.
    """

    name: str
    audit: Audit
    rungs: tuple[Rung, ...]
    budget: Annotated[Count | None, OPERATIONAL] = None
    best_of: Annotated[tuple[Count, ...], Field(min_length=1)] = (250, 1000)

    def __post_init__(self) -> None:
        if not self.rungs or not all(rung.searches for rung in self.rungs):
            raise ValueError("rungs: every ladder needs one or more, and every rung a search")
        names = [CONTROL, *(rung.name for rung in self.rungs)]
        if len(set(names)) < len(names):
            raise ValueError(f"rungs: each needs a name of its own, and none may be {CONTROL!r}")
        if any(rung.access.budget is not None for rung in self.rungs):
            raise ValueError("rungs: the ladder's own budget holds for every rung: leave access.budget out")


@dataclass(frozen=True)
class Point:
    """One search of a rung. Queries are those of an adversary who makes this search alone."""

    rung: str
    access: str
    search: str
    shared: int  # queries for everybody: the pool and what is learnt from
    person: int  # queries for one person, the final selection included


def points(plan: Ladder, inputs: Inputs) -> dict[str, Point]:
    """By name, rung after rung; then the control. Raises GmiError for a search that does not fit, or costs too much."""
    found = {}
    chosen = plan.audit.selection
    for place, rung in enumerate(plan.rungs):
        for number, search in enumerate(rung.searches):
            refuse_misfit(search, rung.access.open(inputs.target, None), inputs.prior)
            made: Any = search
            shared, person = chosen.asked(search, inputs.prior)
            found[f"rung{place}_{number}"] = Point(rung.name, str(rung.access), made.type, shared, person)
    ScoresOnly().open(inputs.target, None)  # raises where the control cannot be had
    for size in plan.best_of:
        found[f"best_of_{size}"] = Point(CONTROL, "score", "none", 2 * size, chosen.candidates * chosen.views)
    people = len(inputs.people.attacked)
    for point in found.values():
        if plan.budget is not None and (asked := point.shared + people * point.person) > plan.budget:
            raise GmiError(
                f"{point.rung}, {point.search}: {asked:,} queries are more than the budget of {plan.budget:,}: make "
                "the search or the pool smaller."
            )
    return found
