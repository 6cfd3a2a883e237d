"""What an audit of an attribute is asked to do."""

from typing import Annotated

from pydantic import Field

from gmi.attributes.attacks import AnyAttack
from gmi.attributes.records import Layout, Table
from gmi.attributes.targets import AnyTarget, Own
from gmi.errors import GmiError
from gmi.settings import Rate, Whole, settings


@settings
class AttributeAudit:
    """One target, one table, one sensitive attribute.

    attacked: people of the training records, and as many of the held-out ones. value: of the sensitive attribute, that
    areas and hit rates look for; None: the rarest. groups: columns by whose values people are told apart. alarms:
    false-alarm rates at which hits are counted. notable: area that a model may add and still be said to add nothing.
    """

    name: str
    data: Table
    target: AnyTarget
    attacks: Annotated[tuple[AnyAttack, ...], Field(min_length=1)]
    attacked: Annotated[int, Field(ge=20)] = 1000
    value: str | None = None
    groups: tuple[str, ...] = ()
    alarms: tuple[Rate, ...] = (0.1, 0.01)
    notable: Rate = 0.05
    seed: Whole = 0

    def __post_init__(self) -> None:
        if len({one.type for one in self.attacks}) < len(self.attacks):
            raise ValueError("attacks: each is named once")
        if isinstance(self.target, Own) and self.data.shuffled:
            raise ValueError(
                "data.shuffled: of a model of your own it is known what it learnt from: put those records first in the "
                "file and say false"
            )

    def refuse(self, layout: Layout) -> None:
        """Raises GmiError where the table has no such value or groups."""
        values, known = layout.sensitive.values or (), {one.name: one for one in layout.known}
        if self.value is not None and self.value not in values:
            raise GmiError(f"value: {layout.sensitive.name} is never {self.value!r}; it is {', '.join(values)}.")
        for name in self.groups:
            if name not in known or known[name].values is None:
                raise GmiError(f"groups: {name!r} is no column of categories that is known of people.")
