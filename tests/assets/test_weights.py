"""Weights from files: prefixes of wrappers, and names that do not fit."""

from zipfile import ZipFile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gmi.assets.weights import contents, load_weights, read_weights
from gmi.errors import GmiError
from gmi.judges.face import Dlib, FaceNet
from gmi.judges.own import OnnxRecogniser
from gmi.search.guided import Guided
from gmi.search.solve import Solve
from gmi.search.strangers import digests
from gmi.search.surrogate import Surrogate
from gmi.targets.module import ModuleTarget
from gmi.training.targets import Head
from gmi.views import Input


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_the_prefix_of_a_wrapper_is_left_out_and_said(tmp_path, capsys, prefix: str) -> None:
    saved, file = network(), tmp_path / "model.safetensors"
    save_file({f"{prefix}{name}": value for name, value in saved.state_dict().items()}, file)
    module = network()
    load_weights(module, file)
    assert all(value.equal(module.state_dict()[name]) for name, value in saved.state_dict().items())
    said = capsys.readouterr().err
    assert said.count("\n") == prefix.count(".") and "of all names is left out" in said


def test_a_prefix_that_is_the_networks_own_stays(tmp_path, capsys) -> None:
    module = nn.ModuleDict({"module": network()})
    save_file(module.state_dict(), tmp_path / "model.safetensors")
    load_weights(module, tmp_path / "model.safetensors")
    assert capsys.readouterr().err == ""


def test_of_a_checkpoint_its_only_state_dict_is_taken(tmp_path, capsys) -> None:
    """As trainings save them: with the optimiser's state, which holds tensors at another depth."""
    saved, file = network(), tmp_path / "checkpoint.pt"
    optimiser = torch.optim.AdamW(saved.parameters())
    saved(torch.randn(4, 3)).sum().backward()
    optimiser.step()
    state = {f"model.{name}": value for name, value in saved.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state, "optimizer": optimiser.state_dict(), "empty": {}}, file)
    module = network()
    load_weights(module, file)
    assert all(value.equal(module.state_dict()[name]) for name, value in saved.state_dict().items())
    assert "is a checkpoint: its state_dict is taken" in capsys.readouterr().err
    torch.save({"model": saved.state_dict(), "ema": saved.state_dict()}, file)
    with pytest.raises(GmiError, match=r"holds several state_dicts \(model, ema\)"):
        load_weights(module, file)
    torch.save({"epoch": 3, "optimizer": optimiser.state_dict()}, file)
    with pytest.raises(GmiError, match="is no state_dict"):
        load_weights(module, file)


def test_a_prefix_that_some_of_the_networks_own_names_have_stays(tmp_path) -> None:
    module = nn.ModuleDict({"model": network(), "fc": nn.Linear(2, 2)})
    save_file({f"model.{name}": value for name, value in network().state_dict().items()}, tmp_path / "w.safetensors")
    with pytest.raises(GmiError, match=r"the file has no fc\.weight"):
        load_weights(module, tmp_path / "w.safetensors")


def test_a_prefix_of_some_names_is_a_misfit(tmp_path) -> None:
    state = {f"module.{name}" if "weight" in name else name: value for name, value in network().state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(GmiError, match=r"the file has no 0\.weight"):
        load_weights(network(), tmp_path / "model.safetensors")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_read_as_the_networks(tmp_path, dtype: torch.dtype) -> None:
    state = {
        name: value.to(dtype) if value.is_floating_point() else value for name, value in network().state_dict().items()
    }
    save_file(state, tmp_path / "model.safetensors")
    module = network()
    load_weights(module, tmp_path / "model.safetensors")
    assert module[0].weight.dtype == torch.float32 and module[0].weight.to(dtype).equal(state["0.weight"])


def big() -> torch.Tensor:
    """A tensor of a few bytes that says it holds a trillion numbers."""
    return torch.zeros(1).expand(10**12)


ODD = {
    "numbers for names": ({1: torch.zeros(2, 2)}, "is no state_dict"),
    "no values": (
        {"weight": torch.zeros(2, 2, device="meta"), "bias": torch.zeros(2)},
        "weight has a shape and no values",
    ),
    "a sparse one": ({"weight": torch.eye(2).to_sparse(), "bias": torch.zeros(2)}, "weight is sparse"),
    "eight bits": (
        {"weight": torch.zeros(2, 2).to(torch.float8_e4m3fn), "bias": torch.zeros(2)},
        "needs a scale beside it",
    ),
    "a trillion": (
        {"weight": big(), "bias": torch.zeros(2)},
        "does not fit Linear: weight is 1000000000000 in the file",
    ),
    "nothing": ({}, "does not fit Linear: the file has no weight"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_tensors_are_refused_in_one_sentence(tmp_path, name: str) -> None:
    state, words = ODD[name]
    torch.save(state, tmp_path / "odd.pt")
    with pytest.raises(GmiError, match=words):
        load_weights(torch.nn.Linear(2, 2), tmp_path / "odd.pt")


@pytest.mark.parametrize("keep", [0, 10, 100, 400])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_damaged_files_are_refused_in_one_sentence(tmp_path, suffix: str, keep: int) -> None:
    path = tmp_path / f"damaged{suffix}"
    (torch.save if suffix == ".pt" else save_file)(torch.nn.Linear(20, 20).state_dict(), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(GmiError, match="cannot be read as weights"):
        load_weights(torch.nn.Linear(20, 20), path)


def test_what_settings_name_is_known_by_its_content(tmp_path) -> None:
    """Judges, an adversary's copy and a student, at any depth: a file that is replaced is another; assets are not."""
    (tmp_path / "dlib").mkdir()
    judges = [Dlib(weights=str(tmp_path / "dlib")), FaceNet()]
    own = OnnxRecogniser(file=str(tmp_path / "own.onnx"), input=Input(size=(8, 8)), trained_on=frozenset({"faces"}))
    search = Solve(recogniser=own, through=FaceNet(), search=Guided(), questions=10)
    assert contents([judges, search, None]).keys() == {judges[0].weights}
    (tmp_path / "own.onnx").write_bytes(b"1")
    before = contents([judges, search])
    assert before.keys() == {judges[0].weights, own.file} and contents((search, judges)) == before
    (tmp_path / "own.onnx").write_bytes(b"2")
    (tmp_path / "dlib" / "model.dat").write_bytes(b"3")
    after = contents([judges, search])
    assert after.keys() == before.keys() and not set(after.values()) & set(before.values())
    backbone = tmp_path / "backbone.safetensors"
    backbone.write_bytes(b"4")
    student = ModuleTarget(factory="m:f", arguments={"people": 3, "backbone": str(backbone)}, input=Input(size=(8, 8)))
    taught = Surrogate(students=(student,), training=Head())
    assert contents(taught).keys() == {str(backbone)}
    assert digests([search]) == {own.file: after[own.file]}


def test_models_of_other_kinds_are_named_with_the_way_to_audit_them(tmp_path) -> None:
    script, onnx = tmp_path / "model.pt", tmp_path / "model.onnx"
    with ZipFile(script, "w") as archive:  # as torch.jit.save writes, which is deprecated
        for name in ("data.pkl", "code/__torch__/net.py", "constants.pkl"):
            archive.writestr(f"model/{name}", b"x")
    onnx.write_bytes(b"anything")
    for path, words in ((script, "is TorchScript.*export it to ONNX"), (onnx, r"take target: \{type: onnx, file: ")):
        with pytest.raises(GmiError, match=words):
            read_weights(path)
