"""Attack by counts: the value that most people with the person's outcome have, by the leaves of a published tree.

Fredrikson et al., CCS 2015, sec. 4.2, white-box with counts: the tree's paths that are consistent with the person's
known attributes, each weighted by the number of training records that took it.

Differs from the paper: a leaf counts only the records that have the person's outcome; the marginal only divides a
leaf's records among the values that reach it, because the counts contain it already.
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
    """The value with most records."""

    type: Literal["counts"] = "counts"
    reads: ClassVar[Reads] = "leaves"
    learns: ClassVar[bool] = False

    def __call__(self, oracle: Leaves, records: Records, knowledge: Knowledge) -> Array:
        """Scores (N, V) of each value for each person, logarithms of counts: the higher, the likelier.

        A leaf that several values reach has the count c p(v) / (the sum of p over them) for each.
        """
        choices, marginal = knowledge.layout.choices, knowledge.marginal
        counts = outcome_answers(oracle.counts, records, choices) + 1e-3
        leaves = np.stack([oracle.leaves(records.inputs(value)) for value in range(choices)], 1)  # (N, V)
        together = (leaves[:, :, None] == leaves[:, None, :]) @ marginal
        return np.log(counts * marginal / together)
