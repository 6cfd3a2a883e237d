"""An attack: a search, how candidates are chosen before and after it, and the seed of all that is drawn."""

from dataclasses import dataclass
from typing import Any

from gmi.search.selection import Selection


@dataclass(frozen=True)
class Attack:
    """What an attacker carries out by whatever oracle it is given."""

    search: Any  # a `gmi.search.signature.Search` that takes the oracle and the prior: `refuse_misfit` sees to it
    selection: Selection
    batch: int  # candidates at once in one process
    seed: int
