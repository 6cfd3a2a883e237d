"""What an adversary has besides the model: public records, and what the owner says of the model's errors."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from gmi.attributes.records import Array, Column, Layout, Records
from gmi.attributes.targets import Model

Places = NDArray[np.int64]
_RARE = 1e-6  # probability of what was never seen


@dataclass(frozen=True)
class Errors:
    """How the model errs, on the adversary's records, which it has not learnt from.

    confusion (K, K): the probability of each outcome (column) where the model names another or the same (row); spread:
    standard deviation of an outcome that is a number around what the model predicts. One of them is None.
    """

    confusion: Array | None
    spread: float | None

    def likelihood(self, outcome: Array, told: Array) -> Array:
        """(N,): logarithm of how probable, or dense, outcomes (N,) are where the model says `told` (N,)."""
        if self.confusion is not None:
            return np.log(self.confusion[told.astype(int), outcome.astype(int)])
        assert self.spread is not None
        return -0.5 * ((outcome - told) / self.spread) ** 2


def errors(model: Model, records: Records, layout: Layout) -> Errors:
    """Of the model on records with their own sensitive values."""
    told = model(records.inputs(records.sensitive))
    if layout.classes is None:
        return Errors(None, max(float((records.outcome - told).std()), 1e-9))
    confusion = np.zeros((layout.classes, layout.classes))
    np.add.at(confusion, (told.argmax(1), records.outcome.astype(int)), 1.0)
    confusion += _RARE + (confusion.sum(1, keepdims=True) == 0)  # of a class that is never named nothing is known
    return Errors(confusion / confusion.sum(1, keepdims=True), None)


@dataclass(frozen=True)
class Knowledge:
    """An adversary's, of records `public` whose sensitive values are known, and of the model's errors."""

    layout: Layout
    public: Records
    errors: Errors

    @property
    def marginal(self) -> Array:
        """(V,): how frequent each value of the sensitive attribute is."""
        return np.maximum(np.bincount(self.public.sensitive, minlength=self.layout.choices) / len(self.public), _RARE)


def guess(
    people: Records,
    taught: Records,
    layout: Layout,
    *,
    truth: Places | None = None,
    outcome: bool = True,
    seed: int = 0,
) -> Array:
    """Log-probabilities (N, V) of people's sensitive values, from all else that is known of them; no model is asked.

    Learnt from records whose sensitive value is known, or is taken to be `truth`, by whichever of three learners
    tells most of the third of them that it is not shown at first. outcome: whether the outcome is among what is known.
    """
    columns = (*layout.known, layout.outcome)[: None if outcome else -1]
    known, asked = ((one.context() if outcome else one.known) for one in (taught, people))
    wanted = taught.sensitive if truth is None else truth
    order = np.random.default_rng(seed).permutation(len(known))
    some, rest = np.split(order, [2 * len(order) // 3])

    def told(learner: Any) -> float:
        """Mean log-probability of the truth, of the rest."""
        said = _log_probabilities(learner, known[some], wanted[some], known[rest], layout.choices)
        return float(said[np.arange(len(rest)), wanted[rest]].mean())

    best = max(_learners(columns, seed), key=told)
    return _log_probabilities(best, known, wanted, asked, layout.choices)


def _learners(columns: Sequence[Column], seed: int) -> list[Any]:
    """From one that suits few records to one that suits many: a weak imputation would make a model look leaky."""
    categories = [place for place, one in enumerate(columns) if one.values is not None]
    columns_of: Any = ColumnTransformer  # whose types say less than their documentation
    boosters: Any = HistGradientBoostingClassifier
    coded = columns_of([("categories", OneHotEncoder(handle_unknown="ignore"), categories)], remainder=StandardScaler())
    boosting = partial(boosters, categorical_features=categories, early_stopping=False, random_state=seed)
    return [
        make_pipeline(coded, LogisticRegression(max_iter=1000)),
        boosting(max_iter=50, learning_rate=0.08, max_leaf_nodes=6),
        boosting(max_iter=150, learning_rate=0.08),
    ]


def _log_probabilities(learner: Any, known: Array, wanted: Places, asked: Array, choices: int) -> Array:
    shown = np.full((len(asked), choices), _RARE)
    if len(values := np.unique(wanted)) == 1:  # no learner takes one class
        shown[:, values] = 1.0
    else:
        with threadpool_limits(1):  # on so few records threads wait for one another, the longer the busier the machine
            learner.fit(known, wanted)
            shown[:, learner.classes_.astype(int)] = learner.predict_proba(asked)
    return np.log(np.maximum(shown, _RARE))
