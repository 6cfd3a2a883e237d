"""Attacks on an attribute: the entries that `attacks:` in a configuration may have.

Each says what it `reads` of the model, and whether it `learns` an imputation of its own, which takes time.
"""

from typing import Annotated, Any, get_args

from pydantic import Field

from gmi.attributes.attacks.confidences import Confidences
from gmi.attributes.attacks.counts import Counts
from gmi.attributes.attacks.csmia import Csmia
from gmi.attributes.attacks.informed import Informed
from gmi.attributes.attacks.lomia import Lomia
from gmi.attributes.attacks.marginals import Marginals

AnyAttack = Annotated[Marginals | Confidences | Informed | Counts | Csmia | Lomia, Field(discriminator="type")]

ATTACKS: tuple[Any, ...] = get_args(get_args(AnyAttack)[0])
"""The classes of that union."""
