"""Oracles of a model of tables: one class per level of access, with only the methods that it grants."""

from typing import Literal

from gmi.attributes.targets import Counting, Model
from gmi.metrics.statistics import Array

Reads = Literal["predictions", "answers", "labels", "scores", "leaves"]
"""What an attack reads of the model's answers; `predictions` are labels, `answers` scores, and both are numbers where
the outcome is one."""


class Oracle:
    """Base of the oracles. `queries` counts records."""

    def __init__(self, model: Model) -> None:
        self.queries = 0
        self._model = model

    def _answers(self, inputs: Array) -> Array:
        self.queries += len(inputs)
        return self._model(inputs)


class Numbers(Oracle):
    """Access to the prediction, for an outcome that is a number."""

    def numbers(self, inputs: Array) -> Array:
        """Predictions (N,) for inputs (N, D + 1)."""
        return self._answers(inputs)


class Labels(Oracle):
    """Access to the predicted class only."""

    def labels(self, inputs: Array) -> Array:
        """Predicted classes (N,) for inputs (N, D + 1)."""
        return self._answers(inputs).argmax(1)


class Scores(Labels):
    """Access to the confidences."""

    def scores(self, inputs: Array) -> Array:
        """Probabilities (N, K) for inputs (N, D + 1)."""
        return self._answers(inputs)


class Leaves(Scores):
    """Access to a whole decision tree, published with the counts in its leaves."""

    def __init__(self, model: Counting) -> None:
        super().__init__(model)
        self._tree = model

    def counts(self, inputs: Array) -> Array:
        """Training records of each outcome (N, K) in the leaf that each input (N, D + 1) reaches; costs no query."""
        return self._tree.counts(inputs)

    def leaves(self, inputs: Array) -> Array:
        """Number (N,) of the leaf that each input (N, D + 1) reaches; costs no query."""
        return self._tree.leaves(inputs)
