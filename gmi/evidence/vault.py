"""A vault: seals files with AES-256-GCM, each bound to its run and its name."""

import binascii
import os
from base64 import b64decode
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from gmi.errors import GmiError, missing

SUFFIX = ".sealed"
"""What the name of a sealed file ends with."""
_MARK = b"gmi sealed 1\n"
_SIZE, _NONCE = 32, 12  # bytes


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
    def passing(cls) -> "Vault":
        """A vault whose key is in the memory of this run's processes alone: what it sealed ends with them."""
        keys = [os.urandom(_SIZE)]
        _cipher(keys[0])
        if PartialState().num_processes > 1:
            broadcast_object_list(keys)
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


def _cipher(key: bytes) -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ModuleNotFoundError as error:
        raise missing(error) from error
    return AESGCM(key)
