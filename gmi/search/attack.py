"""An attack: a search, how candidates are chosen before and after it, and the seed of all that is drawn."""

from dataclasses import dataclass
from typing import Any

from gmi.search.particles import Particles
from gmi.search.selection import Selection

FEWEST_PARTICLES = 8
"""Particles of one person that are needed at least, as they are drawn anew among each other."""


def refuse_few(search: object, selection: Selection) -> None:
    """Raises ValueError for particles that are too few to be drawn among each other."""
    particles = isinstance(search, Particles) or isinstance(getattr(search, "search", None), Particles)
    if particles and selection.candidates < FEWEST_PARTICLES:
        raise ValueError(
            f"selection.candidates: particles of a person are drawn anew among each other: {FEWEST_PARTICLES} or more "
            "are needed"
        )


@dataclass(frozen=True)
class Attack:
    """What an attacker carries out by whatever oracle it is given."""

    search: Any  # a `gmi.search.signature.Search` that takes the oracle and the prior: `refuse_misfit` sees to it
    selection: Selection
    batch: int  # candidates at once in one process
    seed: int
    memory: float | None = None  # GB that one process may take meanwhile; None: all that there is

    @property
    def people_at_once(self) -> int:
        """How many people's candidates are in a batch."""
        return max(1, self.batch // self.selection.candidates)

    def shares(self, people: int) -> int:
        """Batches of so many people: what processes can share out among them."""
        return -(-people // self.people_at_once)
