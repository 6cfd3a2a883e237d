"""The deletion of what shows or names people in a run folder; figures stay."""

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from gmi.errors import GmiError, because
from gmi.evidence.vault import SUFFIX, forget
from gmi.files import put

RECORD = "purged.json"
"""The file that says what was deleted."""
COPY = "unsealed.json"
"""The file that says that a folder is an unsealed copy of a run."""
SHOWING = (
    *("shards", "images", "copies.png", "split.json", "error.log", "outputs.txt"),
    *("ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm", "ledger.made", "ledgers"),
)
"""Whatever shows or names people: pieces, pictures, names of files, and answers, some of which are templates."""
_DRAFT = re.compile(r"\..+(-\w{8}|\.\d+)")  # what a writer that was killed leaves


@dataclass(frozen=True)
class Purged:
    """What was deleted."""

    on: str  # day and time
    files: int
    bytes: int

    def __str__(self) -> str:
        return f"{self.files:,} file{'s' * (self.files != 1)} with {self.bytes / 1e6:,.1f} MB"


def left(folder: Path) -> list[Path]:
    """What shows or names people in a run folder, sealed or not, and what writers left that were killed."""
    names = [name for each in SHOWING for name in (each, f"{each}{SUFFIX}")]
    found = [path for name in names if (path := folder / name).is_symlink() or path.exists()]
    return found + [path for path in folder.glob(".*") if _DRAFT.fullmatch(path.name) and path.is_file()]


def purge(folder: Path, pages: Sequence[str] = ()) -> Purged:
    """Deletes evidence from a run folder, and leaves a record of it. Raises GmiError where that fails.

    A disk may keep copies of what is deleted: only what was sealed, and whose key is gone, is gone with certainty.

    pages: names of files that may show people, too, and are to be written anew.
    """
    doomed = left(folder) + [path for name in pages if (path := folder / name).exists()]
    files = [file for path in doomed for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        # a record comes first: a folder without some of its pieces must not be taken for one that goes on
        put(folder / RECORD, json.dumps({"begun": now}) + "\n")
        for path in doomed:
            place = path.resolve()
            if place.is_dir():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)
            path.unlink(missing_ok=True) if path.is_symlink() else None
        forget(folder)
        purged = Purged(now, len(files), size)
        put(folder / RECORD, json.dumps(asdict(purged)) + "\n")
    except OSError as error:
        why = f"{because(error)}: see to its permissions, and purge it again"
        raise GmiError(f"{folder} was not purged to the end ({why}).") from error
    return purged


def purged_on(folder: Path) -> str | None:
    """The day on which a run's evidence was deleted; None: it was not, or not to the end."""
    return _day(folder / RECORD)


def now(folder: Path) -> str | None:
    """What became of a run's evidence after its report was written, for its page; None: it is as the report says."""
    if (day := purged_on(folder)) is not None:
        return f"deleted on {day}"
    if (day := _day(folder / COPY)) is not None:
        return f"in the clear: a copy, unsealed on {day}, to be deleted after use"
    return None


def _day(record: Path) -> str | None:
    try:
        return json.loads(record.read_text("utf-8"))["on"][:10]
    except (OSError, ValueError, KeyError, TypeError):
        return None
