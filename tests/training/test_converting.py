"""Published StyleGAN2s: small networks, written as their authors write them, make the same images once converted."""

import io
import json
import math
import pickle
import sys
import types
from argparse import Namespace
from collections import OrderedDict
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import repeats
from reference.stylegans import SHAPE, made
from torch import Tensor, nn

from gmi import cli
from gmi.assets import pickles
from gmi.errors import GmiError
from gmi.priors.stylegan import StyleGan, StyleGan3Shape, StyleGanPrior
from gmi.rng import Rng
from gmi.training import converting
from gmi.training.converting import convert


class Persistent:
    """A module as torch_utils.persistence pickles it: by a function's name, and a description with its source."""

    def __init__(self, module: nn.Module, source: str) -> None:
        buffers = OrderedDict(module._buffers)  # None among them
        filters = {name for name in buffers if name == "resample_filter"}
        buffers |= {name: torch.outer(buffers[name], buffers[name]) for name in filters}
        self.state = {
            "weight_gain": np.float64(0.3),  # settings of layers, as published files hold them
            "size": np.array([36, 36]),
            "_parameters": OrderedDict(module.named_parameters(recurse=False)),
            "_buffers": buffers,
            "_modules": OrderedDict((name, Persistent(part, source)) for name, part in module.named_children()),
            "training": False,
        }
        self.meta = {"type": "class", "version": 6, "module_src": source, "class_name": type(module).__name__}

    def __reduce__(self) -> Any:
        dnnlib, persistence = sys.modules["dnnlib.util"], sys.modules["torch_utils.persistence"]
        return persistence._reconstruct_persistent_obj, (dnnlib.EasyDict(self.meta | {"state": self.state}),)


@pytest.fixture
def publishers(monkeypatch):
    """The two modules whose names stand in published files; what they do here, nobody reads."""

    class EasyDict(dict):
        __module__ = "dnnlib.util"

    def _reconstruct_persistent_obj(meta: Any) -> None:
        raise AssertionError("the source in a file was about to be run")

    EasyDict.__qualname__ = "EasyDict"
    _reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    for name, part in (("dnnlib", None), ("dnnlib.util", EasyDict), ("torch_utils", None)):
        module = types.ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        if part is not None:
            module.EasyDict = part
    module = types.ModuleType("torch_utils.persistence")
    module._reconstruct_persistent_obj = _reconstruct_persistent_obj
    monkeypatch.setitem(sys.modules, "torch_utils.persistence", module)


SOURCE = "import os\nos.makedirs('RAN')\n"


def published(path: Path, network: nn.Module, **more: Any) -> Path:
    """As StyleGAN2-ADA writes its .pkl: networks by name, with their source."""
    tree = {"G": None, "D": None, "G_ema": Persistent(network, SOURCE.replace("RAN", str(path.parent / "ran")))}
    path.write_bytes(pickle.dumps(tree | more))
    return path


def checkpoint(path: Path, state: dict[str, Tensor]) -> Path:
    """As rosinality's training writes its .pt, from our names: its 3x3 weights are scaled when used."""
    levels = round(math.log2(SHAPE.size / 4))
    found: dict[str, Tensor] = {"input.input": state["synthesis.b4.const"][None]}
    for layer in range(SHAPE.layers):
        found |= {f"style.{layer + 1}.{part}": state[f"mapping.fc{layer}.{part}"] for part in ("weight", "bias")}

    def affine(theirs: str, ours: str) -> dict[str, Tensor]:
        return {f"{theirs}.conv.modulation.{part}": state[f"{ours}.affine.{part}"] for part in ("weight", "bias")}

    names = [("conv1", "b4.conv1")]
    names += [(f"convs.{2 * i + half}", f"b{8 * 2**i}.conv{half}") for i in range(levels) for half in range(2)]
    for number, (theirs, ours) in enumerate(names):
        weight = state[f"synthesis.{ours}.weight"]
        found[f"{theirs}.conv.weight"] = weight[None] * math.sqrt(weight[0].numel())
        found[f"{theirs}.activate.bias"] = state[f"synthesis.{ours}.bias"]
        found[f"{theirs}.noise.weight"] = state[f"synthesis.{ours}.noise_strength"][None]
        found[f"noises.noise_{number}"] = state[f"synthesis.{ours}.noise_const"][None, None]
        found |= affine(theirs, f"synthesis.{ours}")
    for theirs, size in [("to_rgb1", 4), *((f"to_rgbs.{i}", 8 * 2**i) for i in range(levels))]:
        found[f"{theirs}.conv.weight"] = state[f"synthesis.b{size}.torgb.weight"][None]
        found[f"{theirs}.bias"] = state[f"synthesis.b{size}.torgb.bias"].view(1, -1, 1, 1)
        found |= affine(theirs, f"synthesis.b{size}.torgb")
    args = Namespace(size=SHAPE.size, path="/somewhere")
    torch.save({"g_ema": found, "latent_avg": state["mapping.w_avg"], "args": args}, path)
    return path


@pytest.fixture
def licence(tmp_path) -> Path:
    (tmp_path / "terms.txt").write_text("For research only.")
    return tmp_path / "terms.txt"


@pytest.mark.parametrize("layout", repeats("ada", slow=("rosinality",)))
def test_a_converted_network_makes_the_same_images(tmp_path, publishers, licence, layout, capsys):
    prior = made()
    state = prior.network.state_dict()
    source = tmp_path / "network.pkl"
    published(source, prior.network) if layout == "ada" else checkpoint(source, state)
    cli.command(["convert-stylegan", str(source), str(tmp_path / "out" / "mine"), "--licence", str(licence)])
    folder = tmp_path / "out" / "mine"
    assert capsys.readouterr().out == f"{folder}\n"
    found = StyleGan(folder=str(folder)).load(torch.device("cpu"))
    latents = prior.sample(Rng(range(4)))
    torch.testing.assert_close(found.decode(latents), prior.decode(latents), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.sample(Rng([5])), prior.sample(Rng([5])))
    assert json.loads((folder / "config.json").read_text())["channels"] == [8, 7, 6]
    assert (folder / "LICENSE.txt").read_text() == "For research only." and "SHA-256" in (
        folder / "README.md"
    ).read_text()
    assert not (tmp_path / "ran").exists()  # the source in the file
    with pytest.raises(GmiError, match="is there already"):
        convert(source, folder, licence)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_settings_of_numpy_are_passed_over(tmp_path, publishers, protocol):
    network = Persistent(made().network, SOURCE)
    content = pickle.dumps({"G_ema": network}, protocol=protocol)
    old = content.replace(b"numpy._core", b"numpy.core")  # its name before numpy 2, where a name has no length
    for each in (content, old) if protocol < 4 else (content,):
        (tmp_path / "network.pkl").write_bytes(each)
        held, about = pickles.read(tmp_path / "network.pkl")
        assert about["layout"] == "ada" and "synthesis.b4.const" in held


@pytest.mark.parametrize("radial", repeats(False, slow=(True,)))
def test_a_converted_stylegan3_makes_the_same_images(tmp_path, publishers, licence, monkeypatch, radial):
    monkeypatch.setattr(converting, "_read", pickles.read)  # in this process, which is faster
    shape = StyleGan3Shape(
        latent=6, width=5, layers=2, channels=(8, 8, 7, 6, 6), size=16, colours=3, kernel=3 - 2 * radial, radial=radial
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = shape.build()
    source = published(tmp_path / "network.pkl", network)
    folder = convert(source, tmp_path / "out", licence)
    assert json.loads((folder / "config.json").read_text()) == asdict(shape) | {"channels": [8, 8, 7, 6, 6]}
    found = StyleGan(folder=str(folder), space="z").load(torch.device("cpu"))
    latents = found.sample(Rng(range(4)))
    kept = StyleGanPrior(network, shape, "z")
    torch.testing.assert_close(found.decode(latents), kept.decode(latents), rtol=0, atol=1e-5)
    assert "A StyleGAN3 at 16 px" in (folder / "README.md").read_text() and not (tmp_path / "ran").exists()
    down = next(part.down_filter for part in network.modules() if getattr(part, "down_filter", None) is not None)
    down *= 1.01
    with pytest.raises(GmiError, match=r"has another filter in synthesis\.L\d_\d+_\d\.down_filter"):
        convert(published(tmp_path / "network.pkl", network), tmp_path / "other", licence)


def test_another_implementations_checkpoint_is_the_same_network(tmp_path, licence, monkeypatch):
    monkeypatch.setattr(converting, "_read", pickles.read)  # in this process, which is faster
    prior = made()
    folder = convert(checkpoint(tmp_path / "network.pt", prior.network.state_dict()), tmp_path / "out", licence)
    found = StyleGan(folder=str(folder)).load(torch.device("cpu"))
    latents = prior.sample(Rng(range(4)))
    torch.testing.assert_close(found.decode(latents), prior.decode(latents), rtol=0, atol=1e-5)
    with torch.serialization.safe_globals([Namespace]):
        held = torch.load(tmp_path / "network.pt", weights_only=True)
    torch.save(held, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert pickles.read(tmp_path / "old.pt")[1] == {"layout": "rosinality"}
    del held["g_ema"]["noises.noise_0"]
    torch.save(held, tmp_path / "network.pt")
    with pytest.raises(GmiError, match=r"is no StyleGAN that gmi can convert \(KeyError 'noises\.noise_0'\)"):
        convert(tmp_path / "network.pt", tmp_path / "other", licence)


class Evil:
    def __reduce__(self) -> Any:
        return eval, ("__import__('os').makedirs('ran')",)


def pickled(path: Path, tree: object) -> Path:
    path.write_bytes(pickle.dumps(tree))
    return path


def in_torch(path: Path, tree: object) -> Path:
    torch.save(tree, path)
    return path


def raw(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


FILES = {
    "a name that runs": (lambda path: pickled(path, {"G_ema": Evil()}), "asks for builtins.eval, which is not among"),
    "the same in torch's format": (lambda path: in_torch(path, {"g_ema": Evil()}), "eval"),
    "another pickle": (lambda path: pickled(path, {"G": 3}), r"holds no averaged generator \(G_ema\)"),
    "another checkpoint": (lambda path: in_torch(path, {"g": {}}), r"holds no averaged generator \(g_ema\)"),
    "a list": (lambda path: pickled(path, [1]), "holds no averaged generator"),
    "no pickle": (lambda path: raw(path, b"odd"), None),
    "nothing": (lambda path: raw(path, b""), None),
}


@pytest.mark.parametrize("name", FILES)
def test_any_other_file_is_refused_and_runs_nothing(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write, words = FILES[name]
    with pytest.raises(Exception, match=words):
        pickles.read(write(tmp_path / "network.pkl"))
    assert {path.name for path in tmp_path.iterdir()} == {"network.pkl"}


@pytest.mark.parametrize("name", repeats("a name that runs", slow=("nothing",)))
def test_a_refusal_is_one_sentence_and_leaves_nothing(tmp_path, licence, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GmiError, match="cannot be converted: ") as refusal:
        convert(FILES[name][0](tmp_path / "network.pkl"), tmp_path / "out", licence)
    assert "\n" not in str(refusal.value)
    assert {path.name for path in tmp_path.iterdir()} == {"network.pkl", "terms.txt"}
    with pytest.raises(GmiError, match="There is no model at"):
        convert(tmp_path / "none.pkl", tmp_path / "out", licence)


def spoilt(network: nn.Module, kind: str) -> nn.Module:
    if kind == "filter":
        network.get_submodule("synthesis.b8.conv0").resample_filter = torch.tensor([1.0, 1.0, 0.0, 0.0]) / 2
    elif kind == "classes":
        network.mapping.embed = nn.Linear(2, 3)
    elif kind == "short filter":
        network.get_submodule("synthesis.b8.conv0").resample_filter = torch.ones(2) / 2
    elif kind == "no styles":
        del network.mapping.fc0
    elif kind == "no skips":
        del network.synthesis.b8.torgb
    return network


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("filter", "another filter than"),
        ("short filter", "is no StyleGAN that gmi can convert"),
        ("no styles", "is no StyleGAN that gmi can convert"),
        ("classes", "a network of classes"),
        ("no skips", "holds no StyleGAN2 whose colours are added up"),
    ],
)
def test_other_networks_are_refused(tmp_path, publishers, licence, monkeypatch, kind, words):
    monkeypatch.setattr(converting, "_read", pickles.read)  # in this process, which is faster
    with pytest.raises(GmiError, match=words):
        convert(published(tmp_path / "network.pkl", spoilt(made().network, kind)), tmp_path / "out", licence)
    assert not (tmp_path / "out").exists()


def test_a_storage_is_read_as_numbers_alone(publishers):
    """Storages carry a pickle of their own, which is read as torch reads weights."""
    content = pickle.dumps(torch.arange(6.0).view(2, 3).T)
    assert pickles.Reader(io.BytesIO(content)).load().tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    inner = pickle.dumps(Evil(), protocol=2)
    evil = b"\x80\x02ctorch.storage\n_load_from_bytes\nq\x00B" + len(inner).to_bytes(4, "little") + inner + b"\x85R."
    with pytest.raises(pickle.UnpicklingError):
        pickles.Reader(io.BytesIO(evil)).load()
