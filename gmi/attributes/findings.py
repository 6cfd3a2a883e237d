"""What attacks on an attribute found: figures beside the imputation's, by groups of people, and a verdict."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmi.attributes.plan import AttributeAudit
from gmi.attributes.records import Array, Layout, Records, Tables
from gmi.attributes.targets import Model
from gmi.errors import GmiError
from gmi.metrics.detection import Difference, auc, auc_difference, contrast, hit_rate
from gmi.metrics.statistics import Estimate, Failed, as_json, attempt, difference, estimate, holm

CONTROLS = ("majority", "imputation")
ALPHA = 0.05
GROUP = 20  # people; a smaller group says nothing


@dataclass(frozen=True)
class Found:
    """What attacks and controls say of one set of people: values (N, V), higher where likelier; or why they do not."""

    scores: dict[str, Array | Failed]
    queries: dict[str, int]
    people: Records


def compose(plan: AttributeAudit, tables: Tables, model: Model, found: dict[str, Found]) -> dict[str, Any]:
    """attributes.json, whose schema is gmi/report/attributes.schema.json."""
    layout = tables.layout
    values = layout.sensitive.values or ()
    frequent = np.bincount(tables.public.sensitive, minlength=len(values))
    looked = values.index(plan.value) if plan.value is not None else int(frequent.argmin())
    sets = {name: _set(plan, layout, some, looked) for name, some in found.items()}
    utility = {name: as_json(attempt(lambda some=some: _utility(model, some.people))) for name, some in found.items()}
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
        "verdict": verdict(sets["training"], plan.notable, _useless(layout, tables.training, utility["training"])),
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


def _useless(layout: Layout, training: Records, accuracy: dict[str, Any]) -> bool:
    """Whether a classifier names the outcomes of its own records worse than the commonest of them does."""
    if layout.classes is None or "failed" in accuracy:
        return False
    return accuracy["high"] < np.bincount(training.outcome.astype(int)).max() / len(training)


def _set(plan: AttributeAudit, layout: Layout, found: Found, looked: int) -> dict[str, Any]:
    """Figures of every method on one set of people, and what each attack has over the imputation."""
    truth, people = found.people.sensitive, np.arange(len(found.people))
    base = found.scores["imputation"]
    assert not isinstance(base, Failed)
    rows = []
    for name, scores in found.scores.items():
        row: dict[str, Any] = {"method": name, "queries": found.queries[name]}
        if isinstance(scores, Failed):
            rows.append(row | {"failed": scores.failed, "figures": {}, "added": None})
            continue
        right, ranked = _right(scores, truth), _ranked(scores, looked)
        figures = {
            "accuracy": attempt(lambda right=right: estimate(right, people)),
            "auc": attempt(lambda ranked=ranked: auc(ranked, truth == looked)),
        }
        for rate in plan.alarms:
            figures[f"hits@{rate:g}"] = attempt(
                lambda ranked=ranked, rate=rate: hit_rate(ranked, truth == looked, rate)
            )
        row |= {"failed": None, "figures": {key: as_json(one) for key, one in figures.items()}}
        rows.append(row | {"added": None if name in CONTROLS else _added(right, ranked, base, truth, looked)})
    _adjust([row["added"] for row in rows if row["added"] is not None])
    return {"people": len(truth), "with the value": int((truth == looked).sum()), "methods": rows}


def _added(right: Array, ranked: Array, base: Array, truth: NDArray[np.int64], looked: int) -> dict[str, Any]:
    """Over the imputation, person by person; p is adjusted afterwards for the number of attacks."""
    more = _attempt(lambda: auc_difference(ranked, _ranked(base, looked), truth == looked))
    return {
        "accuracy": as_json(attempt(lambda: difference(right, _right(base, truth)))),
        "auc": as_json(more.estimate if isinstance(more, Difference) else more),
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

    useless: as `_useless`; nothing follows then from attacks that find nothing.
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
        return {
            "finding": "inconclusive",
            "because": f"No attack is shown to find more than the imputation, and {', '.join(failed)} failed.",
        }
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
                "accuracy": as_json(attempt(lambda i=inside, p=people: estimate(right[i], p))),
                "added": as_json(attempt(lambda i=inside: more(i).estimate)),
                "apart": as_json(apart.estimate if isinstance(apart, Difference) else apart),
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
