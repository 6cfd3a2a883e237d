"""CSMIA: the one value under which the model is right; of several the surest; of none the least sure.

Mehnaz et al., Are Your Sensitive Attributes Private? Novel Model Inversion Attribute Inference Attacks on
Classification Models, USENIX Security 2022, sec. 4.1.

Differs from the paper: nothing; that scores rank people, too, is ours.
"""

from typing import Literal

import numpy as np

from gmi.attributes.knowledge import Knowledge
from gmi.attributes.oracles import Scores
from gmi.attributes.records import Array, Records
from gmi.settings import settings


@settings
class Csmia:
    """By confidences alone: no public records."""

    type: Literal["csmia"] = "csmia"

    def __call__(self, oracle: Scores, records: Records, knowledge: Knowledge) -> Array:
        """(N, V): the confidence where the model is right, its negative where it is wrong."""
        found = []
        for value in range(knowledge.layout.choices):
            scores = oracle.scores(records.inputs(value))
            right = scores.argmax(1) == records.outcome
            found.append(np.where(right, scores.max(1), -scores.max(1)))
        return np.stack(found, 1)
