"""CSMIA: the value with which the model is right; if several, the surest; if none, the least sure.

Mehnaz et al., Are Your Sensitive Attributes Private? Novel Model Inversion Attribute Inference Attacks on
Classification Models, USENIX Security 2022, sec. 4.1.

Differs from the paper: nothing; only the ranking of people by these scores is ours.
"""

from typing import ClassVar, Literal

import numpy as np

from gmi.attributes.knowledge import Knowledge
from gmi.attributes.oracles import Reads, Scores
from gmi.attributes.records import Records
from gmi.metrics.statistics import Array
from gmi.settings import settings


@settings
class Csmia:
    """Confidences alone, without public records."""

    type: Literal["csmia"] = "csmia"
    reads: ClassVar[Reads] = "scores"
    learns: ClassVar[bool] = False

    def __call__(self, oracle: Scores, records: Records, knowledge: Knowledge) -> Array:
        """Scores (N, V) of each value for each person: the confidence if the model is right, else its negative."""
        columns = []
        for value in range(knowledge.layout.choices):
            scores = oracle.scores(records.inputs(value))
            right = scores.argmax(1) == records.outcome
            columns.append(np.where(right, scores.max(1), -scores.max(1)))
        return np.stack(columns, 1)
