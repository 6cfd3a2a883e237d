"""The value of the sensitive attribute under which the model is surest of what the person's outcome is known to be.

Fredrikson et al., Model Inversion Attacks that Exploit Confidence Information and Basic Countermeasures, CCS 2015,
sec. 4: as in 2014, with the model's own confidences in the place of its errors' statistics.

Differs from the paper: it has confidences of decision trees; here they may be any classifier's.
"""

from typing import Literal

import numpy as np

from gmi.attributes.knowledge import Knowledge
from gmi.attributes.oracles import Scores
from gmi.attributes.records import Array, Records
from gmi.settings import settings


@settings
class Confidences:
    """Maximum a posteriori, from what the model is sure of."""

    type: Literal["confidences"] = "confidences"

    def __call__(self, oracle: Scores, records: Records, knowledge: Knowledge) -> Array:
        """(N, V): higher where likelier."""
        place = np.arange(len(records)), records.outcome.astype(int)
        fit = [oracle.scores(records.inputs(value))[place] for value in range(knowledge.layout.choices)]
        return np.log(np.maximum(np.stack(fit, 1), 1e-6)) + np.log(knowledge.marginal)
