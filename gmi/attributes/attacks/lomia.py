"""LOMIA: people under one of whose values alone the model is right teach what the others' values are.

Mehnaz et al., USENIX Security 2022, sec. 4.2: by labels alone; the model's answers make a training set for an attack
model, which needs no public records.

Differs from the paper: the attack model is gradient boosting; the people who taught it keep the value they taught.
"""

from typing import Literal

import numpy as np

from gmi.attributes.knowledge import Knowledge, guess
from gmi.attributes.oracles import Labels
from gmi.attributes.records import Array, Records
from gmi.errors import GmiError
from gmi.settings import settings


@settings
class Lomia:
    """By labels alone: no public records."""

    type: Literal["lomia"] = "lomia"

    def __call__(self, oracle: Labels, records: Records, knowledge: Knowledge) -> Array:
        """(N, V): log-probabilities. Raises GmiError where the model's labels tell too little to teach anything."""
        choices = range(knowledge.layout.choices)
        right = np.stack([oracle.labels(records.inputs(value)) == records.outcome for value in choices], 1)
        telling = right.sum(1) == 1
        values = right.argmax(1)
        if telling.sum() < 20 or len(np.unique(values[telling])) < 2:
            raise GmiError(
                f"the model is right under one value alone for {telling.sum()} of {len(records)} people, or always "
                "under the same value: its labels teach nothing"
            )
        found = guess(records, records.take(telling), knowledge.layout, truth=values[telling])
        certain = np.where(right, 0.0, -50.0)  # beyond all that the attack model says
        return np.where(telling[:, None], certain, found)
