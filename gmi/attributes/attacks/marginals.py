"""Attack by marginals: the value with which the person's outcome is most probable, given how the model errs.

Fredrikson et al., Privacy in Pharmacogenetics: An End-to-End Case Study of Personalized Warfarin Dosing, USENIX
Security 2014, fig. 2: argmax over v of pi(y, f(x with v)) times the product of the marginals, of which only that of v
matters.

Differs from the paper: pi is the confusion matrix of classes, and around predicted numbers a mixture of normal
densities, as a model may know some of its own records by heart and errs widely otherwise; the paper has one.
"""

from typing import ClassVar, Literal

import numpy as np

from gmi.attributes.knowledge import Knowledge, outcome_fit
from gmi.attributes.oracles import Labels, Numbers, Reads
from gmi.attributes.records import Records
from gmi.metrics.statistics import Array
from gmi.settings import settings


@settings
class Marginals:
    """Maximum a posteriori, from the model's predictions and the statistics of its errors."""

    type: Literal["marginals"] = "marginals"
    reads: ClassVar[Reads] = "predictions"
    learns: ClassVar[bool] = False

    def __call__(self, oracle: Labels | Numbers, records: Records, knowledge: Knowledge) -> Array:
        """Scores (N, V) of each value for each person: the higher, the likelier."""
        ask = oracle.labels if isinstance(oracle, Labels) else oracle.numbers
        return outcome_fit(ask, records, knowledge) + np.log(knowledge.marginal)
