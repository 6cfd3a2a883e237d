"""Weights from files: prefixes of wrappers, and names that do not fit."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gmi.assets.weights import load_weights
from gmi.errors import GmiError


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
