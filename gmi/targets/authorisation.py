"""Authorisation of an audit of a system behind a network: without it no such audit starts."""

from datetime import date

from gmi.errors import GmiError
from gmi.settings import settings


@settings
class Authorisation:
    """The permission to audit a system, which the report records."""

    system: str  # the system that may be audited, in its owner's words
    allowed_by: str  # person and office that allowed it
    until: date  # last day on which it may be audited

    def __post_init__(self) -> None:
        if not (self.system.strip() and self.allowed_by.strip()):
            raise ValueError("system and allowed_by must say something")

    def refuse_expired(self, today: date) -> None:
        """Raises GmiError after the last day."""
        if today > self.until:
            raise GmiError(f"The authorisation ended on {self.until}: ask {self.allowed_by} for another one.")
