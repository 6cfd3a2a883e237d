"""What was checked of a finished run, and whether two trees of plain data say the same."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np


@dataclass(frozen=True)
class Checked:
    """Something in a finished run that was checked, or why it could not be."""

    what: str
    outcome: Literal["as reported", "differs", "not checked"]
    why: str

    @classmethod
    def of(cls, what: str, same: bool, why: str) -> "Checked":
        """As reported, or differs; why: what to say of a difference."""
        return cls(what, "as reported", "") if same else cls(what, "differs", why)


def alike(mine: Any, theirs: Any, rounding: float = 1e-9) -> bool:
    """Equal trees, numbers with a fraction up to rounding: another processor adds up in another order."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        return mine.keys() == theirs.keys() and all(alike(value, theirs[key], rounding) for key, value in mine.items())
    if isinstance(mine, list) and isinstance(theirs, list):
        return len(mine) == len(theirs) and all(alike(*pair, rounding) for pair in zip(mine, theirs, strict=True))
    if isinstance(mine, float) and isinstance(theirs, float | int):
        return bool(np.isclose(mine, theirs, rtol=rounding, atol=rounding / 1000))
    return mine == theirs
