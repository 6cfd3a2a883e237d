"""Attribute inversion: planted values are found, a model without them gives nothing away, mistakes are told."""

import csv
import json
import re
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch
from accelerate import debug_launcher
from accelerate.state import AcceleratorState
from jsonschema import Draft202012Validator
from reference.browser import faults_everywhere, needs_browser
from reference.reports import timeless
from reference.verified import verified
from scipy.special import ndtr, ndtri
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from gmi.attributes import attacks, page
from gmi.attributes.attacks.confidences import Confidences
from gmi.attributes.attacks.counts import Counts
from gmi.attributes.attacks.csmia import Csmia
from gmi.attributes.attacks.informed import Informed
from gmi.attributes.attacks.lomia import Lomia
from gmi.attributes.attacks.marginals import Marginals
from gmi.attributes.audit import ATTRIBUTES, attack, oracle
from gmi.attributes.figures import Answers, Gain, Method, SetFigures, _right, group_figures, set_figures
from gmi.attributes.findings import _exposed, _misplaced
from gmi.attributes.forecast import forecast
from gmi.attributes.inputs import Inputs, load
from gmi.attributes.knowledge import Errors, Knowledge, errors, guess
from gmi.attributes.oracles import Labels, Leaves, Numbers, Oracle, Scores
from gmi.attributes.plan import AttributeAudit
from gmi.attributes.records import Column, Layout, Records, Table
from gmi.attributes.spelling import meaning
from gmi.attributes.targets import Estimator, Forest, Linear, Mlp, Own, Tree
from gmi.attributes.values import others, rows, together, untested
from gmi.attributes.verdict import verdict
from gmi.audits import Hardware, conduct
from gmi.cli import accelerator, command
from gmi.errors import GmiError
from gmi.forecast import Forecast
from gmi.metrics.conclusion import Conclusion
from gmi.metrics.rates import unseen
from gmi.metrics.repeats import upper
from gmi.metrics.statistics import Estimate, Failed
from gmi.settings import plain
from gmi.targets.authorisation import Authorisation

SCHEMA = Path(page.__file__).with_name("page.schema.json").read_text("utf-8")
LAYOUT = Layout(
    (Column("age", None), Column("town", ("a", "b", "c"))), Column("ill", ("no", "yes")), Column("pays", ("no", "yes"))
)
CPU = Hardware(torch.device("cpu"))
ATTACKS = (Marginals(), Confidences(), Counts(), Csmia(), Lomia())


def people(count: int, seed: int, leak: float = 0.0) -> Records:
    """Who is ill is told by nothing known; the outcome is a coin, and with chance `leak` it is whether one is ill."""
    rng = np.random.default_rng(seed)
    ill = (rng.uniform(size=count) < 0.3).astype(np.int64)
    coin = rng.integers(0, 2, count)
    known = np.column_stack([rng.uniform(20, 80, count), rng.integers(0, 3, count)])
    return Records(known, ill, np.where(rng.uniform(size=count) < leak, ill, coin).astype(float))


class Fixed:
    """A model that answers by the sensitive value alone: no -> `tables[0]`, yes -> `tables[1]`."""

    def __init__(self, *tables) -> None:
        self.tables = np.array(tables, float)

    def __call__(self, inputs):
        return self.tables[inputs[:, -1].astype(int)]

    def counts(self, inputs):
        return 100 * self(inputs)

    def leaves(self, inputs):
        """Values with the same answers share a leaf."""
        return np.unique(self.tables, axis=0, return_inverse=True)[1].ravel()[inputs[:, -1].astype(int)]


def knowledge(model=None, public: Records | None = None) -> Knowledge:
    public = public or people(200, 9)
    told = errors(model, public, LAYOUT) if model is not None else Errors(np.full((2, 2), 0.5), None)
    return Knowledge(LAYOUT, public, told)


def one(outcome: int) -> Records:
    return Records(np.array([[40.0, 1.0]]), np.array([-1]), np.array([float(outcome)]))


def test_marginals_are_bayes_rule_with_the_models_errors():
    model = Fixed([0.8, 0.2], [0.3, 0.7])
    confusion = np.array([[0.9, 0.1], [0.25, 0.75]])
    known = Knowledge(LAYOUT, people(200, 9), Errors(confusion, None))
    found = Marginals()(Labels(model), one(1), known)
    assert found[0, 1] - found[0, 0] == pytest.approx(
        np.log(0.75 / 0.1) + np.log(known.marginal[1] / known.marginal[0])
    )


def doses(exact: float, count: int = 4000, whole: bool = False) -> tuple[np.ndarray, np.ndarray, Records]:
    """The log-odds of illness by marginals, where a model says 4 or 9 and errs by a normal of 2, or not at all."""
    rng, some = np.random.default_rng(0), people(count, 0)
    known_by_heart = rng.uniform(size=count) < exact
    error = np.where(known_by_heart, 0.0, rng.normal(0, 2, count))
    if whole:  # but for a single number
        error = np.where(np.arange(count) == 0, error + 1e-9, error.round())
    some = replace(some, outcome=np.where(some.sensitive, 9.0, 4.0) + error)
    known = Knowledge(replace(LAYOUT, outcome=Column("dose", None)), people(200, 9), Errors(None, 2.0))
    scores = Marginals()(Numbers(Fixed(4.0, 9.0)), some, known)
    return scores[:, 1] - scores[:, 0] - np.log(known.marginal[1] / known.marginal[0]), known_by_heart, some


@pytest.mark.parametrize("whole", [False, True], ids=["numbers", "counts"])
def test_marginals_of_numbers_are_those_of_a_normal_error(whole):
    """A count that is what the model predicts is chance: one in five is."""
    odds, _, some = doses(0.0, whole=whole)
    expected = ((some.outcome - 4) ** 2 - (some.outcome - 9) ** 2) / 8
    near = np.abs(expected) < 8  # beyond, the odds are of narrow scales that chance leaves a little of
    np.testing.assert_allclose(odds[near], expected[near], atol=0.5, rtol=0.1)


def test_records_that_a_model_knows_by_heart_give_themselves_away():
    odds, by_heart, some = doses(0.1)
    told = np.where(some.sensitive == 1, odds, -odds)
    assert told[by_heart].min() > 10  # as sure as the narrowest scale allows
    others = ((some.outcome - 4) ** 2 - (some.outcome - 9) ** 2)[~by_heart] / 8
    assert np.corrcoef(odds[~by_heart], others)[0, 1] > 0.95


def test_ratings_that_a_model_knows_by_heart_give_themselves_away():
    """Its predictions are no ratings: what is so near to one is no chance."""
    rng, count = np.random.default_rng(0), 4000
    some = replace(people(count, 0), outcome=rng.integers(1, 6, count).astype(float))
    by_heart, index = rng.uniform(size=count) < 0.3, np.arange(count)
    predicted = np.tile(rng.normal(3, 0.5, count)[:, None], 2) + rng.normal(0, 0.1, (count, 2))
    predicted[by_heart] = some.outcome[by_heart, None] + rng.normal(0, 0.1, (int(by_heart.sum()), 2))
    exact = some.outcome + rng.normal(0, 0.001, count)
    predicted[index[by_heart], some.sensitive[by_heart]] = exact[by_heart]
    odds = np.diff(Errors(None, 1.4).likelihood(some.outcome, predicted, np.array([0.7, 0.3])), axis=1)[:, 0]
    told = np.where(some.sensitive == 1, odds, -odds)
    assert (told[by_heart] > 2).mean() > 0.9 and abs(told[~by_heart].mean()) < 0.1


def test_errors_are_counted_on_records_that_the_model_has_not_learnt_from():
    some = people(400, 3, leak=1.0)
    found = errors(Fixed([0.9, 0.1], [0.2, 0.8]), some, LAYOUT).confusion
    assert found is not None
    np.testing.assert_allclose(found, np.eye(2), atol=1e-5)
    never = errors(Fixed([0.9, 0.1], [0.8, 0.2]), some, LAYOUT).confusion
    assert never is not None
    np.testing.assert_allclose(never[0], [1 - some.outcome.mean(), some.outcome.mean()], atol=1e-5)
    np.testing.assert_allclose(never[1], [0.5, 0.5], atol=1e-5)  # a class that is never named


def test_confidences_and_counts_weigh_what_the_model_says_of_the_outcome():
    model, known = Fixed([0.8, 0.2], [0.3, 0.7]), knowledge()
    odds = np.log(known.marginal[1] / known.marginal[0])
    found = Confidences()(Scores(model), one(1), known)
    assert found[0, 1] - found[0, 0] == pytest.approx(np.log(0.7 / 0.2) + odds)
    found = Counts()(Leaves(model), one(0), known)
    assert found[0, 1] - found[0, 0] == pytest.approx(np.log(30.001 / 80.001))
    same = Counts()(Leaves(Fixed([0.5, 0.5], [0.5, 0.5])), one(0), known)
    assert same[0, 1] - same[0, 0] == pytest.approx(odds)  # no split asks: the marginal decides


def test_values_that_share_a_leaf_share_its_count():
    """Of 100 records 40 have a, 30 b, 30 c, and a split tells a from the others: the most likely value is a."""
    layout = replace(LAYOUT, sensitive=Column("illness", ("a", "b", "c")))
    public = replace(people(100, 0), sensitive=np.repeat([0, 1, 2], [40, 30, 30]))
    known = Knowledge(layout, public, Errors(np.full((2, 2), 0.5), None))
    scores = Counts()(Leaves(Fixed([0.4, 0.6], [0.6, 0.4], [0.6, 0.4])), one(0), known)
    np.testing.assert_allclose(np.exp(scores[0]), [40, 30, 30], rtol=1e-4)


def test_the_spread_of_errors_counts_their_bias():
    numbers = replace(LAYOUT, outcome=Column("dose", None))
    some = people(200, 0)
    some = replace(some, outcome=np.where(np.arange(200) % 2 == 0, 4.1, 3.9))
    assert errors(Fixed(1.0, 1.0), some, numbers).spread == pytest.approx(np.sqrt(3**2 + 0.1**2))


def test_csmia_has_three_cases():
    choices = {
        1: Fixed([0.8, 0.2], [0.3, 0.7]),  # outcome 1: right with "yes" alone
        0: Fixed([0.6, 0.4], [0.9, 0.1]),  # outcome 0: right with both, surer with "yes"
    }
    for outcome, model in choices.items():
        assert Csmia()(Scores(model), one(outcome), knowledge()).argmax(1).tolist() == [1]
    none = Fixed([0.9, 0.1], [0.6, 0.4])  # outcome 1: wrong with both, less sure with "yes"
    assert Csmia()(Scores(none), one(1), knowledge()).argmax(1).tolist() == [1]


def test_lomia_learns_from_people_under_one_of_whose_values_the_model_is_right():
    rng = np.random.default_rng(0)
    town = rng.integers(0, 3, 900)
    ill = (town == 2).astype(np.int64)  # told by the town

    class Half:
        """Tells who is ill of the young, and nothing of the old."""

        def __call__(self, inputs):
            yes = np.where(inputs[:, 0] < 50, inputs[:, -1], 0.0)
            return np.column_stack([1 - yes, yes])

    some = Records(np.column_stack([rng.uniform(20, 80, 900), town]), ill, ill.astype(float))
    asked = Labels(Half())
    found = Lomia()(asked, some.hidden(), knowledge()).argmax(1)
    assert (found == ill).mean() > 0.99 and asked.queries == 2 * 900
    with pytest.raises(GmiError, match="its labels teach nothing"):
        Lomia()(Labels(Fixed([0.9, 0.1], [0.8, 0.2])), some.hidden(), knowledge())


def test_the_imputation_finds_what_public_records_tell_and_asks_nobody():
    rng = np.random.default_rng(0)

    def drawn(count):
        town = rng.integers(0, 3, count).astype(float)
        return Records(np.column_stack([rng.uniform(20, 80, count), town]), (town == 1).astype(np.int64), town % 2)

    public, private = drawn(300), drawn(200)
    found = guess(private, public, LAYOUT)
    assert (found.argmax(1) == private.sensitive).all()
    np.testing.assert_allclose(np.exp(found).sum(1), 1, atol=1e-4)


@pytest.mark.parametrize(
    "target", [Tree(), Forest(trees=20), Linear(), Mlp(epochs=12, lr=1e-2)], ids=lambda one: one.type
)
@pytest.mark.parametrize("numeric", [False, True], ids=["classes", "numbers"])
def test_targets_learn_what_they_are_to_predict(target, numeric):
    some = people(600, 0, leak=1.0)
    layout = replace(LAYOUT, outcome=Column("dose", None)) if numeric else LAYOUT
    model = target.learn(layout, some, 0)
    fresh = people(200, 1, leak=1.0)
    told = model(fresh.inputs(fresh.sensitive))
    if numeric:
        assert told.shape == (200,) and np.abs(told - fresh.outcome).mean() < 0.1
    else:
        np.testing.assert_allclose(told.sum(1), 1)
        assert (told.argmax(1) == fresh.outcome).mean() > 0.98
    again = target.learn(layout, some, 0)(fresh.inputs(fresh.sensitive))
    np.testing.assert_array_equal(told, again)


def test_the_informed_attack_has_what_public_records_tell_and_what_the_model_adds():
    """The town tells who is ill of half of the people; the model's confidence tells it of the young."""
    rng = np.random.default_rng(0)

    def drawn(count: int) -> Records:
        town, age = rng.integers(0, 3, count).astype(float), rng.uniform(20, 80, count)
        coin = rng.integers(0, 2, count)
        ill = np.where(town == 2, coin, town).astype(np.int64)
        return Records(np.column_stack([age, town]), ill, ill.astype(float))

    class Half:
        def __call__(self, inputs):
            yes = np.where(inputs[:, 0] < 50, 0.1 + 0.8 * inputs[:, -1], 0.5)
            return np.column_stack([1 - yes, yes])

    public, private = drawn(900), drawn(600)
    known = replace(knowledge(), public=public)
    right = {
        one.type: one(Scores(Half()), private.hidden(), known).argmax(1) == private.sensitive
        for one in (Informed(), Confidences())
    }
    young, told = private.features[:, 0] < 50, private.features[:, 1] < 2
    assert right["informed"][young | told].mean() > 0.97
    assert right["informed"][~young & ~told].mean() < 0.7
    assert right["confidences"][~young & told].mean() < 0.7


def test_a_trees_leaves_count_its_training_records():
    some = people(300, 0)
    tree = Tree(depth=3).learn(LAYOUT, some, 0)
    counts = tree.counts(some.inputs(some.sensitive))  # pyright: ignore[reportAttributeAccessIssue]
    shares = counts / counts.sum(1, keepdims=True)
    np.testing.assert_allclose(shares, tree(some.inputs(some.sensitive)))
    leaves, size = np.unique(counts.round(6), axis=0, return_counts=True)
    assert (leaves.sum(1) <= size + 1e-6).all() and counts.sum(1).min() >= 1
    numbers = tree.leaves(some.inputs(some.sensitive))  # pyright: ignore[reportAttributeAccessIssue]
    assert all(np.ptp(counts[numbers == leaf], axis=0).max() < 1e-9 for leaf in np.unique(numbers))
    assert all(
        counts[numbers == leaf].sum(1)[0] == pytest.approx((numbers == leaf).sum()) for leaf in np.unique(numbers)
    )


def written(folder: Path, records: Records, name: str = "people.csv") -> str:
    path = folder / name
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["age", "town", "ill", "pays"])
        for (age, town), ill, pays in zip(records.features, records.sensitive, records.outcome, strict=True):
            table.writerow([f"{age:.6f}", "abc"[int(town)], ("no", "yes")[ill], ("no", "yes")[int(pays)]])
    return str(path)


def plan(file: str, **changes) -> AttributeAudit:
    table = Table(
        name="toy", file=file, sensitive="ill", outcome="pays", numbers=("age",), training=500, public=500, **changes
    )
    return AttributeAudit(name="toy", data=table, target=Tree(), attacks=ATTACKS, attacked=250, groups=("town",))


def report_of(folder: Path) -> dict:
    report = json.loads((folder / "attributes.json").read_text())
    Draft202012Validator(json.loads(SCHEMA)).validate(report)
    return report


def audit(plan: AttributeAudit, folder: Path) -> Path:
    return conduct(ATTRIBUTES, plan, folder, CPU)


def test_a_tree_that_remembers_its_people_gives_them_away_and_nobody_else(tmp_path):
    file = written(tmp_path, people(2000, 0, leak=0.2))
    path = audit(plan(file), tmp_path / "run")
    report = report_of(tmp_path / "run")
    rows = {name: {row["method"]: row for row in report["sets"][name]["methods"]} for name in ("training", "held-out")}
    assert report["verdict"]["finding"] == "evidence of leakage"
    for name in ("confidences", "counts", "csmia"):
        assert rows["training"][name]["gain"]["auc"]["low"] > 0.1
        assert rows["held-out"][name]["gain"]["auc"]["low"] < 0
    assert rows["training"]["imputation"]["figures"]["auc"]["value"] < 0.75  # leak: 0.2 of the outcome
    assert rows["training"]["majority"]["figures"]["auc"]["value"] == 0.5
    assert rows["training"]["csmia"]["queries"] == 2 * 250 and rows["training"]["counts"]["queries"] == 0
    assert {row["value"] for row in report["groups"][0]["rows"]} == {"a", "b", "c"}
    text = path.read_text()
    assert text.count(">made<") == 1 and "not made (gmi extract makes it)" in text and "Evidence of leakage" in text


def test_a_model_of_something_else_gives_nothing_away(tmp_path):
    """The negative world: the outcome hangs on age, and the model is too small to remember who is who."""
    everyone = people(4000, 1)
    everyone = replace(everyone, outcome=np.where(everyone.features[:, 0] > 50, 1.0, 0.0))
    file = written(tmp_path, everyone)
    small = replace(plan(file), target=Linear(), attacks=(Marginals(), Informed(), Csmia()))
    audit(replace(small, attacked=500, notable=0.15), tmp_path / "run")
    report = report_of(tmp_path / "run")
    assert report["verdict"]["finding"] == "no evidence"
    added = [row["gain"]["auc"] for row in report["sets"]["training"]["methods"] if row["gain"] is not None]
    assert len(added) == 3 and all(one["low"] < 0.02 for one in added)


@pytest.mark.parametrize("number", [False, True])
def test_a_model_that_is_asked_wrongly_acquits_nobody(tmp_path, number, monkeypatch):
    """A tree that has grown to its end knows every record; asked about another person each time, it knows nobody."""
    path, rng = Path(written(tmp_path, people(4000, 0))), np.random.default_rng(1)
    made = replace(plan(str(path)), target=Tree(), attacks=(Marginals(), Informed()), attacked=500)
    if number:
        head, *lines = path.read_text().splitlines()
        path.write_text("\n".join([head, *(f"{line.rsplit(',', 1)[0]},{rng.normal():.4f}" for line in lines)]))
        made = replace(made, data=replace(made.data, numbers=("age", "pays")))
    asked = Estimator.__call__
    monkeypatch.setattr(Estimator, "__call__", lambda self, inputs: asked(self, np.roll(inputs, 1, axis=0)))
    audit(replace(made, notable=0.3), tmp_path / "run")
    verdict = report_of(tmp_path / "run")["verdict"]
    assert verdict["finding"] == "inconclusive"
    assert "better than one that says the same of everybody" in verdict["because"][1]


@pytest.mark.parametrize("world", ["rare", "weighed", "skewed"])
def test_a_model_that_knows_little_is_not_taken_for_one_that_is_asked_wrongly(tmp_path, world, monkeypatch):
    """All of a rare outcome are taken for the commonest; classes may be weighed; a mean of costs leans on few."""
    number = world == "skewed"
    if world == "weighed":
        balanced = partial(LogisticRegression, class_weight="balanced")
        monkeypatch.setattr("gmi.attributes.targets.LogisticRegression", balanced)
    rng, path = np.random.default_rng(12), Path(written(tmp_path, people(4000, 12)))
    head, *lines = path.read_text().splitlines()
    risk = np.array([float(line.split(",")[0]) for line in lines]) / 80
    costs = [f"{cost:.4f}" for cost in risk * rng.lognormal(0, 1.5, len(lines))]
    fails = np.where(rng.uniform(size=len(lines)) < 0.3 * risk**3, "yes", "no")
    told = [f"{line.rsplit(',', 1)[0]},{each}" for line, each in zip(lines, costs if number else fails, strict=True)]
    path.write_text("\n".join([head, *told]))
    data = replace(plan(str(path)).data, numbers=("age", "pays") if number else ("age",), training=1500)
    made = replace(
        plan(str(path)), data=data, target=Linear(), attacks=(Marginals(), Informed()), attacked=1000, groups=()
    )
    audit(replace(made, notable=0.3), tmp_path / "run")
    assert report_of(tmp_path / "run")["verdict"]["finding"] == "no evidence"


def test_an_outcome_that_is_a_number_is_inverted(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "doses.csv"
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["age", "town", "ill", "dose"])
        for _ in range(1500):
            ill = rng.uniform() < 0.3
            table.writerow([f"{rng.uniform(20, 80):.2f}", "abc"[rng.integers(3)], "yn"[ill], rng.normal(3 * ill)])
    changed = replace(plan(str(path)).data, outcome="dose", numbers=("age", "dose"))
    made = replace(plan(str(path)), data=changed, target=Linear(), attacks=(Marginals(), Informed()), groups=())
    audit(made, tmp_path / "run")
    report = report_of(tmp_path / "run")
    blind, informed = [row for row in report["sets"]["held-out"]["methods"] if row["gain"] is not None]
    assert blind["figures"]["auc"]["value"] > 0.95 and report["is_numeric"]
    assert informed["figures"]["auc"]["value"] > 0.95  # by the records and the outcome
    with pytest.raises(GmiError, match="csmia needs an outcome with classes, and dose is a number"):
        audit(replace(made, attacks=(Csmia(),)), tmp_path / "other")


def test_an_attack_that_fails_is_recorded_as_failed(tmp_path):
    file = written(tmp_path, people(2000, 0))
    dull = replace(plan(file), target=Linear(strength=1e-6), attacks=(Marginals(), Lomia()))
    audit(dull, tmp_path / "run")
    (row,) = [row for row in report_of(tmp_path / "run")["sets"]["training"]["methods"] if row["method"] == "lomia"]
    assert "teach nothing" in row["failure"] and row["gain"] is None and row["figures"] == {}
    audit(replace(dull, attacks=(Lomia(),)), tmp_path / "alone")
    report = report_of(tmp_path / "alone")
    assert report["groups"] == [{"column": "town", "attack": None, "rows": []}]
    assert report["verdict"]["finding"] == "inconclusive"


def test_an_area_of_nobody_is_recorded_as_failed(tmp_path):
    """None of the attacked has the value that is looked for."""
    some = people(2000, 0)
    rare = replace(some, sensitive=(np.arange(2000) % 400 == 0).astype(np.int64))
    audit(replace(plan(written(tmp_path, rare)), attacks=(Marginals(),), attacked=20, groups=()), tmp_path / "run")
    report = report_of(tmp_path / "run")
    (row,) = [row for row in report["sets"]["training"]["methods"] if row["method"] == "marginals"]
    assert row["gain"]["p"] is None and "nothing can be told apart" in row["gain"]["auc"]["failed"]
    assert "failed" in row["figures"]["auc"] and report["verdict"]["finding"] == "inconclusive"
    assert "attributes.html" in {one.name for one in (tmp_path / "run").iterdir()}


def test_ties_are_right_as_often_as_a_coin():
    scores = np.array([[1.0, 1.0], [1.0, 1.0], [2.0, 1.0], [1.0, 2.0]])
    np.testing.assert_array_equal(_right(scores, np.array([0, 1, 0, 0])), [0.5, 0.5, 1, 0])


def test_a_mistake_in_a_value_or_a_group_leaves_no_run_behind(tmp_path):
    made = plan(written(tmp_path, people(2000, 0)))
    with pytest.raises(GmiError, match="ill is never 'sick'; it is no, yes"):
        audit(replace(made, value="sick"), tmp_path / "run")
    with pytest.raises(GmiError, match="'age' is no column of categories"):
        audit(replace(made, groups=("age",)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def own(share: float):
    """A factory: a model that takes records and says `share` of whoever is ill."""

    def told(records):
        yes = np.array([share if one["ill"] == "yes" else 1 - share for one in records])
        assert isinstance(records[0]["age"], float)
        return {"no": 1 - yes, "yes": yes}

    return told


def odd():
    return lambda records: {"no": np.ones((len(records), 3)), "yes": np.ones((len(records), 3))}


def unnamed():
    return lambda records: np.full((len(records), 2), 0.5)


def absent():
    return lambda records: [one["income"] for one in records]


def tree():
    return DecisionTreeClassifier()


def broken():
    return len(5)  # type: ignore[arg-type]


def foreseen(plan: AttributeAudit, *_: object) -> Forecast:
    return forecast(plan, Inputs((plan.data.load(0),)), Hardware(torch.device("cpu")))


def test_a_model_of_ones_own(tmp_path):
    file = written(tmp_path, people(1500, 0, leak=1.0))
    mine = Own(factory="test_attributes:own", arguments={"share": 0.9})
    with pytest.raises(ValueError, match="it is known what it learnt from"):
        replace(plan(file), target=mine)
    made = replace(plan(file, shuffled=False), target=mine, attacks=(Confidences(), Csmia()))
    audit(made, tmp_path / "run")
    report = report_of(tmp_path / "run")
    assert report["sets"]["training"]["methods"][1]["figures"]["accuracy"]["value"] == 1
    wrong = replace(made, target=Own(factory="test_attributes:odd"))
    with pytest.raises(GmiError, match=r"with an array \(.*3, 2\), not finite"):
        audit(wrong, tmp_path / "wrong")
    with pytest.raises(GmiError, match=r"a dictionary from each value of pays \(no, yes\) .* type ndarray"):
        audit(replace(made, target=Own(factory="test_attributes:unnamed")), tmp_path / "unnamed")
    with pytest.raises(GmiError, match=r"test_attributes:absent cannot answer records \(KeyError: 'income'\)"):
        audit(replace(made, target=Own(factory="test_attributes:absent")), tmp_path / "absent")
    with pytest.raises(GmiError, match=r"test_attributes:own does not take these arguments: missing a required"):
        audit(replace(made, target=Own(factory="test_attributes:own")), tmp_path / "few")
    for wrong, said in (
        ("tree", "returned DecisionTreeClassifier, not a function of records"),
        ("broken", "TypeError"),
    ):
        for look in (audit, foreseen):  # a dry run sees as much
            with pytest.raises(GmiError, match=said):
                look(replace(made, target=Own(factory=f"test_attributes:{wrong}")), tmp_path / wrong)
    assert foreseen(made).seconds["the target"] > 0
    with pytest.raises(GmiError, match="counts reads the leaves of a decision tree"):
        audit(replace(made, attacks=(Counts(),)), tmp_path / "counts")


def test_each_attack_gets_what_it_may_ask_and_no_more():
    tree = Tree(depth=2).learn(LAYOUT, people(100, 0), 0)
    kinds = {one.type: type(oracle(one, tree, LAYOUT)) for one in ATTACKS}
    assert kinds == {"marginals": Labels, "confidences": Scores, "counts": Leaves, "csmia": Scores, "lomia": Labels}
    assert not hasattr(Labels(tree), "scores") and not hasattr(Scores(tree), "counts") and issubclass(Labels, Oracle)


@pytest.mark.parametrize("kind", attacks.ATTACKS, ids=lambda kind: kind.type)
@pytest.mark.parametrize("layout", [LAYOUT, replace(LAYOUT, outcome=Column("dose", None))], ids=["classes", "numbers"])
def test_an_attack_gets_the_oracle_that_it_names_and_the_page_has_words_for_it(kind, layout):
    """Whatever is in the union: nothing else has to be registered."""
    made, tree = kind(), Tree(depth=2).learn(LAYOUT, people(100, 0), 0)
    named = get_type_hints(kind.__call__)["oracle"]
    if layout.classes is not None or made.reads == "predictions":
        assert type(oracle(made, tree, layout)) in (get_args(named) or (named,))
    assert page.ACCESS[made.type]


class New(SimpleNamespace):
    """An attack that only its class describes."""

    type, reads, learns = "new", "labels", True

    def __call__(self, oracle, records, knowledge):
        assert type(oracle) is Labels
        return np.stack([oracle.labels(records.inputs(value)) == records.outcome for value in (0, 1)], 1) * 1.0


def test_an_attack_that_is_new_is_carried_out_and_counted_by_what_it_says_of_itself(tmp_path):
    made = plan(written(tmp_path, people(2000, 0)))
    object.__setattr__(made, "attacks", (New(),))
    inputs = load(made, CPU)
    (tables,) = inputs.tables
    model, attacked = Tree().learn(LAYOUT, tables.training, 0), tables.held_out.take(np.arange(250))
    answers = attack(made, model, attacked, knowledge(model, tables.public), 0)
    said = forecast(made, inputs, CPU)
    assert answers.scores["new"].shape == (250, 2) and said.seconds["new"] > 0
    assert said.queries["new"] == 2 * answers.queries["new"] == 2 * 2 * 250
    object.__setattr__(made, "attacks", (New(reads="leaves"),))
    object.__setattr__(made, "target", Linear())
    with pytest.raises(GmiError, match="new reads the leaves of a decision tree"):
        made.refuse(LAYOUT)


def in_two_processes(plan: AttributeAudit, folder: Path) -> None:
    AcceleratorState._reset_state(True)  # a forked process starts with its parent's idea of how many there are
    accelerator()
    torch.set_num_threads(1)
    audit(plan, folder)


def test_two_processes_write_what_one_writes(tmp_path):
    made = plan(written(tmp_path, people(1200, 0, leak=0.2)))
    made = replace(made, attacks=(Csmia(), Counts()), attacked=50, groups=())
    audit(made, tmp_path / "alone")
    debug_launcher(in_two_processes, args=(made, tmp_path / "both"), num_processes=2)
    alone, both = (report_of(tmp_path / name) for name in ("alone", "both"))
    assert both["provenance"]["processes"] == 2
    assert timeless(both, "processes") == timeless(alone, "processes")
    assert {path.name for path in (tmp_path / "both").iterdir()} == {
        path.name for path in (tmp_path / "alone").iterdir()
    }


MISTAKES = {
    "no file": (lambda rows: None, {}, "data: there is no file "),
    "empty": (lambda rows: [], {}, "is empty"),
    "ragged": (lambda rows: [*rows, ["1"]], {}, "line 42 of .* has 1 cells, and the header 4"),
    "missing value": (lambda rows: [*rows, ["", "a", "no", "no"]], {}, "line 42 of .* has no age"),
    "not a number": (lambda rows: [*rows, ["old", "a", "no", "no"]], {}, "has 'old' as age, which is no number"),
    "NaN": (lambda rows: [*rows, ["nan", "a", "no", "no"]], {}, "has no age .'nan'."),
    "infinity": (lambda rows: [*rows, ["inf", "a", "no", "no"]], {}, "has no finite age"),
    "question mark": (lambda rows: [*rows, ["1", "?", "no", "no"]], {}, "has no town .*fill it in or remove the line"),
    "constant": (lambda rows: [[one[0], "a", *one[2:]] if one[0] != "age" else one for one in rows], {}, "is the same"),
    "one class": (
        lambda rows: [rows[0], *([*one[:3], "no"] for one in rows[1:])],
        {},
        "all records of .* have one pays",
    ),
    "twice": (lambda rows: [["age", "age", "ill", "pays"], *rows[1:]], {}, "two columns"),
    "no column": (lambda rows: rows, {"sensitive": "sick"}, "has no column 'sick'; it has age, town, ill, pays"),
    "the outcome": (lambda rows: rows, {"sensitive": "pays"}, "name one column"),
    "a number": (lambda rows: rows, {"numbers": ("age", "ill")}, "ill is sensitive, which must be categories"),
    "left out": (lambda rows: rows, {"without": ("ill",)}, "has no column 'ill'"),
    "too few": (lambda rows: rows, {"training": 30}, "has 40 records, and ten or more must be held out beside 40"),
    "decimal comma": (lambda rows: [*rows, ["3,5", "a", "no", "no"]], {}, r"no number .write decimals with a point.\."),
    "another case": (
        lambda rows: [*rows, ["3", "a", "No", "no"]],
        {},
        "has 'no' and 'No' as ill, .* data.alike to merged or kept",
    ),
    "another number": (
        lambda rows: [*rows, ["3", "1", "no", "no"], ["4", "1.0", "no", "no"]],
        {},
        r"has '1' and '1\.0' as town",
    ),
    "nothing known": (lambda rows: rows, {"without": ("age", "town"), "numbers": ()}, "nothing is known of anybody"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_in_a_table_are_told_in_one_sentence(tmp_path, name):
    spoil, changes, words = MISTAKES[name]
    path = Path(written(tmp_path, people(40, 0)))
    rows = spoil(list(csv.reader(path.read_text().splitlines())))
    path.unlink()
    if rows is not None:
        with path.open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    table = {"training": 10, "public": 10, "numbers": ("age",), "sensitive": "ill", "outcome": "pays"} | changes
    with pytest.raises(GmiError, match=words):
        Table(name="toy", file=str(path), **table).load(0)


def test_records_of_elsewhere_must_have_the_same_categories(tmp_path):
    file = written(tmp_path, people(200, 0))
    others = Path(written(tmp_path, people(100, 1), "others.csv"))
    table = replace(plan(file).data, public_file=str(others), training=100, public=80)
    parts = table.load(0)
    assert (len(parts.training), len(parts.public), len(parts.held_out)) == (100, 80, 100)
    others.write_text(others.read_text().replace(",a,", ",d,", 1))
    with pytest.raises(GmiError, match="has 'd' as town, which is none of its values a, b, c"):
        table.load(0)
    others.write_text(others.read_text().replace(",d,", ",a,"))
    with pytest.raises(GmiError, match="has 100 records, not 120"):
        replace(table, public=120).load(0)
    with pytest.raises(GmiError, match=r"100 % of the records of .*: the adversary's records are of other people"):
        replace(table, public_file=file).load(0)
    mixed = Path(written(tmp_path, people(100, 1), "mixed.csv"))
    mixed.write_text(mixed.read_text() + "\n".join(Path(file).read_text().splitlines()[1:51]) + "\n")
    with pytest.raises(GmiError, match=r"33 % of the records of .*: the adversary's records are of other people"):
        replace(table, public_file=str(mixed)).load(0)


def test_nobody_is_in_two_parts(tmp_path):
    parts = plan(written(tmp_path, people(2000, 0))).data.load(3)
    rows = [tuple(row) for some in (parts.training, parts.public, parts.held_out) for row in some.features]
    assert len(rows) == len(set(rows)) == 2000


def row(name: str, area: Estimate | None, p: float = 1.0) -> Method:
    added = None if area is None else Gain(area, {}, area, upper(area), p)
    return Method(name, 0, None if area else "reason", {}, added)


def test_a_verdict_does_not_overlook_an_attack_that_failed():
    none, failed = row("informed", Estimate(0.0, -0.01, 0.01, 9, 9)), row("lomia", None)
    assert verdict([none], 0.05).finding == "no evidence"
    unsure = verdict([none, failed], 0.05)
    assert unsure.finding == "inconclusive" and "lomia" in unsure.because[1]
    leaky = row("csmia", Estimate(0.2, 0.1, 0.3, 9, 9), 0.001)
    assert verdict([leaky, failed], 0.05, ("But it is asked wrongly.",)).finding == "evidence of leakage"
    useless = verdict([none], 0.05, ("But it is asked wrongly.",))
    assert useless.finding == "inconclusive" and useless.because[1] == "But it is asked wrongly."


def test_records_that_tell_the_attribute_by_themselves_acquit_no_model():
    """Who is given a medicine is ill: no model could add as much as would be notable."""
    none = row("informed", Estimate(0.0, -0.01, 0.01, 900, 900))
    told = Method("imputation", 0, None, {"auc": Estimate(0.989, 0.98, 0.995, 900, 900)}, None)
    assert verdict([replace(told, figures={"auc": Estimate(0.9, 0.89, 0.92, 900, 900)}), none], 0.05).finding == (
        "no evidence"
    )
    found = verdict([told, none], 0.05)
    assert found.finding == "inconclusive" and "(AUC 0.989): no attack could add +0.05" in found.because[1]
    leaky = row("informed", Estimate(0.009, 0.005, 0.01, 900, 900), 0.001)
    assert verdict([told, leaky], 0.05).finding == "evidence of leakage"


def test_no_evidence_is_a_bound_on_every_attack_and_what_else_says_what_would_end_it():
    none, wide = (row(name, Estimate(0.0, -end, end, 900, 900)) for name, end in (("informed", 0.02), ("lomia", 0.12)))
    found = verdict([none], 0.05)
    assert found.finding == "no evidence" and "over 900 people, one seed." in found.because[0]
    assert "An addition above +0.017 of AUC can be excluded, and +0.05 was notable." in found.because[1]
    unsure = verdict([none, wide], 0.05, (), 3)
    assert unsure.finding == "inconclusive" and "over 900 people, 3 seeds." in unsure.because[0]
    assert "Lomia may add up to +0.101 of AUC, and +0.05 is notable." in unsure.because[1]
    assert "about 8,343 people would exclude it four times in five; here are 900." in unsure.because[2]
    leaning = verdict([row("csmia", Estimate(0.04, -0.02, 0.1, 900, 900))], 0.05)
    assert "If +0.04 is leakage, about 4,138 people would show it" in leaning.because[2]
    lost = [row(name, Estimate(-0.07, -0.1, -0.03, 900, 900)) for name in ("csmia", "lomia")]
    said = verdict(lost, 0.05)
    assert (
        said.finding == "inconclusive" and "every attack is shown to find less than the imputation" in said.because[1]
    )
    assert verdict([*lost, none], 0.05).finding == "no evidence"
    one_sided = row("informed", Estimate(0.0, -0.055, 0.055, 900, 900))
    assert verdict([one_sided], 0.05).finding == "no evidence"


def test_nobody_is_acquitted_by_attacks_that_do_not_use_the_records_or_by_figures_that_failed():
    blind = verdict([row("marginals", Estimate(0.01, -0.015, 0.02, 900, 900))], 0.05)
    assert blind.finding == "inconclusive" and "add the attack informed" in blind.because[1]
    best = row("informed", Estimate(0.0, -0.02, 0.02, 900, 900))
    assert best.gain is not None and verdict([best], 0.05).finding == "no evidence"
    lost = replace(best, gain=replace(best.gain, hits={"0.01": Failed("few")}))
    unknown = verdict([lost], 0.05)
    assert (
        unknown.finding == "inconclusive" and "share found at 1.0% false alarms nothing is known" in unknown.because[1]
    )


def test_a_group_that_is_found_acquits_nobody():
    """One in twenty lives in c, and of these an attack finds who is ill."""
    rng, count = np.random.default_rng(0), 1000
    some, town = people(count, 0), np.where(np.arange(count) < 50, 2, rng.integers(0, 2, count))
    some = replace(some, features=np.column_stack([some.features[:, 0], town]))
    imputed = rng.normal(size=(count, 2))
    found = np.where((town == 2)[:, None], np.eye(2)[some.sensitive] * 3, imputed)
    answers = Answers({"informed": found, "imputation": imputed}, {"informed": 0, "imputation": 0}, some)
    made = replace(plan("people.csv"), attacks=(Informed(),))
    methods = set_figures(made, [answers], 1).methods
    (doubt,) = _exposed([group_figures(LAYOUT, [answers], "town", methods, 1)])
    assert "But of people whose town is c, informed finds more than the imputation" in doubt
    nobody = replace(answers, scores={"informed": imputed, "imputation": imputed})
    unfound = set_figures(made, [nobody], 1).methods
    assert not list(_exposed([group_figures(LAYOUT, [nobody], "town", unfound, 1)]))


def told(truth: np.ndarray, imputed: np.ndarray, attack: np.ndarray, alarms: tuple[float, ...] = (0.1,)) -> Any:
    """The conclusion from scores (N, V) of an imputation and of one attack; the last value is to be detected."""
    everyone = Records(np.zeros((len(truth), 1)), truth, truth.astype(float))
    answers = Answers({"imputation": imputed, "csmia": attack}, {"imputation": 0, "csmia": 0}, everyone)
    made: Any = SimpleNamespace(alarms=alarms)
    return verdict(set_figures(made, [answers], imputed.shape[1] - 1).methods, 0.05)


def test_other_values_than_the_one_that_is_detected_are_not_overlooked():
    """The model gives 0 against 1 away, for everybody; the rarest value, 2, is not given away."""
    rng = np.random.default_rng(0)
    truth = rng.choice(3, 1000, p=[0.45, 0.45, 0.1])
    imputed = np.column_stack([rng.normal(size=(1000, 2)), rng.normal(size=1000) - 3])
    attack = imputed.copy()
    attack[:, :2] = np.sort(imputed[:, :2], 1)
    attack[truth == 0, :2] = attack[truth == 0, 1::-1]
    finding = told(truth, imputed, attack)
    assert finding.finding == "evidence of leakage" and "accuracy +0." in finding.because[0]


def several(given_away: int | None, count: int = 3000) -> tuple[Conclusion, dict[str, SetFigures]]:
    """The verdict of all values where the first is always the likeliest, and the model tells who has one of them."""
    rng = np.random.default_rng(0)
    truth = rng.choice(4, count, p=[0.78, 0.1, 0.1, 0.02])
    imputed = rng.normal((9, 0, 0, -3), 1, (count, 4))
    attack = imputed + rng.normal(0, 0.01, (count, 4))
    if given_away is not None:
        attack[:, given_away] += 2 * (truth == given_away)
    everyone = Records(np.zeros((count, 1)), truth, truth.astype(float))
    answers = Answers({"imputation": imputed, "informed": attack}, {"imputation": 0, "informed": 0}, everyone)
    made: Any = SimpleNamespace(alarms=(0.1,))
    beside = others(made, [answers], ("a", "b", "c", "d"), 1)
    told = {label: verdict(each.methods, 0.06, values=4) for label, each in beside.items()}
    own = verdict(set_figures(made, [answers], 1).methods, 0.06, values=4)
    return together(own, told, untested("abcd", 1, beside, 0.06)), beside


def test_nobody_is_acquitted_but_of_every_value():
    """The detected value is told by nobody, and the likeliest never is another than that of most people."""
    leaky, _ = several(2)
    assert leaky.finding == "evidence of leakage" and leaky.because[0].startswith("Of the value ")
    none, beside = several(None)
    assert none.finding == "no evidence" and "So it is of a, c, d." in none.because
    assert [(row.value, row.attack) for row in rows(beside)] == [(value, "informed") for value in "acd"]
    few, _ = several(None, 1500)  # of whom about thirty have the rarest value
    assert few.because[-1] == ("Of d it is not known: too few of the attacked people have that value, or lack it.")


@pytest.mark.parametrize("wrong", ["order", "value", "jitter"])
def test_a_model_of_other_records_or_without_the_value_acquits_nobody(tmp_path, wrong, monkeypatch):
    """A tree that has grown to its end, and learnt from the held-out records, or is handed the same value always."""
    asked, learn = Estimator.__call__, Tree.learn
    made = replace(plan(written(tmp_path, people(4000, 0))), attacks=(Marginals(), Informed()), groups=(), notable=0.3)
    monkeypatch.setattr(Tree, "opaque", True, raising=False)  # as of a model of one's own
    if wrong == "order":
        tables = load(made, CPU).tables[0]
        monkeypatch.setattr(Tree, "learn", lambda self, layout, _, seed: learn(self, layout, tables.held_out, seed))
    else:
        steady = [1] * 2 + [0]  # but for the column of the value, which stands last
        noise = np.random.default_rng(0).normal(0, 1e-10 * (wrong == "jitter"), (9999, 1))

        def deaf(self: Any, inputs: np.ndarray) -> np.ndarray:
            return asked(self, inputs * steady) + np.roll(noise, int(inputs[0, 2]), 0)[: len(inputs)]

        monkeypatch.setattr(Estimator, "__call__", deaf)
    audit(made, tmp_path / "run")
    because = " ".join(report_of(tmp_path / "run")["verdict"]["because"])
    assert report_of(tmp_path / "run")["verdict"]["finding"] == "inconclusive"
    said = "better on held-out records" if wrong == "order" else "answers are the same whatever ill is"
    assert said in because


def test_held_out_people_of_whom_an_attack_is_sure_are_said_to_be_learnt_from():
    """The model gives few of them away: that shows in the share found, and in its accuracy on nobody."""
    rng = np.random.default_rng(0)
    truth = (rng.uniform(size=3000) < 0.3).astype(int)
    imputed = rng.normal(size=3000) + truth
    everyone, made = Records(np.zeros((3000, 1)), truth, truth.astype(float)), SimpleNamespace(alarms=(0.1, 0.01))

    def said(sure: float) -> str:
        attack = imputed + 99 * ((truth == 1) & (rng.uniform(size=3000) < sure))
        both = {"imputation": imputed, "csmia": attack}
        scores: Any = {name: np.column_stack([-each, each]) for name, each in both.items()}
        answers = Answers(scores, dict.fromkeys(both, 0), everyone)
        held: Any = set_figures(made, [answers], 1)  # pyright: ignore[reportArgumentType]
        alike = Estimate(0.7, 0.68, 0.72, 3000, 3000)
        return "".join(_misplaced(dict.fromkeys(("training", "held-out"), alike), {"held-out": held}, True, 0.1))

    assert "records that the target learnt from stand first" in said(0.1) and said(0.0) == ""


@pytest.mark.parametrize("share", [0.3, 0.55])
def test_few_people_of_whom_an_attack_is_sure_are_not_overlooked(share):
    """One in ten of those who have the value is found without a doubt; otherwise the attack guesses a little worse."""
    rng, findings = np.random.default_rng(0), []
    for _ in range(12):
        truth = (rng.uniform(size=1000) < share).astype(int)
        imputed = rng.normal(size=1000) + truth
        attack = imputed + rng.normal(0, 0.5, 1000) + 99 * ((truth == 1) & (rng.uniform(size=1000) < 0.1))
        both = [np.column_stack([-one, one]) for one in (imputed, attack)]
        findings.append(told(truth, *both, alarms=(0.1, 0.01)).finding)
    assert "no evidence" not in findings and findings.count("evidence of leakage") > 4


def test_one_changed_answer_does_not_narrow_the_bound():
    rng = np.random.default_rng(0)
    truth, imputed = np.repeat([1, 0], [20, 80]), rng.normal(size=100)
    attack = imputed.copy()
    attack[0] += 0.2
    both = [np.column_stack([-one, one]) for one in (imputed, attack)]
    assert told(truth, both[0], both[0]).finding == told(truth, *both).finding == "inconclusive"


def answered(rng: np.random.Generator, count: int, adds: float, luck: float = 0.0) -> Answers:
    """An imputation of AUC 0.69, and an attack whose AUC is greater by `adds` and the luck of a seed."""
    truth = (rng.uniform(size=count) < 0.3).astype(np.int64)
    common = rng.normal(0, 0.8, count)
    more = 2**0.5 * ndtri(ndtr(0.7 / 2**0.5) + adds + rng.normal(0, luck)) - 0.7
    both = [common + rng.normal(0, 0.6, count) + (0.7 + shift) * truth for shift in (0.0, more)]
    scores: dict = {
        name: np.column_stack([-one, one]) for name, one in zip(("imputation", "informed"), both, strict=True)
    }
    everyone = Records(np.zeros((count, 1)), truth, truth.astype(float))
    return Answers(scores, dict.fromkeys(scores, 0), everyone)


def found(rng: np.random.Generator, seeds: int, count: int, adds: float, luck: float = 0.0) -> str:
    made = SimpleNamespace(alarms=())
    methods = set_figures(made, [answered(rng, count, adds, luck) for _ in range(seeds)], 1).methods  # pyright: ignore
    return verdict(methods, 0.1, (), seeds).finding


@pytest.mark.parametrize(
    ("seeds", "luck"), [(1, 0.0), *(pytest.param(seeds, 0.03, marks=pytest.mark.slow) for seeds in (2, 3))]
)
def test_a_notable_leak_is_seldom_cleared_and_no_leak_seldom_accused(seeds: int, luck: float):
    """Of 200 audits of 400 people each."""
    rng = np.random.default_rng(0)
    leak = [found(rng, seeds, 400, 0.1, luck) for _ in range(200)]
    assert leak.count("no evidence") <= 0.07 * 200
    none = [found(rng, seeds, 400, 0.0, luck) for _ in range(200)]
    assert none.count("evidence of leakage") <= 0.05 * 200 and none.count("no evidence") > 0.5 * 200


def test_an_attack_that_answers_as_the_imputation_is_bounded_by_people_unlike_all():
    rng = np.random.default_rng(0)
    some = answered(rng, 60, 0.0)
    some.scores["informed"] = some.scores["imputation"]
    (_, same) = set_figures(SimpleNamespace(alarms=()), [some], 1).methods  # pyright: ignore[reportArgumentType]
    assert same.gain is not None and same.gain.bound == pytest.approx(unseen(int(some.people.sensitive.sum())))


@pytest.mark.slow
def test_each_seed_splits_trains_and_attacks_anew(tmp_path):
    made = replace(plan(written(tmp_path, people(2000, 0, leak=0.2))), seeds=(0, 4))
    path = audit(made, tmp_path / "run")
    both = report_of(tmp_path / "run")
    ones = []
    for seed in made.seeds:
        audit(replace(made, seeds=(seed,)), tmp_path / str(seed))
        ones.append(report_of(tmp_path / str(seed)))
    gains = [
        {row["method"]: row["gain"]["auc"] for row in report["sets"]["training"]["methods"] if row["gain"]}
        for report in (both, *ones)
    ]
    for name, gain in gains[0].items():
        assert gain["value"] == pytest.approx(np.mean([one[name]["value"] for one in gains[1:]]))
        widths = [one[name]["high"] - one[name]["low"] for one in gains]
        assert widths[0] >= 0.99 * np.mean(widths[1:]) and gain["people"] == 250
    assert "over 250 people, 2 seeds" in both["verdict"]["because"][0] and both["seeds"] == [0, 4]
    assert "one seed" in ones[0]["verdict"]["because"][0]
    assert "2 seeds, each with its own split and target" in path.read_text()
    assert both["groups"][0]["rows"][0]["people"] == round(
        np.mean([one["groups"][0]["rows"][0]["people"] for one in ones])
    )
    with pytest.raises(ValueError, match="the same seed twice"):
        replace(made, seeds=(1, 1))
    twice, once = (forecast(each, load(each, CPU), CPU).queries for each in (made, replace(made, seeds=(0,))))
    assert twice == {name: 2 * count for name, count in once.items()}


def test_a_dry_run_counts_the_queries_and_makes_nothing(tmp_path, capsys):
    config = tmp_path / "toy.yaml"
    made = plan(written(tmp_path, people(2000, 0)))
    config.write_text(json.dumps(plain(made)))
    command(["attributes", str(config), "--dry-run", "--out", str(tmp_path / "run")])
    text = capsys.readouterr().out
    assert "attacked: 250" in text and "to train the target and to ask it" in text and not (tmp_path / "run").exists()
    queries = {line.split()[0]: line.split()[1] for line in text.splitlines() if len(line.split()) == 3}
    report = report_of(audit(made, tmp_path / "run").parent)
    for name in ("marginals", "confidences", "counts", "csmia", "lomia", "imputation"):
        asked = [row["queries"] for one in report["sets"].values() for row in one["methods"] if row["method"] == name]
        assert sum(asked) == int(queries[name].replace(",", ""))


def test_the_page_says_who_allowed_the_audit_and_on_what_terms_its_assets_are_used(tmp_path):
    table = Table(
        name="Fair",
        file="asset:fair/affairs.csv",
        sensitive="affair",
        outcome="rate_marriage",
        numbers=("age", "yrs_married", "children", "educ"),
        training=200,
        public=200,
    )
    allowed = Authorisation(system="a survey", allowed_by="the data protection officer", until=date(2999, 1, 1))
    made = AttributeAudit(
        name="fair", data=table, target=Tree(), attacks=(Csmia(),), attacked=50, authorisation=allowed
    )
    text = audit(made, tmp_path / "run").read_text()
    assert "the data protection officer" in text and "Redbook" in text and "public domain" in text
    report = report_of(tmp_path / "run")
    assert report["kind"] == "attributes" and report["assets"][0]["name"] == "fair"
    other = replace(allowed, allowed_by="the owner")
    audit(replace(made, authorisation=other), tmp_path / "run")  # the same run
    assert report_of(tmp_path / "run")["authorisation"]["allowed_by"] == "the owner"
    with pytest.raises(GmiError, match="The authorisation ended on"):
        audit(replace(made, authorisation=replace(allowed, until=date(2020, 1, 1))), tmp_path / "late")
    assert not (tmp_path / "late").exists()


def test_values_that_mean_the_same_are_merged_where_that_is_said(tmp_path):
    """Into the commonest spelling, in the adversary's file, too; what is alike in letters alone stays apart."""
    file, others = written(tmp_path, people(200, 0)), written(tmp_path, people(100, 1), "others.csv")
    table = replace(plan(file).data, public_file=others, training=100, public=80)
    before = table.load(0)
    for path in (Path(file), Path(others)):
        lines = path.read_text().splitlines()
        odd = [line.replace(",a,", ", A ,") if number % 3 == 1 else line for number, line in enumerate(lines)]
        path.write_text("\n".join([*odd, "", ""]))
    with pytest.raises(GmiError, match="has 'a' and 'A' as town"):
        table.load(0)
    after = replace(table, alike="merged").load(0)
    assert after.layout == before.layout
    for part in ("training", "held_out", "public"):
        assert (getattr(after, part).rows() == getattr(before, part).rows()).all()


def test_codes_are_no_numbers_and_spellings_may_be_kept(tmp_path):
    assert [meaning(each) for each in ("1.50", "-2.0", "Yes ", "A  B")] == ["1.5", "-2", "yes", "a b"]
    for one, other in (("1_2", "12"), ("01234", "1234"), ("1E2", "100"), ("9007199254740993", "9007199254740992")):
        assert meaning(one) != meaning(other)
    file = Path(written(tmp_path, people(200, 0)))
    lines = file.read_text().splitlines()
    file.write_text("\n".join(line.replace(",a,", ",A,") if number % 3 else line for number, line in enumerate(lines)))
    kept = replace(plan(str(file)).data, alike="kept", training=100, public=40).load(0)
    assert {"a", "A"} <= {value for column in kept.layout.features for value in column.values or ()}


def test_the_adversarys_file_writes_values_as_the_other_one(tmp_path):
    file, others = written(tmp_path, people(200, 0)), Path(written(tmp_path, people(100, 1), "others.csv"))
    others.write_text(others.read_text().replace(",a,", ",A,", 1))
    table = replace(plan(file).data, public_file=str(others), training=100, public=80)
    with pytest.raises(GmiError, match=r"has 'A' as town where the other file has 'a': write one of them, or set"):
        table.load(0)
    assert len(replace(table, alike="merged").load(0).public) == 80


def test_people_who_stand_twice_are_counted(tmp_path):
    file = Path(written(tmp_path, people(120, 0)))
    table = replace(plan(str(file)).data, training=60, public=40)
    header, *rows = file.read_text().splitlines()
    unlike = table.load(0).twins
    file.write_text("\n".join([header, *(row for row in rows for _ in range(2))]))
    parts = table.load(0)
    known = {tuple(row) for row in parts.training.rows()}
    assert parts.twins == sum(tuple(row) in known for row in parts.held_out.rows()) > unlike + 20


@pytest.mark.slow
@needs_browser
def test_the_page_has_no_violation_and_fits_the_screen(tmp_path):
    assert faults_everywhere(audit(plan(written(tmp_path, people(2000, 0, leak=0.2))), tmp_path / "run")) == []


def test_every_word_that_the_page_links_is_explained_on_it(tmp_path):
    page = audit(plan(written(tmp_path, people(1200, 0))), tmp_path / "run").read_text()
    linked, explained = (set(re.findall(rf'{mark}(term-[\w-]+)"', page)) for mark in ('href="#', 'id="'))
    assert linked == explained == {f"term-{word}" for word in ("interval", "accuracy", "imputation", "area", "hits")}


@pytest.mark.slow
def test_figures_come_again(tmp_path):
    small = replace(plan(written(tmp_path, people(1500, 0, leak=0.2))), attacks=(Counts(), Csmia()), attacked=100)
    audit(small, tmp_path / "run")
    inputs = ATTRIBUTES.load(small, CPU)
    verified(ATTRIBUTES, small, inputs, tmp_path / "run", lambda report: report.update(value="no"), "value")
