"""Files that only their user can read, put in place whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from safetensors import SafetensorError

from gmi.errors import GmiError, because


@contextmanager
def written(path: Path) -> Iterator[None]:
    """A border to the disk, within which `path` is written: what the system raises becomes a GmiError."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise GmiError(
            f"{path} cannot be written ({because(error)}): make room, or see to the rights of its folder, and run the "
            "same command again; what is finished stays."
        ) from error


def private(folder: Path) -> None:
    """Makes a folder, and those above it that are missing, for its user alone."""
    if not folder.exists():
        private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def is_memory(folder: Path) -> bool:
    """True for a folder of which the system says that it lies in memory, and on no disk."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text("utf-8").splitlines()]
    except OSError:  # another system
        return False
    above = [mount for mount in mounts if folder.resolve().is_relative_to(mount[1])]
    return bool(above) and max(above, key=lambda mount: len(mount[1]))[2] in ("tmpfs", "ramfs")


def put(path: Path, content: bytes | str) -> Path:
    """Puts a file in place by one rename, for its user alone, and gives its path. Raises GmiError where that fails."""
    with written(path):
        private(path.parent)
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as file:  # mode 600
            draft = Path(file.name)
        try:
            draft.write_bytes(content if isinstance(content, bytes) else content.encode())
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)
    return path
