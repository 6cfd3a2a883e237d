"""Attack by confidences: the value with which the model is surest of the person's outcome.

Fredrikson et al., Model Inversion Attacks that Exploit Confidence Information and Basic Countermeasures, CCS 2015,
sec. 4: as in 2014 (see marginals.py), with the model's own confidences instead of statistics of its errors.

Differs from the paper: it uses confidences of decision trees; here they may be any classifier's.
"""

from typing import ClassVar, Literal

import numpy as np

from gmi.attributes.knowledge import Knowledge, outcome_answers
from gmi.attributes.oracles import Reads, Scores
from gmi.attributes.records import Records
from gmi.metrics.statistics import Array
from gmi.settings import settings


@settings
class Confidences:
    """Maximum a posteriori, from the model's confidences."""

    type: Literal["confidences"] = "confidences"
    reads: ClassVar[Reads] = "scores"
    learns: ClassVar[bool] = False

    def __call__(self, oracle: Scores, records: Records, knowledge: Knowledge) -> Array:
        """Scores (N, V) of each value for each person: the higher, the likelier."""
        fit = outcome_answers(oracle.scores, records, knowledge.layout.choices)
        return np.log(np.maximum(fit, 1e-6)) + np.log(knowledge.marginal)
