"""The cost of an attribute audit, before anything is spent: queries by arithmetic, time by one timed imputation."""

from time import perf_counter

import numpy as np

from gmi.attributes.inputs import Inputs
from gmi.attributes.knowledge import guess
from gmi.attributes.plan import AttributeAudit
from gmi.attributes.records import Tables
from gmi.attributes.targets import Own
from gmi.audits import Hardware
from gmi.forecast import Forecast

_FEW = 20  # public records about which a model of the user's own is asked
_MOST = 5000  # public records that the timing takes


def forecast(plan: AttributeAudit, inputs: Inputs, hardware: Hardware) -> Forecast:
    """Queries of each attack, and the time of what learns from public records.

    A model of the user's own is made, and asked about a few public records; another one is neither made nor asked.
    """
    tables, seeds = inputs.tables[0], len(plan.seeds)
    sizes = [min(plan.attacked, len(records)) for records in (tables.training, tables.held_out)]
    count = seeds * tables.layout.choices * sum(sizes)
    queries = {attack.type: 0 if attack.reads == "leaves" else count for attack in plan.attacks}
    once, notes = _imputation(plan, inputs), ()
    if tables.twins:
        notes = (
            f"{tables.twins:,} of {len(tables.held_out):,} held-out records equal one that the target learns from in "
            "every column: where people stand twice in the file, remove one of the two.",
        )
    learners = [attack.type for attack in plan.attacks if attack.learns]
    seconds = dict.fromkeys([*learners, "imputation"], seeds * once * len(sizes))
    if isinstance(plan.target, Own):
        few = tables.public.take(np.arange(min(_FEW, len(tables.public))))
        model, start = plan.target.learn(tables.layout, few, plan.seeds[0]), perf_counter()
        model(few.inputs(few.sensitive))
        notes += (f"The target was made, and asked about {len(few)} public records, to see that it answers.",)
        seconds["the target"] = (perf_counter() - start) / len(few) * max(queries.values(), default=0)
    return Forecast(
        queries,
        seconds,
        without=() if isinstance(plan.target, Own) else ("to train the target and to ask it",),
        notes=("queries: records that the target is asked about, each person's with every sensitive value", *notes),
        read=_read(tables),
    )


def _read(tables: Tables) -> str:
    """A table of what was read."""
    sensitive, outcome = tables.layout.sensitive, tables.layout.outcome
    parts = {"training": tables.training, "held out": tables.held_out, "public": tables.public}
    lines = [f"{'read':12}{'records':>10}", *(f"{name:12}{len(part):>10,}" for name, part in parts.items())]
    lines.append(f"sensitive: {sensitive.name} ({', '.join(sensitive.values or ())})")
    kinds = "numbers" if outcome.values is None else ", ".join(outcome.values)
    lines.append(f"outcome: {outcome.name} ({kinds})")
    known = (
        f"{one.name}{'' if one.values is None else f' ({len(one.values)} values)'}" for one in tables.layout.features
    )
    return "\n".join([*lines, f"known of everybody: {', '.join(known)}"])


def _imputation(plan: AttributeAudit, inputs: Inputs) -> float:
    """Seconds of one imputation."""
    tables = inputs.tables[0]
    public = tables.public.take(np.arange(min(_MOST, len(tables.public))))
    people = tables.training.take(np.arange(min(plan.attacked, len(tables.training)))).hidden()
    start = perf_counter()
    guess(people, public, tables.layout, seed=plan.seeds[0])
    return (perf_counter() - start) * len(tables.public) / len(public)
