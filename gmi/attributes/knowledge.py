"""An adversary's knowledge besides the model: public records, and statistics of the model's errors."""

from collections.abc import Callable, Sequence
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

from gmi.attributes.records import Column, Layout, Records
from gmi.attributes.targets import Model
from gmi.metrics.statistics import Array

Codes = NDArray[np.int64]
_RARE = 1e-6  # probability of a value that never occurs
_SCALES = 24  # of errors in numbers: the least is a ten-millionth of the greatest
_AGAIN = 0.01  # share of all errors from which on one recurs
_ROUNDS = 100
_LEAST = 1e-300  # density


@dataclass(frozen=True)
class Errors:
    """The model's errors on the adversary's records, from which it has not learnt. One of the two is None.

    A model errs less on records that it learnt from, and on some of them hardly: the attacked people's outcomes tell.
    """

    confusion: Array | None  # (K, K): probability of each outcome (column) given the predicted class (row)
    spread: float | None  # root mean square of the outcome, if it is a number, around the prediction

    def likelihood(self, outcome: Array, predicted: Array, marginal: Array) -> Array:
        """Logarithm of the probability, or density, of outcomes (N,) given the model's predictions (N, V).

        marginal: frequency (V,) of each value that the predictions are for. Of numbers, the error is a mixture of
        normal distributions from the spread down, each half as wide as the one before, and none narrower than half the
        `_lattice`. How much there is of each is what makes the outcomes likeliest, whichever value is the person's
        (expectation-maximisation: Dempster, Laird & Rubin, 1977).
        """
        if self.confusion is not None:
            return np.log(self.confusion[predicted.astype(int), outcome.astype(int)[:, None]])
        assert self.spread is not None
        scales, apart = self.spread * 0.5 ** np.arange(_SCALES), (outcome[:, None] - predicted) / self.spread
        scales = scales[: max(1, int((scales >= self.spread * _lattice(apart) / 2).sum()))]
        normal = np.exp(-0.5 * (self.spread * apart[:, :, None] / scales) ** 2) / scales  # (N, V, scales)
        of_scale = np.maximum(normal.transpose(0, 2, 1) @ marginal, _LEAST)  # (N, scales)
        shares = np.full(len(scales), 1 / len(scales))
        for _ in range(_ROUNDS):
            parts = of_scale * shares
            shares = (parts / parts.sum(1, keepdims=True)).sum(0)
            shares[0] += 1  # one person more of the spread, so that few people show no scale by chance
            shares /= shares.sum()
        return np.log(np.maximum(normal @ shares, _LEAST))


def _lattice(errors: Array) -> float:
    """The least gap between errors (N, V) that occur again and again, where most errors above 0 do; else 0.

    They do where outcomes and predictions are counts or ratings: that the two are equal is then mostly chance, and an
    odd number among them changes nothing.
    """
    sizes, times = np.unique(np.abs(errors).round(6), return_counts=True)
    often = times >= _AGAIN * errors.size
    if times[often & (sizes > 0)].sum() <= times[sizes > 0].sum() / 2:
        return 0.0
    return float(np.diff(sizes[often]).min(initial=np.inf))


def errors(model: Model, records: Records, layout: Layout) -> Errors:
    """The model's errors on records with their true sensitive values."""
    answers = model(records.inputs(records.sensitive))
    if layout.classes is None:
        return Errors(None, max(float(np.sqrt(((records.outcome - answers) ** 2).mean())), 1e-9))
    confusion = np.zeros((layout.classes, layout.classes))
    np.add.at(confusion, (answers.argmax(1), records.outcome.astype(int)), 1.0)
    confusion += _RARE + (confusion.sum(1, keepdims=True) == 0)  # uniform for a class that is never predicted
    return Errors(confusion / confusion.sum(1, keepdims=True), None)


@dataclass(frozen=True)
class Knowledge:
    """All that an adversary knows besides the model."""

    layout: Layout
    public: Records  # records with their sensitive values
    errors: Errors  # of the model

    @property
    def marginal(self) -> Array:
        """Frequency of each value of the sensitive attribute, (V,), above 0."""
        return np.maximum(np.bincount(self.public.sensitive, minlength=self.layout.choices) / len(self.public), _RARE)


def outcome_answers(ask: Callable[[Array], Array], records: Records, choices: int) -> Array:
    """The model's answers on each person's outcome (N, V), with every value of the sensitive attribute in turn.

    ask: an oracle's answers (N, K), such as probabilities or counts of each outcome, for inputs (N, D + 1).
    """
    index = np.arange(len(records)), records.outcome.astype(int)
    return np.stack([ask(records.inputs(value))[index] for value in range(choices)], 1)


def outcome_fit(ask: Callable[[Array], Array], records: Records, knowledge: Knowledge) -> Array:
    """Log-probability (N, V) of each person's outcome given the model's prediction with every value in turn.

    ask: an oracle's predictions (N,) for inputs (N, D + 1).
    """
    predicted = np.stack([ask(records.inputs(value)) for value in range(knowledge.layout.choices)], 1)
    return knowledge.errors.likelihood(records.outcome, predicted, knowledge.marginal)


def guess(
    people: Records,
    examples: Records,
    layout: Layout,
    *,
    truth: Codes | None = None,
    outcome: bool = True,
    seed: int = 0,
) -> Array:
    """Log-probabilities (N, V) of people's sensitive values, imputed from their other attributes without the model.

    Three learners learn from two thirds of the examples, and the one that predicts the last third best then learns from
    all. truth: the examples' sensitive values; None: those in the records. outcome: True: the outcome is one of the
    other attributes.
    """
    columns = (*layout.features, layout.outcome)[: None if outcome else -1]
    given, sought = ((records.context() if outcome else records.features) for records in (examples, people))
    values = examples.sensitive if truth is None else truth
    order = np.random.default_rng(seed).permutation(len(given))
    first, rest = np.split(order, [2 * len(order) // 3])

    def score(learner: Any) -> float:
        """Mean log-probability of the true values in the last third."""
        guesses = _log_probabilities(learner, given[first], values[first], given[rest], layout.choices)
        return float(guesses[np.arange(len(rest)), values[rest]].mean())

    best = max(_learners(columns, seed), key=score)
    return _log_probabilities(best, given, values, sought, layout.choices)


def _learners(columns: Sequence[Column], seed: int) -> list[Any]:
    """Learners from the simplest to the largest: a weak imputation would make a model look leaky."""
    categories = [index for index, column in enumerate(columns) if column.values is not None]
    columns_of: Any = ColumnTransformer  # its types are narrower than its documentation
    boosters: Any = HistGradientBoostingClassifier
    coded = columns_of([("categories", OneHotEncoder(handle_unknown="ignore"), categories)], remainder=StandardScaler())
    boosting = partial(boosters, categorical_features=categories, early_stopping=False, random_state=seed)
    return [
        make_pipeline(coded, LogisticRegression(max_iter=1000)),
        boosting(max_iter=50, learning_rate=0.08, max_leaf_nodes=6),
        boosting(max_iter=150, learning_rate=0.08),
    ]


def _log_probabilities(learner: Any, given: Array, values: Codes, sought: Array, choices: int) -> Array:
    """Log-probabilities (N, V) for rows `sought` (N, D), after learning from rows `given` (M, D) with values (M,)."""
    probabilities = np.full((len(sought), choices), _RARE)
    if len(distinct := np.unique(values)) == 1:  # no learner takes a single class
        probabilities[:, distinct] = 1.0
    else:
        with threadpool_limits(1):  # on so few records threads wait for one another, the longer the busier the machine
            learner.fit(given, values)
            probabilities[:, learner.classes_.astype(int)] = learner.predict_proba(sought)
    return np.log(np.maximum(probabilities, _RARE))
