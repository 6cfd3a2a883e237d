"""What an attribute audit works on, as its configuration names it."""

from dataclasses import dataclass
from importlib.metadata import version

from pydantic import JsonValue

from gmi.attributes.plan import AttributeAudit
from gmi.attributes.records import Tables
from gmi.audits import Hardware


@dataclass(frozen=True)
class Inputs:
    """The records of a table, in their parts; the targets are trained by the audit."""

    tables: tuple[Tables, ...]  # by seed: each splits the same records anew

    @property
    def digests(self) -> dict[str, JsonValue]:
        """What a run folder must be of, in addition to the configuration."""
        return {"gmi": version("gmi"), "data": self.tables[0].digest}


def load(plan: AttributeAudit, hardware: Hardware) -> Inputs:
    """Reads the table. Raises GmiError as `Table.load`."""
    return Inputs(tuple(plan.data.load(seed) for seed in plan.seeds))
