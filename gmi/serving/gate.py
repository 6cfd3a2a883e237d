"""Who may ask a served target, how often and how much; and a log of what was asked."""

import hmac
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from math import ceil
from pathlib import Path
from threading import Lock

from gmi.errors import GmiError
from gmi.settings import Count, Positive, settings

_AHEAD = 1.0  # seconds of its rate that a key may be ahead: requests come together


class Refused(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.headers = {} if after is None else {"Retry-After": str(ceil(after))}


@settings
class Key:
    """Who may ask. token: environment variable that holds the secret. rate: images a second. budget: images in all."""

    name: str
    token: str
    rate: Positive | None = None
    budget: Count | None = None


class Gate:
    """Who is asking, and whether it may now."""

    def __init__(self, keys: Sequence[Key]) -> None:
        """Raises GmiError where the environment lacks a key's token."""
        self._keys: list[tuple[bytes, Key]] = []
        for key in keys:
            secret = os.environ.get(key.token, "")
            if not secret:
                raise GmiError(
                    f"keys.{key.name}: its token names an environment variable, and none of that name is set: "
                    "export it."
                )
            self._keys.append((sha256(secret.encode()).digest(), key))
        self._free: dict[str, float] = {}
        self._lock = Lock()

    def key(self, header: str | None) -> Key:
        """Of an Authorization header. All keys are compared, in constant time."""
        if not self._keys:
            return Key(name="anybody", token="")
        given = sha256((header or "").removeprefix("Bearer ").encode()).digest()
        found = [key for known, key in self._keys if hmac.compare_digest(known, given)]
        if not found:
            raise Refused(401, "no valid key: send it as Authorization: Bearer")
        return found[0]

    def pass_(self, key: Key, images: int) -> None:
        """Refused where what was asked before will not be paid for in time within a second."""
        if key.rate is None:
            return
        with self._lock:
            now = time.monotonic()
            free = max(now, self._free.get(key.name, now))
            if free > now + _AHEAD:
                raise Refused(429, f"at most {key.rate:g} images a second", free - now - _AHEAD)
            self._free[key.name] = free + images / key.rate


class Log:
    """Who asked what, on disk, so that a budget outlives the server."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = Lock()
        self._file = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        path.chmod(0o600)
        self._file.execute("PRAGMA journal_mode = WAL")
        self._file.execute("CREATE TABLE IF NOT EXISTS queries (at REAL, key TEXT, image BLOB, class INTEGER)")
        rows = self._file.execute("SELECT key, count(*) FROM queries GROUP BY key")
        self._asked = dict(rows.fetchall())
        self._file.execute("CREATE TABLE IF NOT EXISTS alarms (at REAL, key TEXT, reason TEXT)")
        self.alarms = Counter(dict(self._file.execute("SELECT key, count(*) FROM alarms GROUP BY key").fetchall()))

    def close(self) -> None:
        self._file.close()

    def alarm(self, key: Key, reasons: Sequence[str]) -> None:
        """Keeps what was odd about a window of what a key asked. To forgive it, delete the row and start again."""
        if reasons:
            with self._lock:
                self._file.execute("INSERT INTO alarms VALUES (?, ?, ?)", (time.time(), key.name, ", ".join(reasons)))
                self.alarms[key.name] += 1

    @contextmanager
    def charged(self, key: Key, images: Sequence[bytes]) -> Iterator[list[int]]:
        """Within the key's budget, or Refused. Fill the list with the classes that were answered; an error is free."""
        with self._lock:
            asked = self._asked.get(key.name, 0)
            if key.budget is not None and asked + len(images) > key.budget:
                raise Refused(403, f"the budget of {key.budget} images is spent: {asked} were asked")
            self._asked[key.name] = asked + len(images)
        answered: list[int] = []
        try:
            yield answered
        finally:
            now = time.time()
            told = zip(images, answered, strict=True) if answered else ()  # none, where the answer failed
            rows = [(now, key.name, sha256(one).digest(), label) for one, label in told]
            with self._lock:
                self._asked[key.name] -= len(images) - len(rows)
                self._file.execute("BEGIN")
                self._file.executemany("INSERT INTO queries VALUES (?, ?, ?, ?)", rows)
                self._file.execute("COMMIT")
