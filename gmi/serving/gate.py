"""Access to a served target: its keys, their rates and budgets, and a log of queries."""

import hmac
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from math import ceil
from pathlib import Path
from threading import Lock

from gmi.errors import GmiError, because
from gmi.files import private
from gmi.settings import Count, Positive, settings
from gmi.targets.remote import secret_in

_AHEAD = 1.0  # seconds by which a key may be ahead of its rate, since requests come in groups


class Refused(Exception):
    """A request that is answered with a status other than 200."""

    def __init__(self, status: int, reason: str, after: float | None = None) -> None:
        """after: seconds after which the client may try again; None: not said."""
        super().__init__(reason)
        self.status = status
        self.headers = {} if after is None else {"Retry-After": str(ceil(after))}


@settings
class Key:
    """A client that may query the target."""

    name: str  # name of the client, for the log
    token: str  # name of the environment variable that holds its secret
    rate: Positive | None = None  # images per second; None: no limit
    budget: Count | None = None  # images in all; None: no limit


class Gate:
    """Recognises keys, and holds them to their rates."""

    def __init__(self, keys: Sequence[Key]) -> None:
        """Raises GmiError if the environment lacks a key's token, or two are equal."""
        self._keys: list[tuple[bytes, Key]] = []
        for key in keys:
            secret = secret_in(key.token, f"keys.{key.name}.token")
            digest = sha256(secret.encode()).digest()
            if twin := [other.name for known, other in self._keys if known == digest]:
                raise GmiError(f"keys: {key.name} and {twin[0]} have one secret: give each its own.")
            self._keys.append((digest, key))
        self._free: dict[str, float] = {}
        self._lock = Lock()

    def key(self, header: str | None) -> Key:
        """The key in an Authorization header; all are compared, in constant time. Raises Refused if it has none."""
        if not self._keys:
            return Key(name="anybody", token="")
        sent = sha256((header or "").removeprefix("Bearer ").encode()).digest()
        matches = [key for digest, key in self._keys if hmac.compare_digest(digest, sent)]
        if not matches:
            raise Refused(401, "no valid key: send it as Authorization: Bearer")
        return matches[0]

    def pass_(self, key: Key, images: int) -> None:
        """Lets a request of this many images pass. Raises Refused while earlier ones put the key ahead of its rate.

        images: 0 asks only whether one would pass.
        """
        if key.rate is None:
            return
        with self._lock:
            now = time.monotonic()
            free = max(now, self._free.get(key.name, now))
            if free > now + _AHEAD:
                raise Refused(429, f"at most {key.rate:g} images a second", free - now - _AHEAD)
            self._free[key.name] = free + images / key.rate


class Log:
    """The log of queries and alarms, on disk, so that a budget outlives the server; one server has it at a time."""

    def __init__(self, path: Path) -> None:
        """Raises GmiError where the file cannot be used, or another server uses it."""
        self._lock = Lock()
        try:
            private(path.parent)
            path.touch(mode=0o600)
            lock = path.with_name(f"{path.name}.lock")
            lock.touch(mode=0o600)
            self._alone = sqlite3.connect(lock, timeout=0, isolation_level=None, check_same_thread=False)
            self._alone.execute("BEGIN EXCLUSIVE")  # until the process ends, however it ends
        except sqlite3.OperationalError as error:
            raise GmiError(f"log: {path} belongs to a server that runs, or cannot be locked: name another.") from error
        except OSError as error:
            raise GmiError(f"log: {path} cannot be made ({because(error)}): name another.") from error
        try:
            self._file = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute("CREATE TABLE IF NOT EXISTS queries (at REAL, key TEXT, image BLOB, class INTEGER)")
            rows = self._file.execute("SELECT key, count(*) FROM queries GROUP BY key")
            self._counts = dict(rows.fetchall())
            self._file.execute("CREATE TABLE IF NOT EXISTS alarms (at REAL, key TEXT, reason TEXT)")
            alarms = self._file.execute("SELECT key, count(*) FROM alarms GROUP BY key").fetchall()
        except (sqlite3.Error, OSError) as error:
            raise GmiError(f"log: {path} cannot be used ({because(error)}): restore it, or name another.") from error
        self.alarms = Counter(dict(alarms))

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
        self._alone.close()

    def alarm(self, key: Key, reasons: Sequence[str]) -> None:
        """Records an alarm for a key, if there are reasons. To forgive it, delete its row and start again."""
        if reasons:
            with self._lock:
                with self._writing():
                    row = (time.time(), key.name, ", ".join(reasons))
                    self._file.execute("INSERT INTO alarms VALUES (?, ?, ?)", row)
                self.alarms[key.name] += 1

    @contextmanager
    def charged(self, key: Key, images: Sequence[bytes]) -> Iterator[list[int]]:
        """A context that charges a key for images, and yields a list to fill with the classes that were answered.

        If it stays empty, because the answer failed, nothing is charged. Raises Refused beyond the key's budget.
        """
        with self._lock:
            count = self._counts.get(key.name, 0)
            if key.budget is not None and count + len(images) > key.budget:
                raise Refused(403, f"the budget of {key.budget} images is spent: {count} were asked")
            self._counts[key.name] = count + len(images)
        classes: list[int] = []
        try:
            yield classes
        finally:
            now = time.time()
            pairs = zip(images, classes, strict=True) if classes else ()
            rows = [(now, key.name, sha256(image).digest(), label) for image, label in pairs]
            with self._lock:
                try:
                    with self._writing():
                        self._file.executemany("INSERT INTO queries VALUES (?, ?, ?, ?)", rows)
                except Refused:
                    rows = []  # nothing is answered
                    raise
                finally:
                    self._counts[key.name] -= len(images) - len(rows)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """A transaction that ends, whatever happens. Raises Refused while the log cannot be written."""
        try:
            self._file.execute("BEGIN IMMEDIATE")
            yield
            self._file.execute("COMMIT")
        except sqlite3.Error as error:
            raise Refused(503, "the log of queries cannot be written now: try again later") from error
        finally:
            if self._file.in_transaction:
                self._file.execute("ROLLBACK")
