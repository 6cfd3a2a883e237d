"""Attack by counts: the value whose leaf in a published decision tree holds most people with the person's outcome.

Fredrikson et al., CCS 2015, sec. 4.2, white-box with counts: the tree's paths that are consistent with the person's
known attributes, each weighted by the number of training records that took it.

Differs from the paper: a leaf counts only the records that have the person's outcome, and the marginal is left out,
because the counts contain it already.
"""

from typing import ClassVar, Literal

import numpy as np

from gmi.attributes.knowledge import Knowledge, outcome_answers
from gmi.attributes.oracles import Leaves, Reads
from gmi.attributes.records import Records
from gmi.metrics.statistics import Array
from gmi.settings import settings


@settings
class Counts:
    """The value with the fullest leaf."""

    type: Literal["counts"] = "counts"
    reads: ClassVar[Reads] = "leaves"
    learns: ClassVar[bool] = False

    def __call__(self, oracle: Leaves, records: Records, knowledge: Knowledge) -> Array:
        """Scores (N, V) of each value for each person: the higher, the likelier.

        If no split on the person's path tests the attribute, the marginal decides.
        """
        counts = np.log(outcome_answers(oracle.counts, records, knowledge.layout.choices) + 1e-3)
        same = np.ptp(counts, axis=1, keepdims=True) < 1e-9
        return counts + np.where(same, np.log(knowledge.marginal), 0.0)
