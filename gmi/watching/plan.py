"""The plan of a watch on trial: a ladder, whose attacks are watched, and the settings of the watch."""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from gmi.ladder.plan import Ladder, Rung
from gmi.oracles.access import reach
from gmi.serving.watch import Watch
from gmi.settings import settings


@settings
class Trial(Watch):
    """The settings of the watch, as of a target that is served; nothing is refused here."""

    # shares of photographs that an adversary who knows of the watch sends between the queries of each attack
    disguises: tuple[Annotated[float, Field(gt=0, le=0.99)], ...] = (0.5, 0.9)


@settings
class Watching(Ladder):
    """A ladder whose attacks are watched; not used: its budget, controls and judges, and rungs of the whole model."""

    watch: Trial = Trial()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.watch.refuse is not None:
            raise ValueError("watch.refuse: on trial nobody is refused: leave it out")

    def asking(self) -> Iterator[tuple[str, Rung, Any]]:
        """The attacks that ask an interface: step, rung and search."""
        return (each for each in self.attacks() if reach(each[1].access) == "api")
