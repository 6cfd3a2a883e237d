"""Archives: found where pip would look for them, checked, opened, and never executed."""

import hashlib
import io
import os
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pypi_simple import PYPI_SIMPLE_ENDPOINT

from gmi.assets.archives import get_archive, open_archive, pip_settings
from gmi.errors import GmiError

pytestmark = pytest.mark.filterwarnings("error")

SDIST = "toy_faces-1.0.tar.gz"


@pytest.fixture(autouse=True)
def pip(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """pip, configured by nothing but what a test sets, and offline."""
    for key in [key for key in os.environ if key.startswith("PIP_")]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return monkeypatch


@pytest.fixture
def www(tmp_path: Path) -> Path:
    """An index (PEP 503) as a folder: `simple/` with one project's page, `files/` with its sdist."""
    page = tmp_path / "www" / "simple" / "toy-faces" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text(f'<a href="../../files/{SDIST}">{SDIST}</a>')
    files = tmp_path / "www" / "files"
    files.mkdir()
    with tarfile.open(files / SDIST, "w:gz") as sdist:
        for name, kind in (("toy_faces-1.0/setup.py", tarfile.REGTYPE), ("toy_faces-1.0/link", tarfile.SYMTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.size = kind, 4 * (kind == tarfile.REGTYPE)
            sdist.addfile(member, io.BytesIO(b"boom"))
    return tmp_path / "www"


@pytest.fixture
def server(www: Path) -> Iterator[tuple[str, list[str]]]:
    """The same index over loopback HTTP: its URL, and the paths asked for so far."""
    asked = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            if args[0] == self.requestline:  # not the line about an error, which follows
                asked.append(self.path)

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(www))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def get(www: Path, folder: Path) -> bytes:
    """Fetches the sdist by its right hash and returns what its setup.py holds."""
    folder.mkdir()
    digest = hashlib.sha256((www / "files" / SDIST).read_bytes()).hexdigest()
    with open_archive(get_archive("Toy.Faces", SDIST, digest, folder)) as archive:
        assert archive.names == ("setup.py",)  # plain files only, without the top folder
        return archive.read("setup.py")


def test_indexes_are_asked_in_pips_order(
    www: Path, tmp_path: Path, server: tuple[str, list[str]], pip: pytest.MonkeyPatch
) -> None:
    url, asked = server
    pip.delenv("PIP_NO_INDEX")
    pip.setenv("PIP_INDEX_URL", f"{url}/lacks-it")
    pip.setenv("PIP_EXTRA_INDEX_URL", f"{url}/simple/")
    assert get(www, tmp_path / "copy") == b"boom"
    assert asked == ["/lacks-it/toy-faces/", "/simple/toy-faces/", f"/files/{SDIST}"]


def test_a_remote_page_of_links_will_do(
    www: Path, tmp_path: Path, server: tuple[str, list[str]], pip: pytest.MonkeyPatch
) -> None:
    pip.setenv("PIP_FIND_LINKS", f"{server[0]}/simple/toy-faces/")
    assert get(www, tmp_path / "copy") == b"boom"


def test_local_places_come_first(www: Path, tmp_path: Path, pip: pytest.MonkeyPatch) -> None:
    pip.setenv("PIP_FIND_LINKS", f"https://host.invalid/links {www / 'files'}")
    assert get(www, tmp_path / "folder") == b"boom"
    pip.delenv("PIP_FIND_LINKS")
    pip.delenv("PIP_NO_INDEX")
    pip.setenv("PIP_INDEX_URL", "https://host.invalid/simple")
    pip.setenv("PIP_EXTRA_INDEX_URL", f"{(tmp_path / 'none').as_uri()} {(www / 'simple').as_uri()}")
    assert get(www, tmp_path / "index") == b"boom"


def test_what_was_tried_is_told_without_passwords(
    www: Path, tmp_path: Path, server: tuple[str, list[str]], pip: pytest.MonkeyPatch
) -> None:
    (www / "files" / SDIST).unlink()
    url = server[0]
    pip.delenv("PIP_NO_INDEX")
    pip.setenv("PIP_INDEX_URL", url.replace("//", "//me:secret@") + "/simple")
    pip.setenv("PIP_EXTRA_INDEX_URL", f"{url}/lacks-it")
    with pytest.raises(GmiError) as error:
        get_archive("Toy.Faces", SDIST, "", tmp_path)
    assert f"{url}/simple/toy-faces/ (HTTP 404), {url}/lacks-it/toy-faces/ (not there)" in str(error.value)
    assert "secret" not in str(error.value)


def test_no_place_to_look_is_told(tmp_path: Path) -> None:
    with pytest.raises(GmiError, match="pip is set to use none"):
        get_archive("Toy.Faces", SDIST, "", tmp_path)


def test_settings_are_those_of_pip(tmp_path: Path, pip: pytest.MonkeyPatch) -> None:
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://a/simple\ncert = /ca.pem\nfind-links = /wheels ~/more\nproxy = http://p:3128\n"
        "[install]\nextra-index-url =\n    https://b/simple\n    https://c/simple\ntrusted-host = a\n    b:8443\n"
    )
    pip.setenv("PIP_CONFIG_FILE", str(config))
    pip.setenv("PIP_INDEX_URL", "https://d/simple")
    pip.setenv("PIP_NO_INDEX", "0")
    pip.setenv("PIP_DEFAULT_TIMEOUT", "3")
    settings = pip_settings()
    assert settings.indexes == ("https://d/simple", "https://b/simple", "https://c/simple")
    assert (settings.proxy, settings.trusted_hosts, settings.timeout) == ("http://p:3128", ("a", "b:8443"), 3)
    assert (settings.find_links, settings.cert) == (("/wheels", "~/more"), "/ca.pem")


@pytest.mark.parametrize("python", [None, "false"], ids=["pip", "without pip"])
def test_by_default_the_public_index_is_used(python: str | None, pip: pytest.MonkeyPatch) -> None:
    pip.delenv("PIP_NO_INDEX")
    pip.setenv("PIP_EXTRA_INDEX_URL", "https://b/simple")
    if python:
        pip.setattr("sys.executable", python)
    assert pip_settings().indexes == (PYPI_SIMPLE_ENDPOINT, "https://b/simple")
