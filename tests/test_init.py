"""`gmi init`: from nothing but paths a configuration that loads, and a sentence on what is still to be filled in."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from gmi.cli import command
from gmi.inversion import init
from gmi.inversion.plan import Audit
from gmi.priors.diffusion import Diffusion
from gmi.settings import read

PEOPLE = 3


def tiny(people: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(32, people))


@pytest.fixture
def own(tmp_path, monkeypatch) -> list[str]:
    """Photographs and a model in the working folder, and the options that name them."""
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0)
    for place in (f"{role}/{name}/{number}.png" for role in ("a", "b") for name in "xyz" for number in range(2)):
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (20, 16), np.uint8)).save(place)
    save_file(tiny(PEOPLE).state_dict(), "model.safetensors")
    return ["--people", "a", "--held-out", "b", "--model", "model.safetensors", "--factory", f"{__name__}:tiny"]


def failed(capsys, *words: str) -> str:
    """The one sentence of a command that fails."""
    with pytest.raises(SystemExit) as stop:
        command(["init", *words])
    printed = capsys.readouterr()
    assert stop.value.code == 2 and printed.out == "" and printed.err.count("\n") == 1
    return printed.err


def test_a_configuration_from_nothing_but_paths_loads(own, capsys):
    command(["init", *own])
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        "audit.yaml is written: 3 people with 6 training and 6 enrolment images, and weights that fit; still to be "
        "filled in: size, colour, mean and std in target.input, target.trained_on. 3 people are too few to conclude "
        "anything: take at least 10.",
        "Then: gmi audit audit.yaml --dry-run",
    ]
    plan = read("audit.yaml", Audit)
    assert (plan.data.folder, plan.data.enrolment, plan.data.size, plan.data.public) == ("a", "b", (20, 16), None)
    assert (plan.target.arguments, plan.target.weights) == ({"people": PEOPLE}, "model.safetensors")
    assert (plan.target.input.size, plan.target.input.colour) == ((20, 16), "grey")
    assert plan.prior == Diffusion(folder="priors/flow48", steps=10)
    assert [judge.type for judge in plan.judges] == ["dlib", "mobilefacenet"]


def test_a_configuration_of_objects_says_what_they_need(own, capsys):
    command(["init", *own, "--subject", "objects"])
    printed = capsys.readouterr().out
    assert "3 classes with 6 training and 6 enrolment images" in printed
    assert "still to be filled in: prior.folder, judges, size, colour" in printed
    plan, text = read("audit.yaml", Audit), Path("audit.yaml").read_text()
    assert plan.data.subject == "objects" and [judge.type for judge in plan.judges] == ["trained"]
    assert (
        plan.search.views.flip is False
        and "# The classes behind the model" in text
        and "folder: a\n" in text.replace('"', "")
    )


def test_every_block_is_explained(own):
    command(["init", "new", *own])
    lines = Path("new/audit.yaml").read_text("utf-8").splitlines()
    blocks = [number for number, line in enumerate(lines) if line[:1].isalpha()]
    assert {lines[number].partition(":")[0] for number in blocks} >= {"data", "target", "prior", "access", "judges"}
    assert all(lines[number - 1][:1] == "#" for number in blocks if not lines[number].startswith(("name", "selection")))
    assert all(len(line) <= 120 for line in lines)


def test_what_was_not_said_is_to_be_filled_in(own, capsys):
    command(["init", "--people", "a", "--public", "b"])
    printed = capsys.readouterr().out
    for words in ("3 training and 3 enrolment images", "data.enrolment", "target.weights, target.factory, size"):
        assert words in printed
    tree = yaml.safe_load(Path("audit.yaml").read_text("utf-8"))
    expected = {"name": "", "subject": "faces", "folder": "a", "enrolment": 1, "size": [20, 16], "public": "b"}
    assert tree["data"] | {"name": ""} == expected


def test_what_does_not_load_is_said_with_an_exit_code(own, capsys):
    save_file(tiny(PEOPLE + 1).state_dict(), "odd.safetensors")
    shutil.copytree("b", "few")
    shutil.rmtree("few/y")
    shutil.copytree("b", "more/b")
    shutil.copytree("a", "more/a")
    for name, words, sentence in (
        (
            "a",
            ["--model", "odd.safetensors"],
            "odd.safetensors does not fit Sequential: 3.weight is 4x32 in the",
        ),
        ("b", ["--held-out", "few"], "data.folder has a folder of y and few has none: both must hold the same people."),
        ("c", ["--people", "few"], "b has a folder of y and data.folder has none: both must hold the same people."),
        ("d", ["--people", "more"], "data.folder has a folder of a and b has none: both must hold the same people."),
    ):
        printed = failed(capsys, *own, *words, "--out", f"{name}.yaml")
        assert f"error: {name}.yaml is written, but as it is it does not load: {sentence}" in printed
        assert Path(f"{name}.yaml").exists()


def test_a_model_in_a_torch_file_loads(own, capsys):
    torch.save(tiny(PEOPLE).state_dict(), "model.pt")
    command(["init", *own, "--model", "model.pt"])
    assert "and weights that fit" in capsys.readouterr().out


def test_a_mistake_writes_nothing(own, capsys):
    before = sorted(Path().rglob("*"))
    for words, sentence in (
        ([], "--people is missing: the images"),
        (["--people", "c"], "--people: there is no folder c"),
        (["--people", "a/x"], "has folders of 0 people"),
        (["--people", "a", "--held-out", "c"], "--held-out: there is no folder c"),
        (["--people", "a", "--public", "c"], "--public: there is no folder c"),
        (["--people", "a", "--model", "c"], "There are no weights at c"),
        (["--people", "a", "--factory", "c"], "names a module alone: write it as module:name"),
        (["--peple", "a"], "unrecognized arguments: --peple"),
    ):
        assert sentence in failed(capsys, *words)
    assert sorted(Path().rglob("*")) == before


def test_nothing_is_overwritten(own, capsys):
    Path("audit.yaml").write_text("mine")
    assert "audit.yaml is there already" in failed(capsys, *own)
    assert Path("audit.yaml").read_text() == "mine"
    command(["init", *own, "--out", "other.yaml"])
    assert Path("other.yaml").exists()


def test_a_terminal_is_asked_for_what_is_missing(own, capsys, monkeypatch):
    answers = iter(["b", "", "model.safetensors", f"{__name__}:tiny"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: next(answers))
    command(["init", "--people", "a"])
    assert "and weights that fit" in capsys.readouterr().out
    assert read("audit.yaml", Audit).data.enrolment == "b"


@pytest.mark.parametrize(
    ("factory", "arguments"),
    [
        ("torchvision.models:resnet18", {"num_classes": 5}),
        ("builtins:dict", {}),
        (f"{__name__}:tiny", {"people": 5}),
        ("torch.nn:Sequential", {}),
    ],
)
def test_the_number_of_people_is_an_argument_of_the_factory(factory, arguments):
    assert init._arguments(factory, 5) == arguments


@pytest.mark.parametrize("there", [True, False])
def test_a_model_that_sees_colour_gets_a_prior_in_colour_where_there_is_one(own, monkeypatch, there: bool):
    noise = np.random.default_rng(0)
    for place in Path().glob("[ab]/*/*.png"):
        Image.fromarray(noise.integers(0, 256, (20, 16, 3), np.uint8)).save(place)
    monkeypatch.setattr(init, "resolve", lambda place: Path() if there else Path("nowhere"))
    text = init.configuration(Path("audit.yaml"), "a", "b")
    assert yaml.safe_load(text)["prior"]["folder"] == ("priors/flow64" if there else "priors/flow48")
    assert yaml.safe_load(text)["target"]["input"]["colour"] == "rgb"


def test_photographs_of_several_sizes_set_no_size_by_the_first(own, capsys):
    Image.fromarray(np.zeros((900, 1200), np.uint8)).save("a/x/0.png")
    command(["init", *own])
    text = Path("audit.yaml").read_text("utf-8")
    assert text.count("size: [224, 224]") == 2 and "CHECK, as photographs are large or of several sizes" in text
    assert "weights that fit" in capsys.readouterr().out


def test_a_factory_of_many_models_is_told_which_one(own, capsys, monkeypatch):
    monkeypatch.setattr(init, "find_factory", lambda name: tiny)
    command(["init", *own[:-1], "timm:create_model"])
    assert "still to be filled in: target.arguments, size," in capsys.readouterr().out
    assert read("audit.yaml", Audit).target.arguments == {"model_name": "CHECK", "num_classes": PEOPLE}
