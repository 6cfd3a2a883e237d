"""A vault: seals files with AES-256-GCM, each bound to its run and its name."""

import binascii
import os
import stat
from base64 import b64decode
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from gmi.errors import GmiError, missing
from gmi.files import is_memory, put

SUFFIX = ".sealed"
"""What the name of a sealed file ends with."""
_MARK = b"gmi sealed 1\n"
_SIZE, _NONCE = 32, 12  # bytes
MEMORY = Path("/dev/shm")
"""A folder whose files are in memory alone; systems without one keep a passing key in the process."""


@dataclass(frozen=True)
class Vault:
    """A key, and what it seals. Nothing shows the key itself."""

    key: bytes = field(repr=False)
    name: str  # of the key, for messages

    @classmethod
    def of(cls, variable: str) -> "Vault":
        """The vault whose key an environment variable holds, in base64. Raises GmiError where it holds none."""
        how = f"set it to 32 bytes in base64, as with export {variable}=$(openssl rand -base64 32), and keep a copy"
        text = os.environ.get(variable, "")
        if not text.strip():
            raise GmiError(f"The environment variable {variable} holds no key for the evidence: {how}.")
        try:
            key = b64decode(text.strip(), validate=True)
        except (binascii.Error, ValueError) as error:
            raise GmiError(f"The key in {variable} is not in base64: {how}.") from error
        if len(key) != _SIZE:
            raise GmiError(f"The key in {variable} has {len(key)} bytes, and not {_SIZE}: {how}.")
        _cipher(key)  # refused before anything is sealed, where the package for it is missing
        return cls(key, variable)

    @classmethod
    def passing(cls, folder: Path) -> "Vault":
        """A vault for a run folder whose key is in memory alone: what it sealed ends with the run.

        A run that was killed finds it again, until `forget` or a restart of the machine.
        """
        keys = [b""]
        if PartialState().is_main_process:
            keys = [_remembered(folder)]
        if PartialState().num_processes > 1:
            broadcast_object_list(keys)
        _cipher(keys[0])
        return cls(keys[0], "")

    @property
    def fingerprint(self) -> str:
        """Tells keys apart, and nothing of the key, which is random. Empty for a key that ends with the run."""
        return sha256(b"gmi evidence" + self.key).hexdigest()[:16] if self.name else ""

    def seal(self, content: bytes, label: str) -> bytes:
        """The sealed content; label: what it must be opened as."""
        nonce = os.urandom(_NONCE)
        return _MARK + nonce + _cipher(self.key).encrypt(nonce, content, label.encode())

    def open(self, sealed: bytes, label: str) -> bytes:
        """The content. Raises GmiError for another key, another label, and damage."""
        from cryptography.exceptions import InvalidTag

        start = len(_MARK) + _NONCE
        try:
            if not sealed.startswith(_MARK) or len(sealed) < start:
                raise InvalidTag
            return _cipher(self.key).decrypt(sealed[len(_MARK) : start], sealed[start:], label.encode())
        except InvalidTag as error:
            key = f"the key in {self.name}" if self.name else "a run's own key"
            raise GmiError(f"it is not sealed with {key}, or it is damaged or of another run") from error


def forget(folder: Path) -> None:
    """Deletes the passing key of a run folder, if there is one."""
    with suppress(OSError):  # there is none, or it is another user's
        _place(folder).unlink()


def _place(folder: Path) -> Path:
    return MEMORY / f"gmi-{sha256(bytes(folder.resolve())).hexdigest()[:32]}"


def _remembered(folder: Path) -> bytes:
    """The passing key of a run folder: a new one where memory holds none that is this user's alone."""
    key, place = os.urandom(_SIZE), _place(folder)
    with suppress(OSError, GmiError):  # without such a memory the process alone has it
        if MEMORY.is_dir() and is_memory(MEMORY):
            known = _held(place)
            if known is not None:
                return known
            put(place, key)
    return key


def _held(place: Path) -> bytes | None:
    """The key in a file, if it holds one and is this user's alone; None: there is none."""
    try:
        file = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # others may have put anything there
    except FileNotFoundError:
        return None
    about = os.fstat(file)
    with open(file, "rb") as held:
        known = held.read(_SIZE + 1) if stat.S_ISREG(about.st_mode) else b""
    mine = about.st_uid == os.geteuid() and not about.st_mode & 0o077
    return known if mine and len(known) == _SIZE else None


def _cipher(key: bytes) -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ModuleNotFoundError as error:
        raise missing(error) from error
    return AESGCM(key)
