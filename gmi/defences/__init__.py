"""Defences that harden a target while it is trained: one paper per file. A new one is one more line here."""

from typing import Annotated

from pydantic import Field

from gmi.defences.at_at import AtAt
from gmi.defences.bido import Bido
from gmi.defences.bottleneck import Bottleneck
from gmi.defences.dp_sgd import DpSgd
from gmi.defences.erasing import Erasing
from gmi.defences.label_smoothing import LabelSmoothing
from gmi.defences.skips import NoSkips
from gmi.defences.transfer import Transfer
from gmi.defences.trap import Trap

AnyDefence = Annotated[
    AtAt | Bido | Bottleneck | DpSgd | Erasing | LabelSmoothing | NoSkips | Transfer | Trap,
    Field(discriminator="type"),
]
