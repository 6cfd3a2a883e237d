"""Models of tables under audit: scikit-learn's, a network of torch, or a model of your own.

A model takes inputs (N, D + 1), the sensitive attribute last, and gives probabilities (N, K), or predictions (N,) if
the outcome is a number. No model is read from a pickle: the audit trains the models named here, and a function of yours
returns your own.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from torch import nn

from gmi.assets.factory import called, find_factory
from gmi.attributes.records import Layout, Records
from gmi.errors import GmiError
from gmi.metrics.statistics import Array
from gmi.settings import Count, NonNegative, Positive, settings


class Model(Protocol):
    """A model of tables."""

    def __call__(self, inputs: Array) -> Array:
        """Probabilities (N, K), or predictions (N,), for inputs (N, D + 1)."""
        ...


class Counting(Model, Protocol):
    """A decision tree that was published with the counts in its leaves."""

    def counts(self, inputs: Array) -> Array:
        """Training records of each outcome (N, K) in the leaf that each input (N, D + 1) reaches."""
        ...

    def leaves(self, inputs: Array) -> Array:
        """Number (N,) of the leaf that each input (N, D + 1) reaches."""
        ...


def encoder(layout: Layout) -> ColumnTransformer:
    """An encoder of inputs: one column per category, and numbers with mean 0 and variance 1."""
    categories = [index for index, column in enumerate(layout.inputs) if column.values is not None]
    numbers = [index for index, column in enumerate(layout.inputs) if column.values is None]
    one_hot: Any = OneHotEncoder
    codes = [np.arange(len(layout.inputs[index].values or ()), dtype=float) for index in categories]
    return ColumnTransformer(
        [
            ("categories", one_hot(categories=codes, sparse_output=False), categories),
            ("numbers", StandardScaler(), numbers),
        ]
    )


@dataclass(frozen=True)
class Estimator:
    """A fitted pipeline of scikit-learn."""

    pipeline: Pipeline
    classes: int | None  # K; None: the outcome is a number

    def __call__(self, inputs: Array) -> Array:
        if self.classes is None:
            return np.asarray(self.pipeline.predict(inputs), np.float64)
        probabilities = np.zeros((len(inputs), self.classes))
        probabilities[:, self._outcomes] = self.pipeline.predict_proba(inputs)
        return probabilities

    @property
    def _outcomes(self) -> NDArray[np.int64]:
        """The outcomes in the training records."""
        return self._last.classes_.astype(np.int64)

    @property
    def _last(self) -> Any:
        return self.pipeline[-1]


@dataclass(frozen=True)
class DecisionTree(Estimator):
    """A fitted decision tree of scikit-learn: a `Counting` model."""

    def counts(self, inputs: Array) -> Array:
        """Training records of each outcome (N, K) in the leaf that each input (N, D + 1) reaches."""
        tree, leaves = self._last, self.leaves(inputs)
        shares = tree.tree_.value[leaves, 0]  # shares of the node's weighted records
        counts = np.zeros((len(inputs), self.classes or 0))
        counts[:, self._outcomes] = shares * tree.tree_.weighted_n_node_samples[leaves, None]
        return counts

    def leaves(self, inputs: Array) -> Array:
        """Number (N,) of the leaf that each input (N, D + 1) reaches."""
        return self._last.apply(self.pipeline[:-1].transform(inputs))


def _fit(layout: Layout, records: Records, estimator: Any) -> Pipeline:
    return make_pipeline(encoder(layout), estimator).fit(records.inputs(records.sensitive), records.outcome)


@settings
class Tree:
    """A decision tree of scikit-learn, for classes or for numbers."""

    type: Literal["tree"] = "tree"
    depth: Count | None = None  # greatest depth; None: until the leaves are pure
    leaf: Count = 1  # least number of records in a leaf

    def learn(self, layout: Layout, records: Records, seed: int) -> Model:
        """The model, fitted to these records."""
        kind = DecisionTreeRegressor if layout.classes is None else DecisionTreeClassifier
        estimator = kind(max_depth=self.depth, min_samples_leaf=self.leaf, random_state=seed)
        model = Estimator if layout.classes is None else DecisionTree
        return model(_fit(layout, records, estimator), layout.classes)


@settings
class Forest:
    """A random forest of scikit-learn, for classes or for numbers."""

    type: Literal["forest"] = "forest"
    trees: Count = 100  # number of trees
    depth: Count | None = None  # greatest depth of a tree; None: until the leaves are pure
    leaf: Count = 1  # least number of records in a leaf

    def learn(self, layout: Layout, records: Records, seed: int) -> Model:
        """The model, fitted to these records."""
        kind = RandomForestRegressor if layout.classes is None else RandomForestClassifier
        estimator = kind(self.trees, max_depth=self.depth, min_samples_leaf=self.leaf, random_state=seed)
        return Estimator(_fit(layout, records, estimator), layout.classes)


@settings
class Linear:
    """Logistic regression for classes, or least squares for numbers."""

    type: Literal["linear"] = "linear"
    strength: Positive = 1.0  # inverse strength of the regularisation, for classes

    def learn(self, layout: Layout, records: Records, seed: int) -> Model:
        """The model, fitted to these records."""
        estimator = LinearRegression() if layout.classes is None else LogisticRegression(C=self.strength, max_iter=1000)
        return Estimator(_fit(layout, records, estimator), layout.classes)


@dataclass(frozen=True)
class Network:
    """A trained network of torch."""

    encoder: ColumnTransformer
    module: nn.Module
    classes: int | None  # K; None: the outcome is a number

    @torch.no_grad()
    def __call__(self, inputs: Array) -> Array:
        outputs = self.module(torch.from_numpy(self.encoder.transform(inputs)).float()).double()
        return outputs[:, 0].numpy() if self.classes is None else outputs.softmax(1).numpy()


@settings
class Mlp:
    """A network of torch with two hidden layers, for classes or for numbers, trained with AdamW."""

    type: Literal["mlp"] = "mlp"
    width: Count = 64  # units of a hidden layer
    epochs: Count = 60  # passes over the records
    batch: Count = 64  # records in a step
    lr: Positive = 2e-3  # learning rate
    weight_decay: NonNegative = 0.0  # AdamW's weight decay

    def learn(self, layout: Layout, records: Records, seed: int) -> Model:
        """The model, fitted to these records."""
        prepared = encoder(layout).fit(records.inputs(records.sensitive))
        inputs = torch.from_numpy(prepared.transform(records.inputs(records.sensitive))).float()
        numbers = layout.classes is None
        truth = torch.from_numpy(records.outcome).float() if numbers else torch.from_numpy(records.outcome).long()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            module = nn.Sequential(
                nn.Linear(inputs.shape[1], self.width),
                nn.ReLU(),
                nn.Linear(self.width, self.width),
                nn.ReLU(),
                nn.Linear(self.width, layout.classes or 1),
            )
            optimiser = torch.optim.AdamW(module.parameters(), self.lr, weight_decay=self.weight_decay)
            for _ in range(self.epochs):
                for rows in torch.randperm(len(inputs)).split(self.batch):
                    outputs = module(inputs[rows])
                    loss = F.mse_loss(outputs[:, 0], truth[rows]) if numbers else F.cross_entropy(outputs, truth[rows])
                    optimiser.zero_grad()
                    loss.backward()
                    optimiser.step()
        return Network(prepared, module.eval(), layout.classes)


@dataclass(frozen=True)
class Foreign:
    """A model of the user's own, whose answers are checked."""

    model: Callable[[list[dict[str, str | float]]], Any]
    layout: Layout
    name: str = field(default="target")

    def __call__(self, inputs: Array) -> Array:
        columns = self.layout.inputs
        rows = [
            {
                column.name: float(cell) if column.values is None else column.values[int(cell)]
                for column, cell in zip(columns, row, strict=True)
            }
            for row in inputs
        ]
        try:
            answer = self.model(rows)
        except Exception as error:  # errors of the user's own code are reported in one sentence
            raise GmiError(f"{self.name} cannot answer records ({type(error).__name__}: {error}).") from error
        values, classes = self.layout.outcome.values, self.layout.classes
        if values is not None:
            named = {str(key): column for key, column in answer.items()} if isinstance(answer, dict) else {}
            if set(named) != set(values):
                raise GmiError(
                    f"{self.name} must answer with a dictionary from each value of {self.layout.outcome.name} "
                    f"({', '.join(values)}) to its probabilities; it gave "
                    f"{', '.join(named) or f'an object of type {type(answer).__name__}'}."
                )
            answer = np.stack([np.asarray(named[value], np.float64) for value in values], -1)
        array = np.asarray(answer, np.float64)
        shape = (len(rows),) if classes is None else (len(rows), classes)
        if array.shape != shape or not np.isfinite(array).all():
            raise GmiError(f"{self.name} answered {len(rows)} records with an array {array.shape}, not finite {shape}.")
        if classes is not None and (array.min() < -1e-6 or np.abs(array.sum(1) - 1).max() > 1e-3):
            raise GmiError(f"{self.name}: probabilities must lie in 0 to 1 and sum to 1.")
        return array


@settings
class Own:
    """A model of the user's own, as a function that `factory` returns.

    The function takes records, each a dictionary by column, and returns a dictionary from each of the outcome's values,
    as in the file, to its probabilities (N,), or predictions (N,) if the outcome is a number. With
    `data.shuffled: false` the owner says which records it learnt from: those that come first in the file.
    """

    opaque: ClassVar = True  # whether it has changed, no digest tells
    type: Literal["own"] = "own"
    factory: str  # "package.module:callable" that returns the function
    arguments: dict[str, Any] = Field(default_factory=dict)  # arguments of the factory

    def learn(self, layout: Layout, records: Records, seed: int) -> Model:
        """The model as it is; it does not learn. Raises GmiError if the factory cannot be found or called."""
        model = called(find_factory(self.factory), self.arguments, f"target.factory {self.factory}")
        if not callable(model):
            raise GmiError(
                f"target.factory {self.factory} returned {type(model).__name__}, not a function of records: wrap its "
                "predict_proba, as docs/attributes.md does."
            )
        return Foreign(model, layout, self.factory)


AnyTarget = Annotated[Tree | Forest | Linear | Mlp | Own, Field(discriminator="type")]
