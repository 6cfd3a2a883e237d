"""Who allowed an audit of a system that answers over a network, and until when. Without it no such audit starts."""

from datetime import date

from gmi.errors import GmiError
from gmi.settings import settings


@settings
class Authorisation:
    """Recorded in the report."""

    system: str  # what may be audited, in its owner's words
    allowed_by: str  # person and office
    until: date  # the last day

    def __post_init__(self) -> None:
        if not (self.system.strip() and self.allowed_by.strip()):
            raise ValueError("system and allowed_by must say something")

    def refuse_expired(self, today: date) -> None:
        """Raises GmiError after the last day."""
        if today > self.until:
            raise GmiError(f"The authorisation ended on {self.until}: ask {self.allowed_by} for another one.")
