"""What an adversary has besides the model: public records, and what the owner says of the model's errors."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from gmi.attributes.records import Array, Layout, Records
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

    By gradient boosting, from records whose sensitive value is known, or is taken to be `truth`. outcome: whether the
    outcome is among what is known.
    """
    columns = (*layout.known, layout.outcome)[: None if outcome else -1]
    categories = [place for place, one in enumerate(columns) if one.values is not None]
    boosting: Any = HistGradientBoostingClassifier  # whose types say less than its documentation
    learner = boosting(
        categorical_features=categories, max_iter=150, learning_rate=0.08, early_stopping=False, random_state=seed
    )
    known, asked = ((one.context() if outcome else one.known) for one in (taught, people))
    learner.fit(known, taught.sensitive if truth is None else truth)
    shown = np.full((len(people), layout.choices), _RARE)
    shown[:, learner.classes_.astype(int)] = learner.predict_proba(asked)
    return np.log(np.maximum(shown, _RARE))
