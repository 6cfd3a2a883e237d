"""Files: private whatever the umask, put in place whole, and none that starts a program or stops with a traceback."""

import io
import os
import sqlite3
import struct
import subprocess
import sys
import tarfile
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from gmi import cli, toy
from gmi.assets.archives import open_archive, pip_settings
from gmi.audits import Hardware, conduct
from gmi.data import images
from gmi.errors import GmiError
from gmi.files import put
from gmi.inversion.audit import INVERSION
from gmi.oracles.access import ScoresOnly
from gmi.oracles.ledger import Ledger
from gmi.search.gradient import Gradient
from gmi.search.selection import Selection

pytestmark = pytest.mark.usefixtures("one_thread")


def drawn(kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (16, 16)).save(content, kind, **options)
    return content.getvalue()


@pytest.mark.parametrize("kind", ["EPS", "GIF", "ICO", "PDF", "PCX", "SGI", "TGA", "JPEG2000"])
def test_a_file_is_what_its_content_is_and_few_formats_are_read(tmp_path, kind):
    path = tmp_path / "a.jpg"
    path.write_bytes(drawn(kind))
    with pytest.raises(GmiError, match="holds no image that can be read"):
        images.read([path], [0], None)


@pytest.mark.parametrize("kind", ["BMP", "JPEG", "MPO", "PNG", "PPM", "TIFF", "WEBP"])
def test_photographs_are_read_by_whatever_name(tmp_path, kind):
    path = tmp_path / "a.jpg"
    more = {"save_all": True, "append_images": [Image.new("RGB", (16, 16))]} if kind == "MPO" else {}
    path.write_bytes(drawn(kind, **more))
    assert images.read([path], [0], None).bytes.shape == (1, 3, 16, 16)


def test_all_of_a_run_is_its_users_alone_whatever_the_umask(tmp_path):
    plan = replace(toy.plan(), search=Gradient(steps=2), selection=Selection(pool=8, candidates=1, views=2, keep=1))
    before = os.umask(0)
    try:
        conduct(INVERSION, plan, tmp_path / "runs" / "toy", Hardware(torch.device("cpu")), toy.inputs(6, 1.0, 0))
    finally:
        os.umask(before)
    modes = {path: path.stat().st_mode & 0o777 for path in (tmp_path / "runs").rglob("*")}
    assert len(modes) > 10
    assert {path for path, mode in modes.items() if mode != (0o700 if path.is_dir() else 0o600)} == set()


def test_a_ledger_of_an_interface_is_its_users_alone(tmp_path):
    before = os.umask(0)
    try:
        oracle = ScoresOnly().open(toy.target(toy.people(4, 0).training, 1.0, 0), tmp_path / "a" / "b")
        oracle.scores(torch.zeros(1, 1, 16, 16))
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "a").rglob("*")} == {0}


def test_a_damaged_ledger_is_told_in_one_sentence(tmp_path):
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    ledger.charge([b"a" * 32], [0])
    ledger._file.close()
    path.write_bytes(b"no ledger" * 1000)
    for leftover in tmp_path.glob("ledger.sqlite-*"):
        leftover.unlink()
    with pytest.raises(GmiError, match=r"ledger\.sqlite cannot be used \(file is not a database\): see to its disk"):
        Ledger(path)


def test_a_ledger_whose_table_is_gone_is_told_in_one_sentence(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    with sqlite3.connect(tmp_path / "ledger.sqlite") as other:
        other.execute("DROP TABLE images")
    for work in (lambda: ledger.total, lambda: ledger.by("step"), lambda: ledger.answers([b"a"])):
        with pytest.raises(GmiError, match="cannot be used"):
            work()


def test_nothing_half_written_is_left(tmp_path, monkeypatch):
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    put(tmp_path / "a" / "file", "first")
    monkeypatch.setattr(
        "gmi.files.os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(GmiError, match=r"file cannot be written \(no space left on device\): make room"):
        put(tmp_path / "a" / "file", "second")
    assert [path.read_text() for path in (tmp_path / "a").iterdir()] == ["first"]


FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
from gmi import cli
cli.command(sys.argv[2:])
"""


def full(size: int, *words: str) -> subprocess.CompletedProcess:
    """A command of the console whose files can have no more than this many bytes, as if the disk were full."""
    command = [sys.executable, "-c", FULL, str(size), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=200)


def told(done: subprocess.CompletedProcess) -> str:
    """Its one sentence."""
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2 and len(said) == 1 and "Traceback" not in done.stderr, done.stderr
    return said[0]


def attributes(folder: Path) -> Path:
    rows = ["age,ill,pays", *(f"{20 + n % 50},{('no', 'yes')[n % 3 == 0]},{('no', 'yes')[n % 2]}" for n in range(400))]
    (folder / "people.csv").write_text("\n".join(rows) + "\n")
    table = {"name": "toy", "file": str(folder / "people.csv"), "sensitive": "ill", "outcome": "pays"}
    tree = {
        "name": "toy",
        "data": table | {"numbers": ["age"], "training": 100, "public": 100},
        "target": {"type": "tree"},
    }
    path = folder / "attributes.yaml"
    path.write_text(yaml.safe_dump(tree | {"attacks": [{"type": "csmia"}], "attacked": 50}))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 100, 3000, 8000, 20_000])
def test_a_full_disk_ends_an_audit_with_one_sentence_and_it_goes_on_when_there_is_room(tmp_path, size):
    config = attributes(tmp_path)
    assert "make room" in told(full(size, "attributes", str(config), "--out", str(tmp_path / "run")))
    assert full(2**30, "attributes", str(config), "--out", str(tmp_path / "run")).returncode == 0
    assert (tmp_path / "run" / "attributes.html").is_file()


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(30, "Read-only file system")])
def test_a_folder_that_is_read_only_is_told_in_one_sentence(tmp_path, monkeypatch, error):
    def closed(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("gmi.files.NamedTemporaryFile", closed)  # root may write everywhere
    with pytest.raises(
        GmiError, match=r"file cannot be written \((permission denied|read-only file system)\): make room"
    ):
        put(tmp_path / "a" / "file", "x")


def test_what_no_border_tells_is_one_sentence_too(capsys):
    def work(_: object) -> None:
        raise OSError(30, "Read-only file system", "runs/\x1b[31mred")

    with pytest.raises(SystemExit) as ended:
        cli.run(work, [])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: runs/\\x1b[31mred: read-only file system. Mend that, and run")


def test_an_image_that_would_fill_the_memory_is_refused(tmp_path):
    """A few kilobytes that say they are 100 million pixels: the memory is not even asked for."""
    whole = drawn("PNG")
    size = struct.pack(">II", 10_000, 10_000)
    head = whole[12:16] + size + whole[24:29]
    path = tmp_path / "a.png"
    path.write_bytes(whole[:12] + head + struct.pack(">I", zlib.crc32(head)) + whole[33:])
    with pytest.raises(GmiError, match=r"a\.png cannot be read as an image \(Image size \(100000000 pixels\)"):
        images.read([path], [0], None)


def test_an_archive_chooses_no_name_and_brings_no_link(tmp_path):
    def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size = kind, target, 3 if kind == tarfile.REGTYPE else 0
        return info

    with tarfile.open(tmp_path / "a.tgz", "w:gz") as tar:
        for info in (
            member("top/fine.txt"),
            member("top/../../evil.txt"),
            member("/etc/evil.txt"),
            member("top/link", tarfile.SYMTYPE, "/etc/passwd"),
            member("top/hard", tarfile.LNKTYPE, "top/fine.txt"),
            member("top/pipe", tarfile.FIFOTYPE),
        ):
            tar.addfile(info, io.BytesIO(b"abc"))
    before = {*tmp_path.rglob("*"), *tmp_path.parent.glob("evil*")}
    with open_archive(tmp_path / "a.tgz") as archive:
        assert archive.read("fine.txt") == b"abc"
        assert not {"link", "hard", "pipe"}.intersection(archive.names)
    assert {*tmp_path.rglob("*"), *tmp_path.parent.glob("evil*")} == before and not Path("/etc/evil.txt").exists()


def test_a_file_named_pip_in_the_working_folder_is_not_run(tmp_path, monkeypatch):
    (tmp_path / "pip.py").write_text("open('was_run', 'w')")
    monkeypatch.chdir(tmp_path)
    pip_settings()
    assert not (tmp_path / "was_run").exists()
