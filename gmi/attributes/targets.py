"""Models of tables under audit: scikit-learn's, a network of torch, or one's own.

A model takes inputs (N, D + 1), the sensitive attribute last, and gives probabilities (N, K) or, of an outcome that is
a number, predictions (N,). None is read from a pickle: those named here are trained by the audit, and one's own is made
by a function of one's own.
"""

from collections.abc import Callable
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from typing import Annotated, Any, Literal, Protocol

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

from gmi.attributes.records import Array, Layout, Records
from gmi.errors import GmiError
from gmi.settings import Count, NonNegative, Positive, find_factory, settings


class Model(Protocol):
    def __call__(self, inputs: Array) -> Array: ...


class Counting(Model, Protocol):
    """A tree that was published with what its leaves count."""

    def counts(self, inputs: Array) -> Array:
        """(N, K): training records of each outcome in the leaf that each input falls into."""
        ...


def encoder(layout: Layout) -> ColumnTransformer:
    """Categories become one column each, numbers get mean 0 and variance 1."""
    categories = [place for place, one in enumerate(layout.inputs) if one.values is not None]
    numbers = [place for place, one in enumerate(layout.inputs) if one.values is None]
    one_hot: Any = OneHotEncoder
    known = [np.arange(len(layout.inputs[place].values or ()), dtype=float) for place in categories]
    return ColumnTransformer(
        [
            ("categories", one_hot(categories=known, sparse_output=False), categories),
            ("numbers", StandardScaler(), numbers),
        ]
    )


@plain_dataclass(frozen=True)
class Estimator:
    """A fitted pipeline of scikit-learn."""

    pipeline: Pipeline
    classes: int | None

    def __call__(self, inputs: Array) -> Array:
        if self.classes is None:
            return np.asarray(self.pipeline.predict(inputs), np.float64)
        shown = np.zeros((len(inputs), self.classes))
        shown[:, self._seen] = self.pipeline.predict_proba(inputs)
        return shown

    @property
    def _seen(self) -> NDArray[np.int64]:
        """Outcomes that there were in training."""
        return self._last.classes_.astype(np.int64)

    @property
    def _last(self) -> Any:
        return self.pipeline[-1]


@plain_dataclass(frozen=True)
class DecisionTree(Estimator):
    def counts(self, inputs: Array) -> Array:
        grown = self._last
        leaves = grown.apply(self.pipeline[:-1].transform(inputs))
        shares = grown.tree_.value[leaves, 0]  # of the weighted records of the node
        found = np.zeros((len(inputs), self.classes or 0))
        found[:, self._seen] = shares * grown.tree_.weighted_n_node_samples[leaves, None]
        return found


def _fit(layout: Layout, records: Records, estimator: Any) -> Pipeline:
    return make_pipeline(encoder(layout), estimator).fit(records.inputs(records.sensitive), records.outcome)


@settings
class Tree:
    """A decision tree of scikit-learn, of outcomes or of numbers. depth: None: until its leaves are pure."""

    type: Literal["tree"] = "tree"
    depth: Count | None = None
    leaf: Count = 1  # records in a leaf at least

    def learn(self, layout: Layout, records: Records, seed: int) -> Model:
        kind = DecisionTreeRegressor if layout.classes is None else DecisionTreeClassifier
        grown = kind(max_depth=self.depth, min_samples_leaf=self.leaf, random_state=seed)
        made = Estimator if layout.classes is None else DecisionTree
        return made(_fit(layout, records, grown), layout.classes)


@settings
class Forest:
    """A random forest of scikit-learn, of outcomes or of numbers."""

    type: Literal["forest"] = "forest"
    trees: Count = 100
    depth: Count | None = None
    leaf: Count = 1

    def learn(self, layout: Layout, records: Records, seed: int) -> Model:
        kind = RandomForestRegressor if layout.classes is None else RandomForestClassifier
        grown = kind(self.trees, max_depth=self.depth, min_samples_leaf=self.leaf, random_state=seed)
        return Estimator(_fit(layout, records, grown), layout.classes)


@settings
class Linear:
    """Logistic regression of outcomes, or least squares for numbers. strength: inverse, of the regularisation."""

    type: Literal["linear"] = "linear"
    strength: Positive = 1.0

    def learn(self, layout: Layout, records: Records, seed: int) -> Model:
        made = LinearRegression() if layout.classes is None else LogisticRegression(C=self.strength, max_iter=1000)
        return Estimator(_fit(layout, records, made), layout.classes)


@plain_dataclass(frozen=True)
class Network:
    """A trained network of torch."""

    encoder: ColumnTransformer
    module: nn.Module
    classes: int | None

    @torch.no_grad()
    def __call__(self, inputs: Array) -> Array:
        found = self.module(torch.from_numpy(self.encoder.transform(inputs)).float()).double()
        return found[:, 0].numpy() if self.classes is None else found.softmax(1).numpy()


@settings
class Mlp:
    """A network of torch with two hidden layers, of outcomes or of numbers; full passes of AdamW."""

    type: Literal["mlp"] = "mlp"
    width: Count = 64
    epochs: Count = 60
    batch: Count = 64
    lr: Positive = 2e-3
    weight_decay: NonNegative = 0.0

    def learn(self, layout: Layout, records: Records, seed: int) -> Model:
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
                    told = module(inputs[rows])
                    loss = F.mse_loss(told[:, 0], truth[rows]) if numbers else F.cross_entropy(told, truth[rows])
                    optimiser.zero_grad()
                    loss.backward()
                    optimiser.step()
        return Network(prepared, module.eval(), layout.classes)


@plain_dataclass(frozen=True)
class Foreign:
    """A model of one's own, whose answers are looked at before they are believed."""

    model: Callable[[list[dict[str, str | float]]], Any]
    layout: Layout
    name: str = field(default="target")

    def __call__(self, inputs: Array) -> Array:
        columns = self.layout.inputs
        rows = [
            {
                one.name: float(cell) if one.values is None else one.values[int(cell)]
                for one, cell in zip(columns, row, strict=True)
            }
            for row in inputs
        ]
        try:
            answer = self.model(rows)
        except Exception as error:  # what the user's own code raises is the user's to see, in one sentence
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
            answer = np.stack([np.asarray(named[one], np.float64) for one in values], -1)
        told = np.asarray(answer, np.float64)
        shape = (len(rows),) if classes is None else (len(rows), classes)
        if told.shape != shape or not np.isfinite(told).all():
            raise GmiError(f"{self.name} answered {len(rows)} records with an array {told.shape}, not finite {shape}.")
        if classes is not None and (told.min() < -1e-6 or np.abs(told.sum(1) - 1).max() > 1e-3):
            raise GmiError(f"{self.name}: probabilities must lie in 0 to 1 and sum to 1.")
        return told


@settings
class Own:
    """A model that is there already: `factory` (module:callable, importable) returns a function.

    The function takes records, each a dictionary by column, and returns a dictionary from each of the outcome's values,
    as in the file, to its probabilities (N,), or predictions (N,) of an outcome that is a number. Who learnt from what
    is the owner's to say: with `data.shuffled: false` those that it learnt from come first in the file.
    """

    type: Literal["own"] = "own"
    factory: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
    arguments: dict[str, Any] = Field(default_factory=dict)

    def learn(self, layout: Layout, records: Records, seed: int) -> Model:
        factory = find_factory(self.factory)
        try:
            return Foreign(factory(**self.arguments), layout, self.factory)
        except TypeError as error:
            raise GmiError(f"target.factory: {self.factory} refused its arguments: {error}.") from error
        except Exception as error:  # as above
            raise GmiError(f"target.factory: {self.factory} failed ({type(error).__name__}: {error}).") from error


AnyTarget = Annotated[Tree | Forest | Linear | Mlp | Own, Field(discriminator="type")]
