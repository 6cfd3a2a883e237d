"""npm's registry: its settings are read as npm reads them, a token goes to its own place, wrong bytes are refused."""

import base64
import hashlib
import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gmi.assets import npm
from gmi.assets.archives import open_archive
from gmi.assets.npm import get_package, npm_settings
from gmi.errors import GmiError

pytestmark = pytest.mark.filterwarnings("error")

PUBLIC = npm._PUBLIC


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """npm, configured by nothing but what a test writes."""
    for key in [key for key in os.environ if key.lower().startswith("npm_config_")]:
        monkeypatch.delenv(key)
    for folder in ("home", "project", "prefix/etc"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("npm_config_prefix", str(tmp_path / "prefix"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "home"


class Registry:
    """A registry over loopback HTTP with one package, and what it was asked with which login."""

    def __init__(self) -> None:
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w:gz") as archive:
            member = tarfile.TarInfo("package/model/a.txt")
            member.size = 4
            archive.addfile(member, io.BytesIO(b"toys"))
        self.content, self.asked, self.tarball = content.getvalue(), list[tuple[str, str | None]](), ""
        self.sha256 = hashlib.sha256(self.content).hexdigest()
        self.url = ""

    def get(self, folder: Path, sha256: str | None = None) -> bytes:
        """The file of the package, fetched by its hash."""
        path = get_package("toy-faces", "1.0.0", "toy-faces-1.0.0.tgz", sha256 or self.sha256, folder)
        with open_archive(path) as archive:
            assert archive.names == ("model/a.txt",)
            return archive.read("model/a.txt")


@pytest.fixture
def registry() -> Iterator[Registry]:
    made = Registry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append((self.path, self.headers.get("Authorization")))
            answers = {
                "/npm/toy-faces/1.0.0": json.dumps({"dist": {"tarball": made.tarball}}).encode(),
                "/npm/toy-faces/-/toy-faces-1.0.0.tgz": made.content,
            }
            answer = answers.get(self.path)
            self.send_response(404 if answer is None else 200)
            self.send_header("Content-Length", str(len(answer or b"")))
            self.end_headers()
            self.wfile.write(answer or b"")

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        made.url = f"http://127.0.0.1:{server.server_port}/npm/"
        made.tarball = f"https://{PUBLIC}/toy-faces/-/toy-faces-1.0.0.tgz"
        yield made
        server.shutdown()
        thread.join()


def test_a_mirror_stands_for_the_public_registry(
    registry: Registry, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = registry.url.partition(":")[2]
    monkeypatch.setenv("TOY_TOKEN", "s3cret")
    (home / ".npmrc").write_text(f"registry = {registry.url}\n{place}:_authToken=${{TOY_TOKEN}}\n")
    assert registry.get(tmp_path) == b"toys"
    assert registry.asked == [
        ("/npm/toy-faces/1.0.0", "Bearer s3cret"),
        ("/npm/toy-faces/-/toy-faces-1.0.0.tgz", "Bearer s3cret"),
    ]


def test_a_login_is_sent_to_its_own_place_only(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("npm_config_registry", registry.url)
    host = registry.url.split("/")[2]
    for place, sent in (
        (f"//{host}/other/", None),
        ("//127.0.0.1/npm/", None),  # another port
        (f"//{host}/", "Basic YTpi"),
        (f"//{host}/npm/", "Basic YTpi"),
    ):
        monkeypatch.setenv(f"npm_config_{place}:_auth", "YTpi")
        registry.asked.clear()
        registry.get(tmp_path)
        assert {login for _, login in registry.asked} == {sent}, place
        monkeypatch.delenv(f"npm_config_{place}:_auth")
    registry.tarball = f"{registry.url.replace('127.0.0.1', 'localhost')}toy-faces/-/toy-faces-1.0.0.tgz"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("npm_config_registry", registry.url.replace("//", "//me:secret@"))
    registry.asked.clear()
    registry.get(tmp_path)
    assert [login for _, login in registry.asked] == ["Basic " + base64.b64encode(b"me:secret").decode(), None]


def test_other_bytes_are_refused(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", registry.url)
    with pytest.raises(GmiError, match="is not the file this version of gmi was checked with"):
        registry.get(tmp_path, "0" * 64)


@pytest.mark.parametrize("tarball", [None, "https://host.invalid/a.tgz", "http://127.0.0.1:1/a.tgz"])
def test_what_failed_is_told_without_logins(
    tarball: str | None, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = registry.url.replace("//", "//me:secret@")
    monkeypatch.setenv("npm_config_registry", url if tarball else url.replace("/npm/", "/none/"))
    monkeypatch.setattr(npm, "_connection", lambda *_: _Impatient())
    registry.tarball = tarball or ""
    with pytest.raises(GmiError, match="not found at") as error:
        registry.get(tmp_path)
    assert "secret" not in str(error.value) and error.value.__suppress_context__
    assert ("HTTP 404" if tarball is None else "ConnectionError") in str(error.value)


class _Impatient:
    """A connection without retries."""

    def session(self):
        import requests

        return requests.Session()


def test_settings_are_those_of_npm(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "prefix/etc/npmrc").write_text("registry=https://machine/\nproxy=http://machine:1\ncafile=/ca.pem\n")
    (home / ".npmrc").write_text(
        "; a comment\n# another\n[section]\nregistry = 'https://user/' ; ours\nstrict-ssl=false\n"
        "https-proxy=http://${TOY_USER}:${TOY_NOBODY}@p:2\ncafile=null\n"
    )
    (tmp_path / "project/package.json").write_text("{}")
    (tmp_path / "project/.npmrc").write_text('registry="https://project/"\nnoproxy=a.b\n')
    (tmp_path / "project/sub").mkdir()
    monkeypatch.chdir(tmp_path / "project/sub")
    monkeypatch.setenv("TOY_USER", "me")
    monkeypatch.setenv("NPM_CONFIG_STRICT_SSL", "true")
    settings = npm_settings()
    assert settings["registry"] == "https://project/" and settings["strict-ssl"] == "true"
    assert settings["https-proxy"] == "http://me:${TOY_NOBODY}@p:2" and settings["proxy"] == "http://machine:1"
    assert settings["cafile"] == "/ca.pem"
    monkeypatch.setenv("npm_config_userconfig", str(tmp_path / "none"))
    assert "https-proxy" not in npm_settings()


def test_proxies_and_certificates_are_npms(tmp_path: Path) -> None:
    registry = "https://host/npm"
    with pytest.raises(GmiError, match=r"npm's setting cafile names /ca\.pem, which is not there"):
        npm._connection({"cafile": "/ca.pem"}, registry)
    (tmp_path / "ca.pem").touch()
    file = str(tmp_path / "ca.pem")
    made = npm._connection({"proxy": "http://p", "cafile": file, "strict-ssl": "false"}, registry)
    assert (made.proxies, made.cert, made.trusted_hosts) == (
        {"http": "http://p", "https": "http://p"},
        file,
        ("host",),
    )
    assert npm._connection({"https-proxy": "http://s"}, registry).proxies == {"https": "http://s"}
    assert npm._connection({"https-proxy": "http://s", "noproxy": "host"}, registry).proxies == {}


@pytest.mark.parametrize(
    "which, tarball, expected",
    [
        ("npmjs", f"https://{PUBLIC}/a/-/a.tgz", "http://mirror/npm/a/-/a.tgz"),
        ("npmjs", "https://files/npm/a/-/a.tgz", "https://files/npm/a/-/a.tgz"),
        ("never", f"https://{PUBLIC}/a/-/a.tgz", f"https://{PUBLIC}/a/-/a.tgz"),
        ("always", "https://files/npm/a/-/a.tgz", "http://mirror/npm/a/-/a.tgz"),
        ("files", "https://files/a.tgz?b", "http://mirror/npm/a.tgz?b"),
    ],
)
def test_hosts_are_replaced_as_npm_does(which: str, tarball: str, expected: str) -> None:
    assert npm._moved(tarball, "http://mirror/npm", {"replace-registry-host": which}) == expected
