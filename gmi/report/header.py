"""What the JSON of every kind of audit begins with: who allowed it, what it came from, and of when its figures are."""

import json
import logging
import platform
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from pydantic import JsonValue

from gmi.errors import GmiError
from gmi.evidence.handling import Kept
from gmi.report import page

_log = logging.getLogger(__name__)  # warnings are shown, unless the application decides otherwise

PACKAGES = (
    *("torch", "torchvision", "accelerate", "diffusers", "facenet-pytorch", "lpips", "dlib-bin", "numpy", "scipy"),
    *("scikit-learn", "cma", "opacus", "onnxruntime"),
)
"""Packages that the provenance names where they are installed."""
FILES = ("scores.jsonl", "distributions.safetensors")
"""Those that figures and plots rest on, and that show nobody."""


@dataclass(frozen=True)
class Asset:
    """Packaged data or weights that the audit used, and their terms."""

    name: str
    licence: str
    terms: str
    credit: str
    sha256: str


@dataclass(frozen=True)
class Provenance:
    """What the figures came from."""

    config_digest: str
    digests: dict[str, JsonValue]  # of the target, the prior, the data and whatever else was read
    environment: dict[str, str]
    device: str
    processes: int
    files: dict[str, str]  # SHA-256 of what figures can be computed from again
    started: str
    finished: str


@dataclass(frozen=True)
class Header:
    """What the JSON of every kind of audit begins with."""

    schema_version: Literal[12]
    kind: str
    name: str
    gmi: str
    authorisation: dict[str, JsonValue] | None
    authorised: str | None  # when the run was first told of it
    evidence: Kept
    assets: tuple[Asset, ...]
    provenance: Provenance


def environment() -> dict[str, str]:
    """Python, the platform, and the versions of the packages that figures depend on."""
    return {"python": platform.python_version(), "platform": platform.platform()} | dict(_installed(PACKAGES))


def _installed(packages: Iterable[str]) -> Iterator[tuple[str, str]]:
    for name in packages:
        with suppress(PackageNotFoundError):
            yield name, version(name)


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of those of FILES that are in a run folder."""
    paths = (folder / name for name in FILES)
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in paths if path.exists()}


def dated(report: dict[str, Any], path: Path, last: float, same: bool) -> dict[str, Any]:
    """A report for which nothing was computed, with the times of its figures, of which a warning tells.

    They are those of an earlier one in its file, if it has the same figures: another authorisation does not make these
    new. last: when the last piece of work was finished, in seconds since 1970. same: whether the target answers as it
    did then.
    """
    earlier, mine = _earlier(path), json.loads(json.dumps(report))
    figures = mine.keys() - {"authorisation", "authorised", "evidence", "provenance", "cost"}
    times = {"finished": datetime.fromtimestamp(last, UTC).isoformat(timespec="seconds")}
    if earlier is not None and all(earlier.get(key) == mine[key] for key in figures):
        times = {key: earlier["provenance"][key] for key in ("started", "finished")}
    mine["provenance"] |= times
    tell_age(mine, same)
    return mine


def tell_age(report: Mapping[str, Any], same: bool = False) -> None:
    """Warns that the figures of a report are as old as it says. same: whether the target answers as it did then."""
    finished = report["provenance"]["finished"]
    if same:
        _log.warning("Nothing was computed: the figures are of %s, and the model answers as it did then.", finished)
        return
    _log.warning(
        "Nothing was asked of the model: the figures are of %s. If it has changed behind an interface since then, "
        "choose another --out.",
        finished,
    )


def _earlier(path: Path) -> dict[str, Any] | None:
    """The JSON that is there; None: there is none, it is damaged, or of another version, and is written anew."""
    try:
        return page.read(path) if path.exists() else None
    except GmiError:
        return None
