"""The cost of an audit: queries, evaluations and seconds, and the account of a target behind an interface."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from gmi.inversion.meter import Spent
from gmi.inversion.plan import Audit
from gmi.oracles.access import AnyOracle
from gmi.oracles.interface import Interface
from gmi.oracles.ledger import OWN_OPINION, SHARED
from gmi.protocols import Prior


@dataclass(frozen=True)
class LedgerFigures:
    """What was sent to a target behind an interface."""

    budget: int | None
    images: int  # different ones
    sent: int
    shared: int
    own_opinion: int  # the auditor's own questions, not the adversary's
    person_most: int


@dataclass(frozen=True)
class Cost:
    """What the audit cost."""

    queries: Annotated[dict[str, int], Field(json_schema_extra={"required": ["total"]})]  # by step, and in total
    reconstructions: int
    evaluations: dict[str, int]  # of networks, for each of the search's candidates
    ledger: LedgerFigures | None  # None: the adversary has the model
    seconds: dict[str, float]


def cost_of(
    plan: Audit,
    prior: Prior,
    oracle: AnyOracle,
    spent: Mapping[str, Spent],
    judging: Mapping[str, float],
    reconstructions: int,
) -> Cost:
    """The cost by what was spent in each step, the seconds of each judge, and the number of images of the search."""
    search = plan.search
    queries = {step: cost.queries for step, cost in spent.items() if cost.queries and not step.startswith("oracle")}
    seconds = {step: cost.seconds for step, cost in spent.items()}
    seconds |= {f"judge {name}": amount for name, amount in judging.items()}
    fitting: Any = prior  # `refuse_misfit` has seen to it
    passes = search.passes(fitting)
    return Cost(
        queries=queries | {"total": sum(queries.values())},
        reconstructions=reconstructions,
        evaluations={
            "prior": sum(passes),
            "prior_with_gradient": passes.with_gradient,
            "target": search.queries(fitting),
        },
        ledger=_ledger(oracle, plan.access.budget),
        seconds=seconds | {"total": sum(seconds.values())},
    )


def _ledger(oracle: AnyOracle, budget: int | None) -> LedgerFigures | None:
    if not isinstance(oracle, Interface):
        return None
    people = {key: account.sent for key, account in oracle.ledger.by("person", OWN_OPINION).items()}
    steps = oracle.ledger.by("step")
    opinions = steps[OWN_OPINION].sent if OWN_OPINION in steps else 0
    shared = people.pop(SHARED, 0)
    total = oracle.ledger.total
    return LedgerFigures(budget, total.images, total.sent, shared, opinions, max(people.values(), default=0))
