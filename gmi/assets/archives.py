"""Fetches a released archive, by its exact file name and SHA-256, from where pip would look for it.

pip's own settings are read (`pip config list`: its files and PIP_* variables), so mirrors, proxies, private
certificates and air-gapped folders work without a second configuration. `pip download` would not do: for an sdist it
runs the package's metadata step. Here an archive is opened, never imported, and nothing in it is executed.
"""

import ast
import hashlib
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from urllib.request import url2pathname

import requests
from packaging.utils import canonicalize_name
from pypi_simple import ACCEPT_ANY, PYPI_SIMPLE_ENDPOINT, ProjectPage, UnsupportedRepoVersionError
from requests.adapters import HTTPAdapter
from requests.utils import get_auth_from_url
from tqdm import tqdm
from urllib3.util import Retry

from gmi.errors import GmiError

_CHUNK = 1 << 18  # bytes


@dataclass(frozen=True)
class Archive:
    """The plain files of an opened wheel or sdist. Names in an sdist leave out its one top folder."""

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
    """Opens a wheel (zip) or an sdist (tar). Files are read into memory, never extracted to names the archive chose."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            yield Archive(tuple(name for name in wheel.namelist() if not name.endswith("/")), wheel.read)
        return
    with tarfile.open(path) as sdist:
        members = {member.name.partition("/")[2]: member for member in sdist if member.isfile()}

        def read(name: str) -> bytes:
            file = sdist.extractfile(members[name])
            assert file is not None, name  # only plain files are in `members`
            return file.read()

        yield Archive(tuple(members), read)


def pip_settings() -> PipSettings:
    """The settings of `python -m pip config list`, or of the PIP_* variables if this interpreter has no pip (uv)."""
    pip = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True)
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
    with _session(settings) as session:
        for page in sorted([*settings.find_links, *indexed], key=lambda url: _local(url) is None):
            try:
                source = _find(page, package, filename, session)
                if source is None:
                    tried.append(f"{_shown(page)} (not there)")
                    continue
                digest = _save(source, page, folder / filename, session)
            except (requests.RequestException, UnsupportedRepoVersionError, ValueError) as error:
                # the error's own text would show the user and password in the URL
                status = getattr(getattr(error, "response", None), "status_code", None)
                tried.append(f"{_shown(page)} ({f'HTTP {status}' if status else type(error).__name__})")
            else:
                if digest != sha256:
                    raise GmiError(
                        f"{filename} from {_shown(source)} is not the file this version of gmi was checked with "
                        f"(SHA-256 {digest}, expected {sha256}): nothing of it was kept; get it from another index."
                    )
                return folder / filename
    raise GmiError(
        f"{filename} was not found in {', '.join(tried) or 'any place, for pip is set to use none'}: check the network "
        "and pip's settings (python -m pip config list), or put that file into a folder and set PIP_FIND_LINKS to it."
    )


def _find(page: str, package: str, filename: str, session: requests.Session) -> str | None:
    """The URL or path of the file according to `page` (a folder, or a page of links); None if it lacks the file."""
    path = _local(page)
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


def _save(source: str, page: str, target: Path, session: requests.Session) -> str:
    """Copies `source`, which `page` lists, and returns its SHA-256 (hex). A broken transfer begins anew, twice."""
    for attempts_left in (2, 1, 0):
        digest = hashlib.sha256()
        try:
            with (
                _open(source, page, session) as (chunks, size),
                target.open("wb") as file,
                tqdm(desc=target.name, total=size, unit="B", unit_scale=True, disable=None) as progress,
            ):
                for chunk in chunks:
                    file.write(chunk)
                    digest.update(chunk)
                    progress.update(len(chunk))
            break
        except requests.exceptions.ChunkedEncodingError:
            if not attempts_left:
                raise
    return digest.hexdigest()


@contextmanager
def _open(source: str, page: str, session: requests.Session) -> Iterator[tuple[Iterable[bytes], int | None]]:
    """The bytes of `source` in chunks, and their number, None if it is unknown."""
    path = _local(source)
    if path is not None:
        with path.open("rb") as file:
            yield iter(lambda: file.read(_CHUNK), b""), path.stat().st_size
        return
    # an index's user and password are sent to its own host only
    login = get_auth_from_url(page) if urlsplit(page).hostname == urlsplit(source).hostname else ("", "")
    with session.get(source, stream=True, auth=login if any(login) else None) as response:
        response.raise_for_status()
        yield response.iter_content(_CHUNK), int(response.headers.get("Content-Length", 0)) or None


class _Adapter(HTTPAdapter):
    """Retries after transient errors, gives up after `timeout` seconds of silence, and applies pip's `verify`.

    verify: a CA bundle, or False for a trusted host; it takes precedence over the environment's, which requests would
    prefer. None: the environment's.
    """

    def __init__(self, timeout: float, verify: bool | str | None = None) -> None:
        self._timeout, self._verify = timeout, verify
        super().__init__(max_retries=Retry(total=3, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504)))

    def send(self, request, stream=False, timeout=None, verify=True, cert=None, proxies=None):
        verify = verify if self._verify is None else self._verify
        return super().send(request, stream, timeout or self._timeout, verify, cert, proxies)


def _session(settings: PipSettings) -> requests.Session:
    session = requests.Session()
    session.headers["Accept-Encoding"] = "identity"  # or a server may send a .tar.gz unpacked
    session.cert = settings.client_cert
    session.mount("https://", _Adapter(settings.timeout, settings.cert))
    session.mount("http://", _Adapter(settings.timeout))
    for host in settings.trusted_hosts:  # the hash vouches for the content, not the certificate
        for end in "/:":
            session.mount(f"https://{host}{end}", _Adapter(settings.timeout, verify=False))
    if settings.proxy:
        session.proxies = {"http": settings.proxy, "https": settings.proxy}
        session.trust_env = False  # like pip, use the configured proxy, not the environment's
    return session


def _local(address: str) -> Path | None:
    """The path that a file:// URL or a plain path means; None for a remote URL."""
    url = urlsplit(address)
    if url.scheme == "file":
        return Path(url2pathname(url.path))
    return None if url.scheme in ("http", "https") else Path(address).expanduser()


def _shown(address: str) -> str:
    """The URL without the user and password that an index's URL may carry."""
    url = urlsplit(address)
    return urlunsplit(url._replace(netloc=url.netloc.rpartition("@")[2]))
