"""Informed attack: the imputation of a value from public records, times the model's confidence in the outcome.

Bayes' rule with everything that an adversary has: p(v | x, y) is proportional to p(v | x), imputed from public records,
times p(y | x, v), for which the model's confidence stands. Jayaraman and Evans, Are Attribute Inference Attacks Just
Imputation?, CCS 2022, sec. 4, combine the two so that an attack is not weaker than one without the model.

Differs from the paper: the two are multiplied; a threshold does not choose between them. Where the outcome is a number,
a mixture of normal densities around the model's prediction stands for its confidence.
"""

from typing import ClassVar, Literal

import numpy as np

from gmi.attributes.knowledge import Knowledge, guess, outcome_answers, outcome_fit
from gmi.attributes.oracles import Numbers, Reads, Scores
from gmi.attributes.records import Records
from gmi.metrics.statistics import Array
from gmi.settings import settings


@settings
class Informed:
    """Maximum a posteriori, from the model's confidences and public records."""

    type: Literal["informed"] = "informed"
    reads: ClassVar[Reads] = "answers"
    learns: ClassVar[bool] = True

    def __call__(self, oracle: Scores | Numbers, records: Records, knowledge: Knowledge) -> Array:
        """Scores (N, V) of each value for each person: the higher, the likelier."""
        prior = guess(records, knowledge.public, knowledge.layout, outcome=False)
        if isinstance(oracle, Numbers):
            return outcome_fit(oracle.numbers, records, knowledge) + prior
        fit = outcome_answers(oracle.scores, records, knowledge.layout.choices)
        return np.log(np.maximum(fit, 1e-6)) + prior
