"""The value of the sensitive attribute whose leaf of a published decision tree holds most people of that outcome.

Fredrikson et al., CCS 2015, sec. 4.2, white-box with counts: the paths that what is known of a person is consistent
with, each weighed by how many training records took it.

Differs from the paper: a leaf counts only the records that have the person's outcome, and the marginal is left out,
which the counts hold already.
"""

from typing import Literal

import numpy as np

from gmi.attributes.knowledge import Knowledge
from gmi.attributes.oracles import Leaves
from gmi.attributes.records import Array, Records
from gmi.settings import settings


@settings
class Counts:
    """The fullest leaf."""

    type: Literal["counts"] = "counts"

    def __call__(self, oracle: Leaves, records: Records, knowledge: Knowledge) -> Array:
        """(N, V): higher where likelier. Where no split asks for the attribute, the marginal decides."""
        place = np.arange(len(records)), records.outcome.astype(int)
        inside = [oracle.counts(records.inputs(value))[place] for value in range(knowledge.layout.choices)]
        held = np.log(np.stack(inside, 1) + 1e-3)
        same = np.ptp(held, axis=1, keepdims=True) < 1e-9
        return held + np.where(same, np.log(knowledge.marginal), 0.0)
