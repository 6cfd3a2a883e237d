"""One table of a user's mistakes: each ends in one sentence that says what to do, and leaves nothing behind."""

import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from gmi import cli
from gmi.priors.gan import Dcgan, DcganShape
from gmi.run import Run

BEN = "faces/ben/1.png"


def tiny(people: int, pixels: int = 256) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, people))


def scripted(people: int) -> nn.Module:
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # torch would rather export
        return torch.jit.freeze(torch.jit.trace(tiny(people).eval(), torch.zeros(1, 1, 16, 16)))


class Extra(nn.Sequential):
    """One that keeps more than tensors."""

    def get_extra_state(self) -> dict[str, int]:
        return {"version": 3}

    def set_extra_state(self, state: object) -> None: ...


def extra(people: int) -> nn.Module:
    return Extra(*tiny(people))


class Wrapped(nn.Module):
    """One that a deployment has wrapped."""

    def __init__(self, people: int) -> None:
        super().__init__()
        self.body = tiny(people)


class Pair(Wrapped):
    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.body(images), self.body(images).softmax(1)


class NoGrad(Wrapped):
    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.body(images)


class Inference(Wrapped):
    @torch.inference_mode()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.body(images)


class Cut(Wrapped):
    """Its gradient is there, and raises."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        middle = images.sigmoid()
        logits = self.body(middle)
        middle.zero_()
        return logits


@dataclass(frozen=True)
class Case:
    """A correct audit of three people, which each row of the table spoils."""

    folder: Path

    def build(self) -> "Case":
        noise = np.random.default_rng(0)
        for place in (f"faces/{name}/{number}.png" for name in ("ann", "ben", "cem") for number in range(3)):
            self.save(place, Image.fromarray(noise.integers(0, 256, (16, 16), np.uint8)))
        shape = {"type": "dcgan", "latent": 4, "channels": [4, 4], "size": 16, "colours": 1}
        self.write("prior/config.json", json.dumps(shape).encode())
        save_file(Dcgan(DcganShape(**shape)).state_dict(), self.folder / "prior" / "model.safetensors")
        target = {"factory": f"{__name__}:tiny", "input": {"size": [16, 16], "colour": "grey"}}
        tree = {
            "name": "toy",
            "data": {"name": "toy", "folder": str(self.folder / "faces"), "enrolment": 1},
            "target": target | {"arguments": {"people": 3}},
            "prior": {"type": "gan", "folder": str(self.folder / "prior")},
            "search": {"type": "gradient", "steps": 1},
            "selection": {"pool": 4, "candidates": 1, "views": 1},
            "judges": [{"type": "dlib"}],
            "perceptual": None,
            "classifier": None,
        }
        self.write("audit.yaml", yaml.safe_dump(tree).encode())
        self.weights(tiny(3).state_dict())
        return self

    def write(self, place: str, content: bytes) -> None:
        (self.folder / place).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / place).write_bytes(content)

    def save(self, place: str, image: Image.Image) -> None:
        self.write(place, b"")
        image.save(self.folder / place)

    def remove(self, *places: str) -> None:
        for place in places:
            path = self.folder / place
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def set(self, dotted: str, value: object) -> None:
        root = tree = yaml.safe_load((self.folder / "audit.yaml").read_text())
        *parents, last = dotted.split(".")
        for part in parents:
            tree = tree[part]
        tree[last] = value
        self.write("audit.yaml", yaml.safe_dump(root).encode())

    def weights(self, state: dict[str, torch.Tensor]) -> None:
        save_file(state, self.folder / "model.safetensors")
        self.set("target.weights", str(self.folder / "model.safetensors"))


def copied(case: Case) -> None:
    for number, name in enumerate(("ann", "ben", "cem")):
        case.save(f"others/{name}/new.png", Image.new("L", (16, 16), number))
    shutil.copy(case.folder / BEN, case.folder / "others" / "ben" / "mine.png")
    case.set("data.enrolment", str(case.folder / "others"))


def bomb(case: Case) -> None:
    """A header that promises 60000 x 60000 pixels."""
    case.save("faces/ben/1.bmp", Image.new("L", (8, 8)))
    content = (case.folder / "faces/ben/1.bmp").read_bytes()
    case.write("faces/ben/1.bmp", content[:18] + (60_000).to_bytes(4, "little") * 2 + content[26:])


def class_count(case: Case) -> None:
    case.weights(tiny(5).state_dict())
    case.set("target.arguments.people", 5)


def untrained(case: Case) -> None:
    case.set("training", {"type": "head", "part": "1"})
    case.remove("model.safetensors")


def pickled(case: Case) -> None:
    torch.save(tiny(3), case.folder / "model.pt")
    case.set("target.weights", str(case.folder / "model.pt"))


def resized_prior(case: Case) -> None:
    case.write("prior/config.json", (case.folder / "prior/config.json").read_bytes().replace(b"16", b"64"))


def nan(case: Case) -> None:
    case.weights({name: value * torch.nan for name, value in tiny(3).state_dict().items()})


def typed(dtype: torch.dtype, layout: torch.layout = torch.strided) -> Callable[[Case], None]:
    """Weights of another type, or sparse ones."""

    def spoil(case: Case) -> None:
        state = {name: value.to(dtype) for name, value in tiny(3).state_dict().items()}
        if layout == torch.sparse_coo:
            torch.save(state | {"1.weight": state["1.weight"].to_sparse()}, case.folder / "model.pt")
            case.set("target.weights", str(case.folder / "model.pt"))
        else:
            case.weights(state)

    return spoil


def network(name: str) -> Callable[[Case], None]:
    """Another network of this file, with its own weights."""

    def spoil(case: Case) -> None:
        case.remove("model.safetensors")
        case.set("target.weights", None)
        case.set("target.factory", f"{__name__}:{name}")

    return spoil


TWO = [{"type": "dlib"}, {"type": "facenet", "name": "dlib"}]
MISTAKES = {
    "no config": (lambda case: case.remove("audit.yaml"), "There is no file"),
    "broken config": (lambda case: case.write("audit.yaml", b"a: [1\nb: 2"), "cannot be read as a configuration"),
    "empty config": (lambda case: case.write("audit.yaml", b""), "holds no keys and values, such as name: mine"),
    "unknown key": (lambda case: case.set("search.stpes", 3), "there is no key search.stpes"),
    "wrong type": (lambda case: case.set("search.steps", "many"), "search.steps: input should be a valid integer"),
    "no faces": (lambda case: case.remove("faces"), "data.folder: there is no folder"),
    "a long path": (
        lambda case: case.set("data.folder", "x" * 300),
        "is no path that can be used (file name too long)",
    ),
    "a null byte": (lambda case: case.set("target.weights", "a\0b"), "'a\\x00b' is no path that can be used"),
    "a huge number": (lambda case: case.set("selection.pool", 2**70), "selection.pool: input should be less than"),
    "one person": (lambda case: case.remove("faces/ann", "faces/cem"), "one folder for each of two or more"),
    "no image": (lambda case: case.remove(*(f"faces/ben/{i}.png" for i in range(3))), "add some, or remove the folder"),
    "one image": (lambda case: case.remove(BEN, "faces/ben/2.png"), "needs 2 images or more"),
    "truncated": (lambda case: case.write(BEN, (case.folder / BEN).read_bytes()[:100]), "replace or remove it"),
    "unreadable": (lambda case: case.write(BEN, b"no image"), "1.png holds no image that can be read: replace or"),
    "damaged weights": (lambda case: case.write("model.safetensors", b"odd"), "it is damaged or of another kind"),
    "no shape": (lambda case: case.remove("prior/config.json"), "there is no config.json in it."),
    "half a shape": (lambda case: case.write("prior/config.json", b'{"type": "dcgan"}'), "config.json: latent: field"),
    "weights as prior": (lambda case: case.write("prior/model.safetensors", b""), "model.safetensors cannot be read"),
    "bomb": (bomb, "replace or remove it"),
    "sixteen bits": (lambda case: case.save(BEN, Image.new("I;16", (16, 16))), "convert it to grey (L)"),
    "another size": (lambda case: case.save(BEN, Image.new("L", (16, 20))), "set data.size"),
    "copied": (copied, "enrolment images must be others"),
    "too few people": (lambda case: case.set("data.attacked", 4), "has 3 people"),
    "not trained": (untrained, "yet: gmi train-target "),
    "no weights": (lambda case: case.remove("model.safetensors"), "There are no weights at"),
    "NaN": (nan, "holds NaN"),
    "pickle": (pickled, "save the state_dict with safetensors instead"),
    "misfit": (
        lambda case: case.weights(tiny(3, 64).state_dict()),
        "1.weight is 3x64 in the file and 3x256 in the network.",
    ),
    "fp8": (typed(torch.float8_e4m3fn), "1.bias is of type float8_e4m3fn, which needs a scale beside it"),
    "int8": (typed(torch.int8), "1.bias is of type int8 where the network has floating-point numbers"),
    "sparse": (typed(torch.float32, torch.sparse_coo), "1.weight is sparse: save it as a dense tensor"),
    "scripted": (network("scripted"), "cannot be frozen and read as tensors"),
    "extra state": (network("extra"), "cannot be frozen and read as tensors"),
    "a pair": (network("Pair"), "returns a tuple, where a tensor of logits is needed"),
    "no grad": (network("NoGrad"), "The target's outputs have no gradient"),
    "no grad, by scores": (
        lambda case: [
            network("NoGrad")(case),
            case.set("access", {"type": "scores"}),
            case.set("search", {"type": "genetic"}),
        ],
        "the oracle projection needs one: name a network in controls.guide, or set controls.oracle: false",
    ),
    "inference": (network("Inference"), "The target's outputs have no gradient"),
    "cut": (network("Cut"), "The target's gradient cannot be taken (in torch's words: one of the variables needed for"),
    "0 to 255": (
        lambda case: case.set("target.input", {"size": [16, 16], "colour": "grey", "mean": [127.5], "std": [128]}),
        "target.input: mean and std are of images in [0, 1], not of 0 to 255: write mean: [0.5] and std: [0.501961]",
    ),
    "no std": (
        lambda case: case.set("target.input", {"size": [16, 16], "colour": "grey", "std": [0.0]}),
        "target.input: std must not be 0",
    ),
    "class count": (class_count, "class count does not fit the data"),
    "input size": (lambda case: case.set("target.input.size", [20, 20]), "target.input"),
    "no factory": (lambda case: case.set("target.factory", "no_such_package:net"), "it reads 'module:callable'"),
    "arguments": (lambda case: case.set("target.arguments", {"persons": 3}), "does not take these arguments"),
    "no prior": (lambda case: case.remove("prior"), "There is no prior folder"),
    "prior type": (lambda case: case.write("prior/config.json", b'{"type": "biggan"}'), "is no prior folder"),
    "prior size": (resized_prior, "makes 16 px, not 64"),
    "another run": (
        lambda case: Run.open(case.folder / "out", {"configuration": {"seed": 7}}).write("split.json", b"{}"),
        "holds another run, and every run needs a folder of its own: choose another --out",
    ),
    "foreign files": (lambda case: case.write("out/thesis.txt", b"mine"), "choose another --out"),
    "foreign config": (lambda case: case.write("out/config.yaml", b"- mine"), "choose another --out"),
    "a file": (lambda case: case.write("out", b"mine"), "out is a file, and a run needs a folder"),
    "two judges": (
        lambda case: case.set("judges", [{"type": "dlib"}] * 2),
        "judges: dlib is named twice: take it once",
    ),
    "the recogniser's name": (
        lambda case: case.set("target", {"type": "templates", "recogniser": {"type": "dlib"}}),
        "judges: one is named dlib, as the recogniser that is audited: name them apart",
    ),
    "a judge's name": (lambda case: case.set("judges", TWO), "two are named dlib: give one of type facenet another"),
    "no module": (lambda case: case.set("target.factory", "torch"), "target.factory 'torch' names a module alone"),
    "no callable": (lambda case: case.set("target.factory", "torch:nets"), "has no attribute 'nets'"),
    "dependent judge": (lambda case: case.set("data.name", "FaceScrub"), "Take another judge"),
    "no GPU": (lambda case: None, "unset it to use the CPU"),
}


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def start(case: Case) -> None:
    cli.command(["audit", f"{case.folder}/audit.yaml", "--out", f"{case.folder}/out"])


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_ends_in_one_sentence_and_leaves_nothing(name, tmp_path, monkeypatch, capfd):
    spoil, words = MISTAKES[name]
    monkeypatch.chdir(tmp_path)
    if name == "no GPU":
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "cuda")
    case = Case(tmp_path).build()
    spoil(case)
    before = content(tmp_path)
    with pytest.raises(SystemExit) as stop:
        start(case)
    printed = capfd.readouterr()
    assert stop.value.code == 2 and printed.out == ""
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1 and words in printed.err
    assert content(tmp_path) == before


def test_the_case_that_the_table_spoils_is_correct(tmp_path, monkeypatch):
    case = Case(tmp_path).build()
    start(case)
    assert (tmp_path / "out" / "report.html").exists()
