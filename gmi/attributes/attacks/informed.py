"""What public records tell of a person's value, times how sure the model is of the outcome under it.

Bayes' rule with everything that an adversary has: p(v | x, y) is in proportion to p(v | x), imputed from public
records, times p(y | x, v), for which the model's confidences stand. Jayaraman and Evans, Are Attribute Inference
Attacks Just Imputation?, CCS 2022, sec. 4, combine the two so that an attack is not weaker than what needs no model.

Differs from the paper: the two are multiplied, not chosen between by a threshold.
"""

from typing import Literal

import numpy as np

from gmi.attributes.knowledge import Knowledge, guess
from gmi.attributes.oracles import Scores
from gmi.attributes.records import Array, Records
from gmi.settings import settings


@settings
class Informed:
    """Maximum a posteriori, from what the model is sure of and what public records tell."""

    type: Literal["informed"] = "informed"

    def __call__(self, oracle: Scores, records: Records, knowledge: Knowledge) -> Array:
        """(N, V): higher where likelier."""
        place = np.arange(len(records)), records.outcome.astype(int)
        fit = [oracle.scores(records.inputs(value))[place] for value in range(knowledge.layout.choices)]
        prior = guess(records, knowledge.public, knowledge.layout, outcome=False)
        return np.log(np.maximum(np.stack(fit, 1), 1e-6)) + prior
