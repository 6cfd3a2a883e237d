"""The deletion of what shows or names people in a run folder; figures stay."""

import json
import shutil
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from gmi.errors import GmiError, because
from gmi.evidence.vault import SUFFIX

RECORD = "purged.json"
"""The file that says what was deleted."""
SHOWING = ("shards", "images", "copies.png", f"copies.png{SUFFIX}", "split.json", "error.log", "outputs.txt")
"""Whatever shows or names people: pieces of work, pictures, and the names of their files. Pages are written anew."""
PRINTED = "*.pdf"


@dataclass(frozen=True)
class Purged:
    """What was deleted."""

    on: str  # day and time
    files: int
    bytes: int

    def __str__(self) -> str:
        return f"{self.files:,} files with {self.bytes / 1e6:,.1f} MB"


def purge(folder: Path) -> Purged:
    """Deletes evidence from a run folder, and leaves a record of it. Raises GmiError where that fails.

    A disk may keep copies of what is deleted: only what was sealed, and whose key is gone, is gone with certainty.
    """
    doomed = [path for name in SHOWING if (path := folder / name).exists()] + [*folder.glob(PRINTED)]
    files = [file for path in doomed for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
    purged = Purged(
        datetime.now(UTC).isoformat(timespec="seconds"), len(files), sum(file.stat().st_size for file in files)
    )
    try:
        # the record comes first: a folder without some of its pieces must not be taken for one that goes on
        (folder / RECORD).write_text(json.dumps(asdict(purged)) + "\n", "utf-8")
        for path in doomed:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    except OSError as error:
        raise GmiError(f"{folder} cannot be purged ({because(error)}): see to its permissions.") from error
    return purged
