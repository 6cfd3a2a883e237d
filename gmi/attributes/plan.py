"""The configuration of an attribute audit, as one tree of frozen objects."""

from typing import Annotated

from pydantic import Field

from gmi.attributes.attacks import AnyAttack
from gmi.attributes.records import Layout, Table
from gmi.attributes.targets import AnyTarget, Own, Tree
from gmi.errors import GmiError
from gmi.evidence.handling import AnyHandling, Handling
from gmi.settings import OPERATIONAL, Rate, Whole, settings
from gmi.targets.authorisation import Authorisation
from gmi.tracking import Tracker


@settings
class AttributeAudit:
    """One target, one table, one sensitive attribute."""

    name: str  # the run's: its folder is runs/NAME unless --out says otherwise
    data: Table  # the records, and what their columns mean
    target: AnyTarget  # the model under audit
    authorisation: Annotated[Authorisation | None, OPERATIONAL] = None  # who allowed the audit, and until when
    evidence: AnyHandling = Handling()  # what happens to what shows people: kept, sealed, or "none"
    track: Annotated[tuple[Tracker, ...], OPERATIONAL] = ()  # trackers of experiments that get the figures
    attacks: Annotated[tuple[AnyAttack, ...], Field(min_length=1)]  # each at most once
    attacked: Annotated[int, Field(ge=20)] = 1000  # training records, and as many held-out ones
    value: str | None = None  # sensitive value that AUC and hits are about; None: the rarest
    groups: tuple[str, ...] = ()  # columns of categories for whose values figures are given, too
    # false-alarm rates at which hits are counted
    alarms: Annotated[tuple[Rate, ...], Field(min_length=1)] = (0.1, 0.01)
    notable: Rate = 0.05  # addition to the AUC that must be excluded for "no evidence"
    # each decides a split, a training, and who is attacked; several tell of the luck of these
    seeds: Annotated[tuple[Whole, ...], Field(min_length=1)] = (0,)

    def __post_init__(self) -> None:
        if len({*self.seeds}) < len(self.seeds):
            raise ValueError("seeds: the same seed twice is the same audit")
        if len({attack.type for attack in self.attacks}) < len(self.attacks):
            raise ValueError("attacks: each is named once")
        if isinstance(self.target, Own) and self.data.shuffled:
            raise ValueError(
                "data.shuffled: of a model of your own it is known what it learnt from: put those records first in the "
                "file and say false"
            )

    def refuse(self, layout: Layout) -> None:
        """Raises GmiError where the table has no such value or groups, or the target cannot answer an attack."""
        values, columns = layout.sensitive.values or (), {column.name: column for column in layout.features}
        if self.value is not None and self.value not in values:
            raise GmiError(f"value: {layout.sensitive.name} is never {self.value!r}; it is {', '.join(values)}.")
        for name in self.groups:
            if name not in columns or columns[name].values is None:
                raise GmiError(f"groups: {name!r} is no column of categories that is known of people.")
        for attack in self.attacks:
            if layout.classes is None and attack.reads not in ("predictions", "answers"):
                raise GmiError(
                    f"attacks: {attack.type} needs an outcome with classes, and {layout.outcome.name} is a number."
                )
            if attack.reads == "leaves" and not isinstance(self.target, Tree):
                raise GmiError(
                    f"attacks: {attack.type} reads the leaves of a decision tree: take target: {{type: tree}}."
                )
