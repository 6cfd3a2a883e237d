"""A run folder: resume does no work twice, another configuration is refused, and nothing is half-written."""

import stat
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from accelerate import debug_launcher
from accelerate.state import AcceleratorState

from gmi.cli import accelerator
from gmi.errors import GmiError
from gmi.rng import Rng, seed_of
from gmi.run import Run

CONFIG = {"steps": 3}
NAMES = ["a", "b", "c", "d", "e"]


def draw(names: list[str]) -> list[dict[str, torch.Tensor]]:
    return [{"value": Rng([seed_of(name)]).normal(3)} for name in names]


def test_a_killed_run_resumes_and_does_nothing_twice(tmp_path):
    done = []

    def compute(names):
        if names == ["c"] and "c" not in done:
            done.append("c")
            raise KeyboardInterrupt
        done.extend(names)
        return draw(names)

    run = Run.open(tmp_path / "run", CONFIG)
    with pytest.raises(KeyboardInterrupt):
        run.each(NAMES, compute, "work")
    found = Run.open(tmp_path / "run", CONFIG).each(NAMES, compute, "work")
    assert done == ["a", "b", "c", "c", "d", "e"]
    for name, one in zip(NAMES, found, strict=True):
        torch.testing.assert_close(one["value"], draw([name])[0]["value"], rtol=0, atol=0)
    assert not list((tmp_path / "run").rglob(".*"))


def test_groups_are_fixed_and_lose_nothing(tmp_path):
    seen = []

    def compute(names):
        seen.append(names)
        return draw(names)

    run = Run.open(tmp_path / "run", CONFIG)
    run.each(["c"], draw, "work")
    found = run.each(NAMES, compute, "work", group=2)
    assert seen == [["a", "b"], ["c", "d"], ["e"]]  # the group of c whole, though c was there
    assert [sorted(one) for one in found] == [["seconds", "value"]] * 5
    run.each(NAMES, compute, "work", group=2)
    assert len(seen) == 3


def test_pieces_are_read_one_by_one_when_they_are_asked_for(tmp_path):
    run = Run.open(tmp_path / "run", CONFIG)
    found = run.each(NAMES, draw, "work")
    next(found)
    (run.folder / "shards" / "b.safetensors").unlink()
    with pytest.raises(GmiError, match=r"b\.safetensors cannot be read"):
        next(found)


def test_what_is_finished_computes_nothing(tmp_path):
    run = Run.open(tmp_path / "run", CONFIG)
    run.each(NAMES[:2], draw, "work")
    finished = replace(run, finished=True)
    assert len([*finished.each(NAMES[:2], draw, "work")]) == 2
    with pytest.raises(GmiError, match="c is not among the pieces"):
        finished.each(NAMES, draw, "work")


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    run = Run.open(tmp_path / "run", CONFIG)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gmi.files.os.replace", full)
    with pytest.raises(GmiError, match=r"report\.json cannot be written \(no space left on device\): make room"):
        run.write("report.json", b"{}")
    assert {path.name for path in run.folder.iterdir()} == {"config.yaml"}


def test_a_run_that_did_nothing_makes_room_for_another(tmp_path):
    """Its command was refused after it had made the folder, say."""
    run = Run.open(tmp_path / "run", CONFIG)
    other = Run.open(tmp_path / "run", {"steps": 4})
    assert other.digest != run.digest and Run.open(tmp_path / "run", {"steps": 4}) == other
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.yaml").write_text("steps: 4")  # of something else
    with pytest.raises(GmiError, match="not empty"):
        Run.open(tmp_path / "mine", CONFIG)


def test_an_error_that_ends_a_run_is_kept_until_it_goes_on(tmp_path, monkeypatch):
    run = Run.open(tmp_path / "run", CONFIG)
    with pytest.raises(GmiError), run.logging_errors():
        try:
            raise ValueError("the cause")
        except ValueError as error:
            raise GmiError("one sentence") from error
    log = (tmp_path / "run" / "error.log").read_text()
    assert "ValueError: the cause" in log and log.endswith("GmiError: one sentence\n") and __file__ in log
    assert Run.open(tmp_path / "run", {"steps": 4}).digest != run.digest  # it is no work that would be lost
    with run.logging_errors():
        pass
    assert {path.name for path in run.folder.iterdir()} == {"config.yaml"}
    monkeypatch.setattr("gmi.files.os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(GmiError, match="the error itself"), run.logging_errors():
        raise GmiError("the error itself")


def audit(name: str = "a", gmi: str = "1", data: str = "d", **keys: object) -> dict:
    return {"configuration": {"name": name, "seed": 0} | keys, "inputs": {"gmi": gmi, "data": data}}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (audit(seed=1), "a run of another configuration (it differs in seed)"),
        (audit(seed=1, data="e"), "a run of another configuration (it differs in seed, the files of data)"),
        (audit(seed=1, gmi="2"), "a run that gmi 1 made, and this is gmi 2"),
        (audit("b", seed=1), "another run (a), and every run needs a folder of its own"),
        (audit(deep={"er": 1}), "another run (a), and every run needs a folder of its own"),
        (
            {"training": {"name": "a", "seed": 1}, "data": ["d"]},
            "another run (a), and every run needs a folder of its own",
        ),
    ],
)
def test_a_folder_of_another_run_is_refused(tmp_path, config, words):
    Run.open(tmp_path / "run", audit()).write("report.json", b"{}")
    with pytest.raises(GmiError) as caught:
        Run.open(tmp_path / "run", config)
    assert str(caught.value) == f"{tmp_path / 'run'} holds {words}: choose another --out, or remove it."


@pytest.mark.parametrize("inside", ["config: prod", "config:", "config: [1]", "config: {inputs: }", "config: {a: {}}"])
def test_a_foreign_file_of_the_same_name_stays(tmp_path, inside):
    (tmp_path / "config.yaml").write_text(f"digest: sha256:1\nname: mine\n{inside}\n")
    with pytest.raises(GmiError, match="is not empty and holds no run"):
        Run.open(tmp_path, CONFIG)
    assert "name: mine" in (tmp_path / "config.yaml").read_text()


@pytest.mark.parametrize("config", [{}, {"inputs": None}, {"configuration": None}, {"training": [1], "inputs": 3}])
def test_a_record_that_was_edited_is_refused(tmp_path, config):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"digest": "0" * 64, "begun": "now", "config": config}))
    (tmp_path / "shards").mkdir()
    with pytest.raises(GmiError, match="and every run needs a folder of its own"):
        Run.open(tmp_path, audit())


def test_foreign_folders_are_refused(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(GmiError, match="not empty"):
        Run.open(tmp_path / "other", CONFIG)
    with pytest.raises(GmiError, match=r"thesis\.txt is a file, and a run needs a folder: choose another --out\."):
        Run.open(tmp_path / "other" / "thesis.txt", CONFIG)
    with pytest.raises(GmiError, match=r"inside cannot be made a run folder \(not a directory\): choose another"):
        Run.open(tmp_path / "other" / "thesis.txt" / "inside", CONFIG)


def test_damaged_and_foreign_shards_are_refused(tmp_path):
    run = Run.open(tmp_path / "run", CONFIG)
    run.write("shards/a.safetensors", b"half")
    with pytest.raises(GmiError, match="cannot be read"):
        [*run.each(["a"], draw, "work")]
    Run.open(tmp_path / "two", {"steps": 9}).each(["b"], draw, "work")
    (tmp_path / "two" / "shards" / "b.safetensors").rename(run.folder / "shards" / "b.safetensors")
    with pytest.raises(GmiError, match="another run"):
        run.read("b")


def test_the_folder_is_private(tmp_path):
    run = Run.open(tmp_path / "run", CONFIG)
    assert stat.S_IMODE(run.folder.stat().st_mode) == 0o700


def two_processes(folder) -> None:
    AcceleratorState._reset_state(True)  # a forked process starts with its parent's idea of how many there are
    process = accelerator().process_index

    def compute(names):
        return [piece | {"process": torch.tensor(process)} for piece in draw(names)]

    Run.open(folder, CONFIG).each(NAMES, compute, "work")


def test_two_processes_find_what_one_finds(tmp_path):
    Run.open(tmp_path / "run", CONFIG)
    debug_launcher(two_processes, args=(tmp_path / "run",), num_processes=2)
    run = Run.open(tmp_path / "run", CONFIG)
    assert [int(run.read(name)["process"]) for name in NAMES] == [0, 1, 0, 1, 0]
    for name in NAMES:
        torch.testing.assert_close(run.read(name)["value"], draw([name])[0]["value"], rtol=0, atol=0)


def test_a_folder_that_another_process_makes_at_this_moment_is_its_run(tmp_path, monkeypatch):
    """Both open one empty folder, and the other is done while this one looks at it."""
    whole, listed = Path.iterdir, []

    def late(self):
        if not listed:
            listed.append(self)
            Run.open(tmp_path, {"a": 1})
        return whole(self)

    monkeypatch.setattr(Path, "iterdir", late)
    assert Run.open(tmp_path, {"a": 1}).folder == tmp_path and listed
