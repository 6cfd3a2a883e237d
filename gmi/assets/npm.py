"""Fetches a package by its exact version and SHA-256 from where npm would look for it; npm itself is not needed.

npm's own settings are read, so mirrors, proxies, private certificates and tokens work without a second configuration:
npm_config_* variables, then .npmrc of the project, of the user and of the machine. The archive is opened, never
installed: no script in it runs. Not read: `ca` (certificates within the configuration), npm's built-in configuration.
"""

import base64
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import requests
from requests.utils import get_auth_from_url, should_bypass_proxies

from gmi.assets.transfer import Auth, Connection, mistaken, reason, save, shown
from gmi.errors import GmiError

_PUBLIC = ".".join(("registry", "npmjs", "org"))  # in parts, because no file here may name the host of an index


def get_package(package: str, version: str, filename: str, sha256: str, folder: Path) -> Path:
    """The archive of `package` in that version, saved as `filename` in `folder` and checked against `sha256` (hex).

    Raises GmiError if the registry cannot be reached, lacks the version, or gives other bytes than the expected ones;
    OSError if `folder` cannot be written.
    """
    settings = npm_settings()
    registry = settings.get("registry", f"https://{_PUBLIC}/").rstrip("/")
    place = f"{registry}/{quote(package, safe='@')}/{version}"
    try:
        with _connection(settings, registry).session() as session:
            response = session.get(place, auth=_signature(settings, registry, place))
            response.raise_for_status()
            source = _moved(str(response.json()["dist"]["tarball"]), registry, settings)
            digest = save(source, folder / filename, session, _signature(settings, registry, source))
    except (requests.RequestException, KeyError, TypeError, ValueError) as error:
        raise GmiError(
            f"{package} {version} was not found at {shown(place)} ({reason(error)}): check the network and npm's "
            "settings (npm config list), such as registry, https-proxy and cafile in ~/.npmrc."
        ) from None  # the error's own text would show tokens of the URL
    if digest != sha256:
        raise GmiError(mistaken(filename, source, digest, sha256))
    return folder / filename


def npm_settings() -> dict[str, str]:
    """npm's settings by name; the environment wins over the project's .npmrc, this over the user's and the machine's.

    Names are as in .npmrc: https-proxy, //host/path/:_authToken.
    """
    environment = {}
    for name, value in os.environ.items():
        if value and name.lower().startswith("npm_config_"):
            key = name[len("npm_config_") :]
            environment[key if key.startswith("//") else re.sub("(?<!^)_", "-", key).lower()] = value
    project, user = _project() / ".npmrc", Path(environment.get("userconfig", "~/.npmrc")).expanduser()
    settings = _read(user) | (_read(project) if project != user else {}) | environment
    machine = settings.get("globalconfig") or str(Path(settings.get("prefix") or _prefix()) / "etc" / "npmrc")
    return _read(Path(machine).expanduser()) | settings


def _project() -> Path:
    """The folder of the project: the nearest, from the working folder upwards, with a package.json or node_modules."""
    here = Path.cwd()
    marks = ("package.json", "node_modules")
    return next((one for one in (here, *here.parents) if any((one / mark).exists() for mark in marks)), here)


def _prefix() -> Path:
    """The folder in which node is installed."""
    node = shutil.which("node")
    return Path("/usr/local") if node is None else Path(node).resolve().parent.parent


def _read(path: Path) -> dict[str, str]:
    """The settings of an .npmrc, with ${NAME} replaced by that variable; none if there is no such file."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    return dict(_pairs(lines))


def _pairs(lines: list[str]) -> Iterator[tuple[str, str]]:
    for line in map(str.strip, lines):
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals or line[0] in ";#[":
            continue
        quoted = re.fullmatch(r"""(["'])(.*)\1""", value)
        value = quoted[2] if quoted else re.split(r"\s[;#]", value)[0].strip()
        key, value = (
            re.sub(r"\$\{(\w+)\}", lambda name: os.environ.get(name[1], name[0]), text) for text in (key, value)
        )
        if value not in ("", "null"):
            yield key, value


def _connection(settings: Mapping[str, str], registry: str) -> Connection:
    plain, secure = settings.get("proxy"), settings.get("https-proxy") or settings.get("proxy")
    proxies = {scheme: proxy for scheme, proxy in (("http", plain), ("https", secure)) if proxy}
    direct = settings.get("noproxy", settings.get("no-proxy"))
    if "false" in proxies.values() or should_bypass_proxies(registry, direct):
        proxies = {}
    cafile, host = settings.get("cafile"), urlsplit(registry).hostname
    trusted = (host,) if host and settings.get("strict-ssl") == "false" else ()
    if cafile and not Path(cafile).expanduser().is_file():
        raise GmiError(f"npm's setting cafile names {cafile}, which is not there: correct it in ~/.npmrc.")
    return Connection(proxies, cafile and str(Path(cafile).expanduser()), trusted_hosts=trusted)


def _moved(tarball: str, registry: str, settings: Mapping[str, str]) -> str:
    """The archive's address, at the configured registry where it names the public one (npm's replace-registry-host)."""
    url, base, which = urlsplit(tarball), urlsplit(registry), settings.get("replace-registry-host", "npmjs")
    if which != "always" and url.hostname != (_PUBLIC if which == "npmjs" else which):
        return tarball
    path = url.path if url.path.startswith(f"{base.path}/") else base.path + url.path
    return urlunsplit(base._replace(path=path, query=url.query))


def _signature(settings: Mapping[str, str], registry: str, address: str) -> Auth | None:
    """What signs a request to `address`: the login of the longest //host/path/ above it; None if it has none.

    The user and password of the registry's own address are sent to its own host and port only.
    """
    url, base = urlsplit(address), urlsplit(registry)
    host = url.netloc.rpartition("@")[2]
    parts = url.path.strip("/").split("/")
    for depth in range(len(parts), -1, -1):
        place = "/".join([f"//{host}", *parts[:depth]])
        for where in (f"{place}/:", f"{place}:"):
            if login := _login(settings, where):
                return _header(login)
    if host == base.netloc.rpartition("@")[2] and any(own := get_auth_from_url(registry)):
        return own
    return None


def _login(settings: Mapping[str, str], where: str) -> str | None:
    """The Authorization header of a place `//host/path/:`."""
    if token := settings.get(f"{where}_authToken"):
        return f"Bearer {token}"
    pair = settings.get(f"{where}_auth")
    user, password = settings.get(f"{where}username"), settings.get(f"{where}_password")
    if user and password:
        pair = base64.b64encode(f"{user}:".encode() + base64.b64decode(password)).decode()
    return f"Basic {pair}" if pair else None


def _header(login: str) -> Auth:
    def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = login
        return request

    return sign
