"""The cost of an attribute audit, before anything is spent: queries by arithmetic, time by one timed imputation."""

from time import perf_counter

import numpy as np

from gmi.attributes.inputs import Inputs
from gmi.attributes.knowledge import guess
from gmi.attributes.plan import AttributeAudit
from gmi.attributes.targets import Own
from gmi.audits import Forecast, Hardware

_MOST = 5000  # public records that the timing takes


def forecast(plan: AttributeAudit, inputs: Inputs, hardware: Hardware) -> Forecast:
    """Queries of each attack, and the time of what learns from public records; the target is neither made nor asked."""
    tables, seeds = inputs.tables[0], len(plan.seeds)
    sizes = [min(plan.attacked, len(records)) for records in (tables.training, tables.held_out)]
    count = seeds * tables.layout.choices * sum(sizes)
    queries = {attack.type: 0 if attack.reads == "leaves" else count for attack in plan.attacks}
    once = _imputation(plan, inputs)
    learners = [attack.type for attack in plan.attacks if attack.learns]
    seconds = dict.fromkeys([*learners, "imputation"], seeds * once * len(sizes))
    return Forecast(
        queries,
        seconds,
        without=(
            "that the target takes to answer" if isinstance(plan.target, Own) else "to train the target and to ask it",
        ),
        notes=("queries: records that the target is asked about, each person's with every sensitive value",),
    )


def _imputation(plan: AttributeAudit, inputs: Inputs) -> float:
    """Seconds of one imputation."""
    tables = inputs.tables[0]
    public = tables.public.take(np.arange(min(_MOST, len(tables.public))))
    people = tables.training.take(np.arange(min(plan.attacked, len(tables.training)))).hidden()
    start = perf_counter()
    guess(people, public, tables.layout, seed=plan.seeds[0])
    return (perf_counter() - start) * len(tables.public) / len(public)
