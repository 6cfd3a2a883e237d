"""The block `evidence` of a configuration: what happens to what shows people."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from gmi.errors import GmiError
from gmi.evidence.signature import refuse_unable
from gmi.evidence.vault import Vault
from gmi.settings import OPERATIONAL, settings


@settings
class Encryption:
    """Sealing with a key that is nowhere but in the environment."""

    key: str  # the environment variable with the key: 32 bytes in base64, as `openssl rand -base64 32` prints them


@settings
class Handling:
    """Evidence is kept, in the clear or sealed."""

    encrypt: Encryption | None = None  # None: it lies in the clear, in a folder that is its user's alone
    until: Annotated[date | None, OPERATIONAL] = None  # the last day on which it is kept, which the report names
    # a private key of ssh-keygen with which the report is signed; None: it is not
    sign: Annotated[Path | None, OPERATIONAL] = None


AnyHandling = Handling | Literal["none"]
"""`none`: nothing is kept. What lies in the folder while the audit runs is sealed with a key that ends with the run."""


@dataclass(frozen=True)
class Kept:
    """What a report says of its evidence."""

    evidence: Literal["in the clear", "sealed", "not kept"]
    until: str | None


def kept(handling: AnyHandling, shown: bool) -> Kept:
    """What a report says; shown: whether its configuration lets it show images, without which none are kept."""
    if handling == "none" or not shown:
        return Kept("not kept", None)
    until = None if handling.until is None else handling.until.isoformat()
    return Kept("in the clear" if handling.encrypt is None else "sealed", until)


def refuse_unready(handling: AnyHandling, today: date) -> None:
    """Raises GmiError where the last day is over, or a key that will be needed is not there."""
    if handling == "none":
        return
    if handling.until is not None and handling.until < today:
        raise GmiError(f"evidence.until: {handling.until} is over: name a later day, or leave it out.")
    if handling.sign is not None:
        refuse_unable(handling.sign)
    if handling.encrypt is not None:
        Vault.of(handling.encrypt.key)


def vault(handling: AnyHandling, folder: Path) -> Vault | None:
    """What evidence of the run in a folder is sealed with; None: it is not.

    Raises GmiError where the key is amiss.

    Under accelerate every process must call this: a key that is made up is the same for all.
    """
    if handling == "none":
        return Vault.passing(folder)
    return None if handling.encrypt is None else Vault.of(handling.encrypt.key)
