"""An audit of what a model of tables gives away of one attribute: attacks beside an imputation that never asks it.

The target learns from the training records; people of these, and as many whom it never saw, are attacked. The rest of
what is known of them, their outcome included, is known to every attack and to the imputation alike.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as checked

from gmi import scoring
from gmi.attributes.adversary import Knowledge, errors, guess
from gmi.attributes.confidences import Confidences
from gmi.attributes.counts import Counts
from gmi.attributes.csmia import Csmia
from gmi.attributes.informed import Informed
from gmi.attributes.lomia import Lomia
from gmi.attributes.marginals import Marginals
from gmi.attributes.oracles import Labels, Leaves, Numbers, Oracle, Scores
from gmi.attributes.records import Array, Layout, Records, Table, Tables
from gmi.attributes.targets import AnyTarget, DecisionTree, Model, Own
from gmi.detection import Difference, auc, auc_difference, contrast, hit_rate
from gmi.errors import GmiError
from gmi.report.attributes import render
from gmi.run import Run
from gmi.settings import plain
from gmi.statistics import Estimate, Failed, difference, estimate, holm

AnyAttack = Annotated[Marginals | Confidences | Informed | Counts | Csmia | Lomia, Field(discriminator="type")]
Count = Annotated[int, Field(ge=20)]
Rate = Annotated[float, Field(gt=0, lt=1)]
CONTROLS = ("majority", "imputation")
ALPHA = 0.05
GROUP = 20  # people; a smaller group says nothing


@checked(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class AttributeAudit:
    """One target, one table, one sensitive attribute.

    attacked: people of the training records, and as many of the held-out ones. value: of the sensitive attribute, that
    areas and hit rates look for; None: the rarest. groups: columns by whose values people are told apart. alarms:
    false-alarm rates at which hits are counted. notable: area that a model may add and still be said to add nothing.
    """

    name: str
    data: Table
    target: AnyTarget
    attacks: Annotated[tuple[AnyAttack, ...], Field(min_length=1)]
    attacked: Count = 1000
    value: str | None = None
    groups: tuple[str, ...] = ()
    alarms: tuple[Rate, ...] = (0.1, 0.01)
    notable: Rate = 0.05
    seed: Annotated[int, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        if len({one.type for one in self.attacks}) < len(self.attacks):
            raise ValueError("attacks: each is named once")
        if isinstance(self.target, Own) and self.data.shuffled:
            raise ValueError(
                "data.shuffled: of a model of your own it is known what it learnt from: put those records first in the "
                "file and say false"
            )

    def refuse(self, layout: Layout) -> None:
        """Raises GmiError where the table has no such value or groups."""
        values, known = layout.sensitive.values or (), {one.name: one for one in layout.known}
        if self.value is not None and self.value not in values:
            raise GmiError(f"value: {layout.sensitive.name} is never {self.value!r}; it is {', '.join(values)}.")
        for name in self.groups:
            if name not in known or known[name].values is None:
                raise GmiError(f"groups: {name!r} is no column of categories that is known of people.")


@dataclass(frozen=True)
class Found:
    """What attacks and controls say of one set of people: values (N, V), higher where likelier; or why they do not."""

    scores: dict[str, Array | Failed]
    queries: dict[str, int]
    people: Records


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


def compose(plan: AttributeAudit, tables: Tables, model: Model, found: dict[str, Found]) -> dict[str, Any]:
    """attributes.json, whose schema is gmi/report/attributes.schema.json."""
    layout = tables.layout
    values = layout.sensitive.values or ()
    frequent = np.bincount(tables.public.sensitive, minlength=len(values))
    looked = values.index(plan.value) if plan.value is not None else int(frequent.argmin())
    sets = {name: _set(plan, layout, some, looked) for name, some in found.items()}
    utility = {
        name: scoring.plain(scoring.attempt(lambda some=some: _utility(model, some.people)))
        for name, some in found.items()
    }
    commonest = 0.0 if layout.classes is None else np.bincount(tables.training.outcome.astype(int)).max()
    useless = layout.classes is not None and utility["training"].get("high", 1.0) < commonest / len(tables.training)
    return {
        "schema_version": 1,
        "name": plan.name,
        "gmi": version("gmi"),
        "data": plan.data.name,
        "sensitive": layout.sensitive.name,
        "value": values[looked],
        "outcome": layout.outcome.name,
        "numeric": layout.classes is None,
        "records": {"training": len(tables.training), "held-out": len(tables.held_out), "public": len(tables.public)},
        "target": plan.target.type,
        "utility": utility,
        "alarms": list(plan.alarms),
        "notable": plan.notable,
        "sets": sets,
        "verdict": verdict(sets["training"], plan.notable, useless),
        "groups": [_group(layout, found["training"], name, sets["training"], looked) for name in plan.groups],
        "seed": plan.seed,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _utility(model: Model, records: Records) -> Estimate:
    """Accuracy, or of numbers the mean absolute error."""
    told, people = model(records.inputs(records.sensitive)), np.arange(len(records))
    if told.ndim == 1:
        return estimate(np.abs(told - records.outcome), people, bounds=None)
    return estimate((told.argmax(1) == records.outcome).astype(float), people)


def _set(plan: AttributeAudit, layout: Layout, found: Found, looked: int) -> dict[str, Any]:
    """Figures of every method on one set of people, and what each attack has over the imputation."""
    truth, people = found.people.sensitive, np.arange(len(found.people))
    base = found.scores["imputation"]
    assert not isinstance(base, Failed)
    rows = []
    for name, scores in found.scores.items():
        row: dict[str, Any] = {"method": name, "queries": found.queries[name]}
        if isinstance(scores, Failed):
            rows.append(row | {"failed": scores.reason, "figures": {}, "added": None})
            continue
        right, ranked = _right(scores, truth), _ranked(scores, looked)
        figures = {
            "accuracy": scoring.attempt(lambda right=right: estimate(right, people)),
            "auc": scoring.attempt(lambda ranked=ranked: auc(ranked, truth == looked)),
        }
        for rate in plan.alarms:
            figures[f"hits@{rate:g}"] = scoring.attempt(
                lambda ranked=ranked, rate=rate: hit_rate(ranked, truth == looked, rate)
            )
        row |= {"failed": None, "figures": {key: scoring.plain(one) for key, one in figures.items()}}
        rows.append(row | {"added": None if name in CONTROLS else _added(right, ranked, base, truth, looked)})
    _adjust([row["added"] for row in rows if row["added"] is not None])
    return {"people": len(truth), "with the value": int((truth == looked).sum()), "methods": rows}


def _added(right: Array, ranked: Array, base: Array, truth: NDArray[np.int64], looked: int) -> dict[str, Any]:
    """Over the imputation, person by person; p is adjusted afterwards for the number of attacks."""
    more = _attempt(lambda: auc_difference(ranked, _ranked(base, looked), truth == looked))
    return {
        "accuracy": scoring.plain(scoring.attempt(lambda: difference(right, _right(base, truth)))),
        "auc": scoring.plain(more.estimate if isinstance(more, Difference) else more),
        "p": more.p if isinstance(more, Difference) else None,
    }


def _right(scores: Array, truth: NDArray[np.int64]) -> Array:
    """(N,): whether the likeliest value is the person's; of several that tie, the share that is."""
    top = scores == scores.max(1, keepdims=True)
    return top[np.arange(len(truth)), truth] / top.sum(1)


def _ranked(scores: Array, looked: int) -> Array:
    """(N,): how much likelier the value is than the likeliest other."""
    return scores[:, looked] - np.delete(scores, looked, 1).max(1)


def verdict(found: dict[str, Any], notable: float, useless: bool) -> dict[str, Any]:
    """Of the people that the target learnt from: what the model adds to what public records tell.

    useless: it names their outcomes worse than the commonest one does, so that nothing follows from attacks that fail.
    """
    attacks = [row for row in found["methods"] if row["method"] not in CONTROLS]
    added = {row["method"]: row["added"] for row in attacks if row["added"] and row["added"]["p"] is not None}
    more = [name for name, one in added.items() if one["p"] < ALPHA and one["auc"]["low"] > 0]
    if more:
        best = max(more, key=lambda name: added[name]["auc"]["value"])
        area = added[best]["auc"]
        return {
            "finding": "evidence of leakage",
            "because": f"{best} finds more with the model than the imputation without it: "
            f"AUC {area['value']:+.3f} [{area['low']:.3f}, {area['high']:.3f}].",
        }
    if failed := [row["method"] for row in attacks if row["method"] not in added]:
        return {"finding": "inconclusive", "because": f"No other attack finds more, and failed: {', '.join(failed)}."}
    if useless:
        return {
            "finding": "inconclusive",
            "because": "No attack finds more than the imputation, but the target names the outcomes of its own records "
            "worse than the commonest does: check that it is asked as it was trained.",
        }
    if all(one["auc"]["high"] < notable for one in added.values()):
        return {
            "finding": "no evidence",
            "because": f"No attack finds more than the imputation, and {notable:g} of AUC more would have been seen.",
        }
    return {
        "finding": "inconclusive",
        "because": f"No attack is shown to find more than the imputation, but {notable:g} of AUC more is not excluded.",
    }


def _group(layout: Layout, found: Found, name: str, figures: dict[str, Any], looked: int) -> dict[str, Any]:
    """Of people by their values in a column: what the attack that adds most has over the imputation, and how much more
    that is than of everybody else; p is adjusted for the number of groups.
    """
    names = [one.name for one in layout.known]
    usable = [row for row in figures["methods"] if row["added"] and row["added"]["p"] is not None]
    if not usable:
        return {"column": name, "attack": None, "rows": []}
    best = max(usable, key=lambda row: row["added"]["auc"]["value"])["method"]
    scores, base = found.scores[best], found.scores["imputation"]
    assert not isinstance(scores, Failed) and not isinstance(base, Failed)
    truth, column = found.people.sensitive, found.people.known[:, names.index(name)]
    right, ranked, usual = _right(scores, truth), _ranked(scores, looked), _ranked(base, looked)

    def more(some: NDArray[np.bool_]) -> Difference:
        return auc_difference(ranked[some], usual[some], truth[some] == looked)

    rows: list[dict[str, Any]] = []
    for code, value in enumerate(layout.known[names.index(name)].values or ()):
        inside = column == code
        people = np.arange(int(inside.sum()))
        if len(people) < GROUP:
            continue
        apart = _attempt(lambda i=inside: contrast(more(i), more(~i)))
        rows.append(
            {
                "value": value,
                "people": len(people),
                "accuracy": scoring.plain(scoring.attempt(lambda i=inside, p=people: estimate(right[i], p))),
                "added": scoring.plain(scoring.attempt(lambda i=inside: more(i).estimate)),
                "apart": scoring.plain(apart.estimate if isinstance(apart, Difference) else apart),
                "p": apart.p if isinstance(apart, Difference) else None,
            }
        )
    _adjust(rows)
    return {"column": name, "attack": best, "rows": rows}


def _attempt(difference: Callable[[], Difference]) -> Difference | Failed:
    try:
        return difference()
    except GmiError as error:
        return Failed(str(error))


def _adjust(rows: list[dict[str, Any]]) -> None:
    """Every p that is there, by Holm."""
    tested = [one for one in rows if one["p"] is not None]
    for one, adjusted in zip(tested, holm([one["p"] for one in tested]), strict=True):
        one["p"] = adjusted
