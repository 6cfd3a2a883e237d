"""LOMIA: people for whom the model is right with exactly one value serve as examples for all others.

Mehnaz et al., USENIX Security 2022, sec. 4.2: the model's labels make a training set for an attack model, which needs
no public records.

Differs from the paper: the attack model is gradient boosting; people who served as examples keep their value.
"""

from typing import ClassVar, Literal

import numpy as np

from gmi.attributes.knowledge import Knowledge, guess
from gmi.attributes.oracles import Labels, Reads
from gmi.attributes.records import Records
from gmi.errors import GmiError
from gmi.metrics.statistics import Array
from gmi.settings import settings


@settings
class Lomia:
    """Labels alone, without public records."""

    type: Literal["lomia"] = "lomia"
    reads: ClassVar[Reads] = "labels"
    learns: ClassVar[bool] = True

    def __call__(self, oracle: Labels, records: Records, knowledge: Knowledge) -> Array:
        """Log-probabilities (N, V) of each value for each person.

        Raises GmiError if there are too few examples, or if all have the same value.
        """
        choices = range(knowledge.layout.choices)
        right = np.stack([oracle.labels(records.inputs(value)) == records.outcome for value in choices], 1)
        examples = right.sum(1) == 1
        values = right.argmax(1)
        if examples.sum() < 20 or len(np.unique(values[examples])) < 2:
            raise GmiError(
                f"the model is right under one value alone for {examples.sum()} of {len(records)} people, or always "
                "under the same value: its labels teach nothing"
            )
        guesses = guess(records, records.take(examples), knowledge.layout, truth=values[examples])
        certain = np.where(right, 0.0, -50.0)  # beyond the attack model's values
        return np.where(examples[:, None], certain, guesses)
