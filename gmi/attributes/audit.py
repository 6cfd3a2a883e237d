"""An audit of what a model of tables gives away of one attribute: attacks beside an imputation that never asks it.

The target learns from the training records; people of these, and as many whom it never saw, are attacked. The rest of
what is known of them, their outcome included, is known to every attack and to the imputation alike.
"""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmi.attributes.attacks import AnyAttack
from gmi.attributes.attacks.counts import Counts
from gmi.attributes.attacks.lomia import Lomia
from gmi.attributes.attacks.marginals import Marginals
from gmi.attributes.findings import CONTROLS, Found, compose
from gmi.attributes.knowledge import Knowledge, errors, guess
from gmi.attributes.oracles import Labels, Leaves, Numbers, Oracle, Scores
from gmi.attributes.page import render
from gmi.attributes.plan import AttributeAudit
from gmi.attributes.records import Array, Layout, Records
from gmi.attributes.targets import DecisionTree, Model
from gmi.errors import GmiError
from gmi.metrics.statistics import Failed
from gmi.run import Run
from gmi.settings import plain


def audit(plan: AttributeAudit, folder: Path) -> Path:
    """Writes attributes.json and attributes.html into the folder, and returns the page. Raises GmiError as `load`."""
    tables = plan.data.load(plan.seed)
    plan.refuse(tables.layout)
    run = Run.open(folder, {"attributes": plain(plan), "inputs": {"gmi": version("gmi"), "data": tables.digest}})
    model = plan.target.learn(tables.layout, tables.training, plan.seed)
    for one in plan.attacks:
        oracle(one, model, tables.layout)  # refused before any work
    knowledge = Knowledge(tables.layout, tables.public, errors(model, tables.public, tables.layout))
    sets = {"training": tables.training, "held-out": tables.held_out}
    found = {
        name: attack(plan, model, some.take(_chosen(len(some), plan, place)), knowledge)
        for place, (name, some) in enumerate(sets.items())
    }
    report = compose(plan, tables, model, found)
    run.write("attributes.json", (json.dumps(report, indent=1, allow_nan=False) + "\n").encode())
    return render(run.folder)


def _chosen(count: int, plan: AttributeAudit, place: int) -> NDArray[np.int64]:
    return np.random.default_rng([plan.seed, place]).permutation(count)[: plan.attacked]


def oracle(attack: AnyAttack, model: Model, layout: Layout) -> Any:
    """What the attack may ask. Raises GmiError where the model cannot answer it."""
    number = layout.classes is None
    if isinstance(attack, Marginals):
        return Numbers(model) if number else Labels(model)
    if number:
        raise GmiError(f"attacks: {attack.type} needs an outcome with classes, and {layout.outcome.name} is a number.")
    if isinstance(attack, Counts):
        if not isinstance(model, DecisionTree):
            raise GmiError("attacks: counts reads the leaves of a decision tree: take target: {type: tree}.")
        return Leaves(model)
    return Labels(model) if isinstance(attack, Lomia) else Scores(model)


def attack(plan: AttributeAudit, model: Model, people: Records, knowledge: Knowledge) -> Found:
    """Every attack and every control on these people, whose sensitive values none of them sees."""
    hidden = people.hidden()
    scores: dict[str, Array | Failed] = {}
    queries: dict[str, int] = dict.fromkeys([*CONTROLS], 0)
    for one in plan.attacks:
        asked: Oracle = oracle(one, model, knowledge.layout)
        try:
            scores[one.type] = one(asked, hidden, knowledge)  # pyright: ignore[reportArgumentType] - `oracle` fits it
        except GmiError as error:
            scores[one.type] = Failed(str(error))
        queries[one.type] = asked.queries
    scores["majority"] = np.tile(np.log(knowledge.marginal), (len(people), 1))
    scores["imputation"] = guess(hidden, knowledge.public, knowledge.layout, seed=plan.seed)
    return Found(scores, queries, people)
