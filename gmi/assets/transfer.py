"""Transfers of files from indexes and registries, over one kind of connection."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from urllib.request import url2pathname

import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.util import Retry

_CHUNK = 1 << 18  # bytes

Auth = tuple[str, str] | Callable[[requests.PreparedRequest], requests.PreparedRequest]
"""A user and a password, or what signs a request."""


@dataclass(frozen=True)
class Connection:
    """How hosts are reached."""

    proxies: Mapping[str, str] = field(default_factory=dict)  # by scheme; empty: those of the environment
    cert: str | None = None  # CA bundle; None: the environment's
    client_cert: str | None = None
    trusted_hosts: tuple[str, ...] = ()  # hosts whose certificate is not checked; a hash vouches for the content
    timeout: float = 15.0  # seconds without a byte

    def session(self) -> requests.Session:
        """A session that retries after transient errors."""
        session = requests.Session()
        session.headers["Accept-Encoding"] = "identity"  # or a server may send a .tar.gz unpacked
        session.cert = self.client_cert
        session.mount("https://", _Adapter(self.timeout, self.cert))
        session.mount("http://", _Adapter(self.timeout))
        for host in self.trusted_hosts:
            for end in "/:":
                session.mount(f"https://{host}{end}", _Adapter(self.timeout, verify=False))
        if self.proxies:
            session.proxies = dict(self.proxies)
            session.trust_env = False  # the configured proxies, not the environment's
        return session


def save(source: str, target: Path, session: requests.Session, auth: Auth | None = None) -> str:
    """Copies the URL or path `source` and returns its SHA-256 (hex). A broken transfer begins anew, twice."""
    for attempts_left in (2, 1, 0):
        digest = hashlib.sha256()
        try:
            with (
                _open(source, session, auth) as (chunks, size),
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


def local(address: str) -> Path | None:
    """The path that a file:// URL or a plain path means; None for a remote URL."""
    url = urlsplit(address)
    if url.scheme == "file":
        return Path(url2pathname(url.path))
    return None if url.scheme in ("http", "https") else Path(address).expanduser()


def shown(address: str) -> str:
    """The URL without the user and password that it may carry."""
    url = urlsplit(address)
    return urlunsplit(url._replace(netloc=url.netloc.rpartition("@")[2]))


def reason(error: Exception) -> str:
    """The HTTP status or the kind of error: its own text would show the user and password in the URL."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return f"HTTP {status}" if status else type(error).__name__


def mistaken(filename: str, source: str, digest: str, expected: str) -> str:
    """The sentence about a file whose SHA-256 (hex) is not the expected one."""
    return (
        f"{filename} from {shown(source)} is not the file this version of gmi was checked with (SHA-256 {digest}, "
        f"expected {expected}): nothing of it was kept; get it from another index."
    )


@contextmanager
def _open(source: str, session: requests.Session, auth: Auth | None) -> Iterator[tuple[Iterable[bytes], int | None]]:
    """The bytes of `source` in chunks, and their number, None if it is unknown."""
    path = local(source)
    if path is not None:
        with path.open("rb") as file:
            yield iter(lambda: file.read(_CHUNK), b""), path.stat().st_size
        return
    with session.get(source, stream=True, auth=auth) as response:
        response.raise_for_status()
        yield response.iter_content(_CHUNK), int(response.headers.get("Content-Length", 0)) or None


class _Adapter(HTTPAdapter):
    """Retries after transient errors, gives up after `timeout` seconds of silence, and checks by `verify`.

    verify: a CA bundle, or False for a trusted host; it takes precedence over the environment's, which requests would
    prefer. None: the environment's.
    """

    def __init__(self, timeout: float, verify: bool | str | None = None) -> None:
        self._timeout, self._verify = timeout, verify
        super().__init__(max_retries=Retry(total=3, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504)))

    def send(self, request, stream=False, timeout=None, verify=True, cert=None, proxies=None):
        verify = verify if self._verify is None else self._verify
        return super().send(request, stream, timeout or self._timeout, verify, cert, proxies)
