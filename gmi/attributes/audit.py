"""An attribute audit, end to end: attacks on people's sensitive values, and an imputation that never asks the model.

The target learns from the training records; people of these, and as many whom it never saw, are attacked. Everything
else about them, their outcome included, is known to every attack and to the imputation alike.
"""

import numpy as np

from gmi.attributes.attacks import AnyAttack
from gmi.attributes.figures import CONTROLS, Answers
from gmi.attributes.findings import Evidence, Trial, findings
from gmi.attributes.forecast import forecast
from gmi.attributes.inputs import Inputs, load
from gmi.attributes.knowledge import Knowledge, errors, guess
from gmi.attributes.oracles import Labels, Leaves, Numbers, Oracle, Scores
from gmi.attributes.page import render
from gmi.attributes.plan import AttributeAudit
from gmi.attributes.records import Layout, Records, Tables
from gmi.attributes.targets import DecisionTree, Model
from gmi.audits import Hardware, Kind
from gmi.errors import GmiError
from gmi.metrics.statistics import Array, Failed
from gmi.run import Run


def refuse(plan: AttributeAudit, inputs: Inputs) -> None:
    """Raises GmiError where the plan does not fit the table, before the target is trained."""
    plan.refuse(inputs.tables[0].layout)


def examine(plan: AttributeAudit, inputs: Inputs, run: Run, hardware: Hardware) -> Evidence:
    """Everything that the findings rest on. It takes seconds, so nothing is kept, and every process does all of it."""
    return Evidence(tuple(_trial(plan, tables, seed) for tables, seed in zip(inputs.tables, plan.seeds, strict=True)))


def _trial(plan: AttributeAudit, tables: Tables, seed: int) -> Trial:
    """The audit with one seed."""
    model = plan.target.learn(tables.layout, tables.training, seed)
    knowledge = Knowledge(tables.layout, tables.public, errors(model, tables.public, tables.layout))
    sets = {"training": tables.training, "held-out": tables.held_out}
    answers = {}
    for number, (name, records) in enumerate(sets.items()):
        chosen = np.random.default_rng([seed, number]).permutation(len(records))[: plan.attacked]
        answers[name] = attack(plan, model, records.take(chosen), knowledge, seed)
    return Trial(model, answers)


def attack(plan: AttributeAudit, model: Model, people: Records, knowledge: Knowledge, seed: int) -> Answers:
    """Carries out every attack and every control on these people, whose sensitive values none of them sees."""
    hidden = people.hidden()
    scores: dict[str, Array | Failed] = {}
    queries: dict[str, int] = dict.fromkeys([*CONTROLS], 0)
    for method in plan.attacks:
        access = oracle(method, model, knowledge.layout)
        try:
            scores[method.type] = method(access, hidden, knowledge)  # pyright: ignore[reportArgumentType] - it fits
        except GmiError as error:
            scores[method.type] = Failed(str(error))
        queries[method.type] = access.queries
    scores["majority"] = np.tile(np.log(knowledge.marginal), (len(people), 1))
    scores["imputation"] = guess(hidden, knowledge.public, knowledge.layout, seed=seed)
    return Answers(scores, queries, people)


def oracle(attack: AnyAttack, model: Model, layout: Layout) -> Oracle:
    """The access that an attack gets, and no more; `refuse` has made sure that the model can answer."""
    match attack.reads:
        case "predictions":
            return Numbers(model) if layout.classes is None else Labels(model)
        case "labels":
            return Labels(model)
        case "answers":
            return Numbers(model) if layout.classes is None else Scores(model)
        case "scores":
            return Scores(model)
        case "leaves":
            assert isinstance(model, DecisionTree)
            return Leaves(model)


ATTRIBUTES = Kind(
    name="attributes",
    plan=AttributeAudit,
    load=load,
    refuse=refuse,
    forecast=forecast,
    examine=examine,
    findings=findings,
    render=render,
)
