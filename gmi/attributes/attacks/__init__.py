"""Attacks on an attribute: the entries that `attacks:` in a configuration may have."""

from typing import Annotated

from pydantic import Field

from gmi.attributes.attacks.confidences import Confidences
from gmi.attributes.attacks.counts import Counts
from gmi.attributes.attacks.csmia import Csmia
from gmi.attributes.attacks.informed import Informed
from gmi.attributes.attacks.lomia import Lomia
from gmi.attributes.attacks.marginals import Marginals

AnyAttack = Annotated[Marginals | Confidences | Informed | Counts | Csmia | Lomia, Field(discriminator="type")]
