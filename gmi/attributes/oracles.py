"""What a model of tables reveals: one class for each level of access, with only what it grants. Each counts records."""

from gmi.attributes.records import Array
from gmi.attributes.targets import Counting, Model


class Oracle:
    """queries: records that were asked."""

    def __init__(self, model: Model) -> None:
        self.queries = 0
        self._model = model

    def _asked(self, inputs: Array) -> Array:
        self.queries += len(inputs)
        return self._model(inputs)


class Numbers(Oracle):
    """Of an outcome that is a number: the prediction."""

    def numbers(self, inputs: Array) -> Array:
        """(N,)."""
        return self._asked(inputs)


class Labels(Oracle):
    """Of an outcome with classes: the one that is predicted."""

    def labels(self, inputs: Array) -> Array:
        """(N,)."""
        return self._asked(inputs).argmax(1)


class Scores(Labels):
    """And how sure the model is of each."""

    def scores(self, inputs: Array) -> Array:
        """Probabilities (N, K)."""
        return self._asked(inputs)


class Leaves(Scores):
    """A decision tree that was published whole."""

    def __init__(self, model: Counting) -> None:
        super().__init__(model)
        self._tree = model

    def counts(self, inputs: Array) -> Array:
        """(N, K): training records of each outcome in the leaf that each input falls into."""
        return self._tree.counts(inputs)
