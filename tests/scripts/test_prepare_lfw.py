"""The layout of LFW that the benchmark's configurations expect, from a folder and from what scikit-learn returns."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from gmi.errors import GmiError
from scripts import prepare_lfw

COUNTS = {"ann": 31, "ben": 20, "cid": 19, "dot": 5, "eve": 4}


@pytest.fixture(autouse=True)
def two_people(monkeypatch):
    monkeypatch.setattr(prepare_lfw, "PEOPLE", 2)


def laid_out(out: Path) -> dict[str, int]:
    return {str(one.relative_to(out)): len(list(one.iterdir())) for one in sorted(out.glob("*/*"))}


def test_of_a_folder_many_images_make_a_person_and_few_a_stranger(tmp_path, capsys):
    for name, count in COUNTS.items():
        (tmp_path / "lfw" / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (50, 60), (number, 0, 0)).save(tmp_path / "lfw" / name / f"{number:02d}.png")
    prepare_lfw.main(["--folder", str(tmp_path / "lfw"), "--out", str(tmp_path / "out")])
    assert laid_out(tmp_path / "out") == {
        "others/eve": 1,
        "people/ann": 30,
        "people/ben": 20,
        "strangers/cid": 19,
        "strangers/dot": 5,
    }
    with Image.open(tmp_path / "out" / "people" / "ann" / "000.png") as image:
        assert (image.mode, image.size) == ("L", (112, 112))
    assert "2 people, 2 strangers, 1 others" in capsys.readouterr().out
    with pytest.raises(GmiError, match="exists: remove it"):
        prepare_lfw.main(["--folder", str(tmp_path / "lfw"), "--out", str(tmp_path / "out")])
    (tmp_path / "lfw" / "dot" / "03.png").write_bytes(b"no image")
    with pytest.raises(GmiError, match=r"03\.png cannot be read as an image"):
        prepare_lfw.main(["--folder", str(tmp_path / "lfw"), "--out", str(tmp_path / "again")])
    assert sorted(one.name for one in tmp_path.iterdir()) == ["lfw", "out"]


def test_of_scikit_learns_arrays_each_image_lies_with_its_person(tmp_path, monkeypatch):
    counts = list(COUNTS.values())
    target = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    images = np.broadcast_to(target[:, None, None] / 10, (len(target), 125, 125)).astype(np.float32)
    asked = {}

    def fetch(**settings):
        asked.update(settings)
        return SimpleNamespace(images=images, target=target, target_names=np.array(list("abcde")))

    datasets = ModuleType("sklearn.datasets")
    datasets.fetch_lfw_people = fetch  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "sklearn", ModuleType("sklearn"))
    monkeypatch.setitem(sys.modules, "sklearn.datasets", datasets)
    prepare_lfw.main(["--out", str(tmp_path / "out")])
    assert asked["min_faces_per_person"] == 1 and asked["resize"] is None
    assert list(laid_out(tmp_path / "out").values()) == [1, 30, 20, 19, 5]
    for path in (tmp_path / "out").glob("*/*/*.png"):
        assert np.asarray(Image.open(path)).mean() == pytest.approx(round(int(path.parent.name) * 25.5), abs=1)


def test_too_few_people_leave_nothing_behind(tmp_path):
    for name in "ab":
        (tmp_path / "lfw" / name).mkdir(parents=True)
        Image.new("L", (20, 20)).save(tmp_path / "lfw" / name / "0.png")
    with pytest.raises(GmiError, match="needs 2 people with 20 images and others with 5"):
        prepare_lfw.main(["--folder", str(tmp_path / "lfw"), "--out", str(tmp_path / "out")])
    assert [one.name for one in tmp_path.iterdir()] == ["lfw"]
