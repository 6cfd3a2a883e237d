"""The plan of a ladder: rungs of access to one target, and the queries that each of their points costs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from gmi.evidence.handling import AnyHandling
from gmi.inversion.plan import Audit
from gmi.oracles.access import Access, claims
from gmi.protocols import Prior
from gmi.search import AnySearch
from gmi.search.attack import refuse_few
from gmi.settings import OPERATIONAL, Count, settings
from gmi.targets.authorisation import Authorisation
from gmi.tracking import Tracker

CONTROL = "best of N"


@settings
class Rung:
    """One level of access, and attacks by it."""

    name: str  # what the page calls it
    access: Access  # what the adversary gets of the model; its budget is the ladder's
    searches: tuple[AnySearch, ...]  # the attacks, the cheapest first: each is a point of the rung's curve


@settings
class Ladder:
    """Several levels of access to one target, with one prior, one selection and one judge."""

    name: str  # the run folder is runs/NAME
    audit: Audit  # the target, people, prior, selection, judges and seeds; not used: access, search, oracle control
    rungs: tuple[Rung, ...]  # all points are compared with the last search of the first rung
    # queries that no point may exceed with one seed; None: any number
    budget: Annotated[Count | None, OPERATIONAL] = None
    best_of: Annotated[tuple[Count, ...], Field(min_length=1)] = (250, 1000)  # samples that the control chooses from

    def __post_init__(self) -> None:
        if not self.rungs or not all(rung.searches for rung in self.rungs):
            raise ValueError("rungs: every ladder needs one or more, and every rung a search")
        for search in (search for rung in self.rungs for search in rung.searches):
            refuse_few(search, self.audit.selection)
        names = [CONTROL, *(rung.name for rung in self.rungs)]
        if len(set(names)) < len(names):
            raise ValueError(f"rungs: each needs a name of its own, and none may be {CONTROL!r}")
        if any(rung.access.budget is not None for rung in self.rungs):
            raise ValueError("rungs: the ladder's own budget holds for every rung: leave access.budget out")

    @property
    def authorisation(self) -> Authorisation | None:
        """Permission to audit the target."""
        return self.audit.authorisation

    @property
    def evidence(self) -> AnyHandling:
        """What happens to what shows people."""
        return self.audit.evidence

    @property
    def track(self) -> tuple[Tracker, ...]:
        """Trackers of experiments that get the figures."""
        return self.audit.track

    @property
    def reference(self) -> str:
        """The step of the attack that the others are compared with."""
        return f"rung0_{len(self.rungs[0].searches) - 1}"

    def attacks(self) -> Iterator[tuple[str, Rung, Any]]:
        """Every attack's step, rung and search, rung after rung."""
        for row, rung in enumerate(self.rungs):
            for number, search in enumerate(rung.searches):
                yield f"rung{row}_{number}", rung, search

    def controls(self) -> Iterator[tuple[str, int]]:
        """The step and the number of samples of every best-of-N control."""
        for size in self.best_of:
            yield f"best_of_{size}", size


@dataclass(frozen=True)
class Cost:
    """The queries of an adversary who makes one search of one rung with one seed, and nothing else."""

    rung: str
    access: str
    search: str
    common_queries: int  # queries for everybody: the pool and what is learnt from
    person_queries: int  # queries for one person, the final selection included

    def queries(self, people: int) -> int:
        """The queries of an attack on so many people."""
        return self.common_queries + people * self.person_queries


def costs(plan: Ladder, prior: Prior, enrolled: int) -> dict[str, Cost]:
    """The cost of every point by its step: rung after rung, then the controls.

    enrolled: people whom the target knows.
    """
    selection = plan.audit.selection
    attacks = {
        step: Cost(
            rung.name, str(rung.access), search.type, *selection.asked(search, prior, claims(rung.access, enrolled))
        )
        for step, rung, search in plan.attacks()
    }
    controls = {
        step: Cost(CONTROL, "score", "none", 2 * size, selection.candidates * selection.final_views)
        for step, size in plan.controls()
    }
    return attacks | controls


def baseline(plan: Ladder, prior: Prior, step: str, people: int, enrolled: int) -> str:
    """The step of the best-of-N control that an attack on so many people is held against.

    It is the cheapest that asks as much as the attack or more; where none does, the largest.
    """
    prices = {name: cost.queries(people) for name, cost in costs(plan, prior, enrolled).items()}
    controls = sorted((name for name, _ in plan.controls()), key=prices.__getitem__)
    return next((name for name in controls if prices[name] >= prices[step]), controls[-1])
