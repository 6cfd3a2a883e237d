"""A ledger, on disk, of the queries to a model behind an interface.

Every image is charged before it is sent, each time that it is sent, and an answer that has come is not asked for again.
So a run that was killed goes on from its answers.
"""

import fcntl
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Literal

from gmi.errors import GmiError, because
from gmi.evidence.vault import Vault
from gmi.files import private, written

SHARED = -1  # the "person" of a query that serves nobody in particular
OWN_OPINION = "own opinion"  # the step in which the auditor asks a served target about the reconstructions

Repeats = Literal["free", "asked"]


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Makes a ledger's file, and lets one at a time set it up: SQLite does not wait for another who does.

    A mark next to it, which is locked meanwhile, stays. Raises GmiError where the mark has outlived the ledger, and
    where the file system cannot lock parts of a file, as SQLite has to.
    """
    mark = path.with_suffix(".made")
    if mark.exists() and not path.exists():
        raise GmiError(
            f"{path} is gone, and with it the count of the images that were sent: put it back, or start anew with "
            "another --out."
        )
    with written(path):
        private(path.parent)
        path.touch(mode=0o600)
        mark.touch(mode=0o600)
    with mark.open("rb") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB, 1)
            fcntl.flock(file, fcntl.LOCK_EX)  # between threads, too
        except OSError as error:
            raise GmiError(
                f"The file system of {path.parent} cannot lock parts of a file ({because(error)}), which the ledger of "
                "queries needs: choose an --out on a disk of this machine."
            ) from error
        yield


class _Unreadable(Exception):
    """An answer that was sealed with another key."""


class BudgetSpent(GmiError):
    """The next images would exceed the budget: none of them was sent."""


@dataclass(frozen=True)
class Account:
    """Numbers of images in a ledger."""

    images: int  # different images; with repeats "asked", each repeat counts
    sent: int  # images sent, retries included


class Ledger:
    """An SQLite file, which several processes of one machine may use at once."""

    def __init__(self, path: Path | None, budget: int | None = None, repeats: Repeats = "free") -> None:
        """path: of the file; None: it lies in memory.

        budget: images that may be sent in all, retries included; None: any number.

        repeats: "free": an image that was answered before is answered from the file. "asked": it is sent and charged
        again, as is right for an interface that answers at random; only a resumed run gets its old answers from the
        file.
        """
        self.repeats: Repeats = repeats
        self._budget = budget
        self._different: int | None = None
        self.vault: Vault | None = None  # what seals answers, where they show people; None: they lie in the clear
        self.step, self._repeats = "", Counter[bytes]()
        self._anew: dict[bytes, bytes] | None = None  # answers by key, of images that are sent again; None: none are
        self._lock, self._path = Lock(), path or ":memory:"
        with nullcontext() if path is None else _alone(path), self._border():
            self._file = sqlite3.connect(self._path, timeout=60, isolation_level=None, check_same_thread=False)
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute(
                "CREATE TABLE IF NOT EXISTS images (key BLOB PRIMARY KEY, step TEXT, person INTEGER, sent INTEGER, "
                "answer BLOB) WITHOUT ROWID"
            )
            self._file.execute(
                "CREATE TABLE IF NOT EXISTS total (one INTEGER PRIMARY KEY CHECK (one = 1), sent INTEGER)"
            )
            self._file.execute("INSERT OR IGNORE INTO total VALUES (1, 0)")

    def limit(self, images: int) -> None:
        """Bounds the different images, in place of those that are sent: what is sent again after a stop is free."""
        self._different = images

    def at(self, step: str) -> None:
        """Begins a step of the run, which a resumed run repeats from its start."""
        self.step, self._repeats = step, Counter()

    def place(self) -> tuple[str, Counter[bytes]]:
        """Where in its step the run is, to go `back` to."""
        return self.step, self._repeats.copy()

    def back(self, place: tuple[str, Counter[bytes]]) -> None:
        """Goes back: what is asked as it was after that place is answered as it was, and not charged again."""
        self.step, self._repeats = place[0], place[1].copy()

    @contextmanager
    def anew(self) -> Iterator[None]:
        """Within it images are sent and charged again, whatever is kept of them, which stays as it is."""
        self._anew = {}
        try:
            yield
        finally:
            self._anew = None

    def keys(self, images: Sequence[bytes]) -> list[bytes]:
        """The images' keys in this ledger."""
        keys = []
        for image in images:
            key = sha256(image).digest()
            if self.repeats == "asked":
                self._repeats[key] += 1
                key = sha256(key + f"{self.step} {self._repeats[key]}".encode()).digest()
            keys.append(key)
        return keys

    def answers(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The answers by key; keys without an answer are left out."""
        if self._anew is not None:
            return {key: self._anew[key] for key in keys if key in self._anew}
        answers = {}
        with self._lock, self._border():
            for key in dict.fromkeys(keys):
                row = self._file.execute("SELECT answer FROM images WHERE key = ?", (key,)).fetchone()
                if row is not None and row[0] is not None:
                    with suppress(_Unreadable):  # sealed with a key that is gone: it is asked for again
                        answers[key] = self._opened(row[0], key)
        return answers

    def charge(self, keys: Sequence[bytes], people: Sequence[int]) -> None:
        """Charges images that are about to be sent, for the first time or again, each for a person or SHARED.

        Raises BudgetSpent if they exceed the budget, and charges none of them then.
        """
        with self._transaction():
            sent = self._sent()
            if self._budget is not None and sent + len(keys) > self._budget:
                raise BudgetSpent(
                    f"The budget of {self._budget:,} images is spent ({sent:,} were sent, {len(keys):,} more are "
                    "wanted): raise access.budget and start the same command again; it goes on from what it has."
                )
            if self._different is not None and self._images() + self._new(keys) > self._different:
                raise BudgetSpent(
                    f"{self._path} has {self._images():,} images, and more than {self._different:,} are wanted, which "
                    "is what these attacks cost: start anew with another --out."
                )
            self._file.executemany(
                "INSERT INTO images VALUES (?, ?, ?, 1, NULL) ON CONFLICT (key) DO UPDATE SET sent = sent + 1",
                [(key, self.step, person) for key, person in zip(keys, people, strict=True)],
            )
            self._file.execute("UPDATE total SET sent = sent + ?", (len(keys),))

    def refund(self, keys: Sequence[bytes]) -> None:
        """Takes back the last charge of images that could not be sent after all."""
        rows = [(key,) for key in keys]
        with self._transaction():
            self._file.executemany("UPDATE images SET sent = sent - 1 WHERE key = ?", rows)
            self._file.executemany("DELETE FROM images WHERE key = ? AND sent = 0", rows)
            self._file.execute("UPDATE total SET sent = sent - ?", (len(keys),))

    def keep(self, keys: Sequence[bytes], answers: Sequence[bytes]) -> None:
        """Stores the answers to images that were charged."""
        if self._anew is not None:
            self._anew.update(zip(keys, answers, strict=True))
            return
        if self.vault is not None:
            answers = [self.vault.seal(answer, key.hex()) for answer, key in zip(answers, keys, strict=True)]
        with self._transaction():
            self._file.executemany("UPDATE images SET answer = ? WHERE key = ?", list(zip(answers, keys, strict=True)))

    @property
    def total(self) -> Account:
        """The account of all steps and people."""
        with self._lock, self._border():
            return Account(self._images(), self._sent())

    def by(self, what: Literal["step", "person"], without: str = "") -> dict[str | int, Account]:
        """The account of each step, or of each person; an image counts where it was first sent.

        without: a step that is left out.
        """
        with (
            self._lock,
            self._border(),
            closing(
                self._file.execute(
                    f"SELECT {what}, sum(1), sum(sent) FROM images WHERE step <> ? GROUP BY 1", (without,)
                )
            ) as rows,
        ):
            return {key: Account(images, sent) for key, images, sent in rows}

    def _opened(self, answer: bytes, key: bytes) -> bytes:
        if self.vault is None:
            return answer
        try:
            return self.vault.open(answer, key.hex())
        except GmiError as error:
            raise _Unreadable from error

    def _images(self) -> int:
        return self._file.execute("SELECT count(*) FROM images").fetchone()[0]

    def _new(self, keys: Sequence[bytes]) -> int:
        known = (self._file.execute("SELECT 1 FROM images WHERE key = ?", (key,)).fetchone() for key in {*keys})
        return sum(row is None for row in known)

    def _sent(self) -> int:
        return self._file.execute("SELECT sent FROM total").fetchone()[0]

    @contextmanager
    def _border(self) -> Iterator[None]:
        """Raises GmiError in place of what SQLite raises within."""
        try:
            yield
        except sqlite3.Error as error:
            raise GmiError(
                f"The ledger {self._path} cannot be used ({because(error)}): see to its disk, and start the same "
                "command again; where the file is damaged, start anew with another --out."
            ) from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, self._border():
            try:
                self._file.execute("BEGIN IMMEDIATE")
                yield
                self._file.execute("COMMIT")
            finally:  # after a failure of any kind, of the commit too
                if self._file.in_transaction:
                    self._file.execute("ROLLBACK")
