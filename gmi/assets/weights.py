"""Weights from files that hold only tensors."""

import hashlib
import pickle
import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from gmi.assets.catalogue import resolve
from gmi.errors import GmiError, because

PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
"""What DataParallel, torch.compile and Lightning's modules put before the names of a network's tensors."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name from .safetensors, or from a torch file that holds only tensors (`weights_only=True`).

    Of a checkpoint of a training, which holds one state_dict beside other things, that one is taken, and it is said.
    Raises GmiError if the file is missing, damaged, or a pickle that would run code.
    """
    if not path.is_file():
        raise GmiError(f"There are no weights at {path}.")
    if path.suffix.lower() == ".onnx":
        raise GmiError(
            f"{path} is an ONNX model, which needs no factory: take target: {{type: onnx, file: {path}, input: ...}}, "
            "as docs/api.md shows."
        )
    if _is_script(path):
        raise GmiError(
            f"{path} is TorchScript, which holds code: save the state_dict of its module, or export it to ONNX "
            "(torch.onnx.export) and take target: {type: onnx}."
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings(action="ignore"):  # of kinds of tensors that are refused below
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise GmiError(
            f"{path} is a pickle of more than tensors, and loading it would run its code: save the state_dict with "
            "safetensors instead."
        ) from error
    except OSError as error:
        raise GmiError(f"{path} cannot be read as weights ({because(error)}).") from error
    except Exception as error:  # of safetensors, zip and pickle, each with errors of its own
        raise GmiError(
            f"{path} cannot be read as weights, for it is damaged or of another kind: save the state_dict with "
            "safetensors."
        ) from error
    if _is_state(state):
        return state
    held = {key: value for key, value in state.items() if _is_state(value) and value} if isinstance(state, dict) else {}
    if len(held) > 1:
        several = ", ".join(map(str, held))
        raise GmiError(f"{path} holds several state_dicts ({several}): save the one to be audited alone.")
    if not held:
        raise GmiError(f"{path} is no state_dict: save model.state_dict(), not the model.")
    ((key, state),) = held.items()
    print(f"{path} is a checkpoint: its {key} is taken.", file=sys.stderr)
    return state


def load_weights(module: nn.Module, path: Path) -> None:
    """Loads a file into the module. Raises GmiError if a name, shape or type does not fit, or a value is not finite.

    Where a wrapper has put its prefix before every name, so that none fits, it is left out, which is said on standard
    error.
    """
    state = read_weights(path)
    own = module.state_dict()
    while not own.keys() & state.keys() and (prefix := _prefix(state)):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
        print(f"{path}: the prefix {prefix} of all names is left out.", file=sys.stderr)
    for name, value in state.items():
        _refuse_kind(path, name, value, own.get(name))
    fits = {name: value for name, value in state.items() if name in own and value.shape == own[name].shape}
    if broken := [name for name, value in fits.items() if value.is_floating_point() and not value.isfinite().all()]:
        raise GmiError(f"{path} is broken: {broken[0]} holds NaN or infinite values.")
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise GmiError(f"{path} does not fit {type(module).__name__}: {misfit(module, state)}.") from error


def _is_script(path: Path) -> bool:
    """Whether a file is what torch.jit.save writes: a zip with code in it."""
    try:
        with ZipFile(path) as archive:
            return any(name.partition("/")[2].startswith("code/") for name in archive.namelist())
    except (OSError, BadZipFile):
        return False


def _is_state(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str) and isinstance(each, Tensor) for name, each in value.items()
    )


def _prefix(state: Mapping[str, Tensor]) -> str:
    """The prefix of a wrapper that all names have; empty if there is none."""
    return next((prefix for prefix in PREFIXES if state and all(name.startswith(prefix) for name in state)), "")


def _refuse_kind(path: Path, name: str, value: Tensor, own: Tensor | None) -> None:
    """Raises GmiError for weights that the network would read as others, or cannot read at all. own: the network's."""
    if value.layout != torch.strided:
        raise GmiError(f"{path}: {name} is sparse: save it as a dense tensor (to_dense).")
    if value.is_meta:
        raise GmiError(f"{path}: {name} has a shape and no values: save the weights of a network that has some.")
    kind = str(value.dtype).removeprefix("torch.")
    if value.is_floating_point() and value.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        raise GmiError(f"{path}: {name} is of type {kind}, which needs a scale beside it: save it as float32.")
    if own is not None and own.is_floating_point() and not value.is_floating_point():
        raise GmiError(
            f"{path}: {name} is of type {kind} where the network has floating-point numbers: quantised weights need "
            "their own network; save them as float32."
        )


def misfit(module: nn.Module, state: Mapping[str, Tensor]) -> str:
    """The first reason, in words, why tensors of a file do not fit into a module."""
    own = module.state_dict()
    for name, value in own.items():
        if name not in state:
            return f"the file has no {name}"
        if value.shape != state[name].shape:
            sizes = ["x".join(map(str, tensor.shape)) or "one number" for tensor in (state[name], value)]
            return f"{name} is {sizes[0]} in the file and {sizes[1]} in the network"
    return f"the network has no {min(state.keys() - own.keys(), default='such tensors')}"


def contents(settings: object) -> dict[str, str]:
    """SHA-256 (hex) of each file that settings name as `weights`, `file` or an argument of a factory, by its place.

    settings: a block of a configuration, or several, looked through at any depth. What an asset holds is checked as it
    is fetched, and is left out, as is what is not there yet.
    """
    if isinstance(settings, (list, tuple)):
        return {place: known for part in settings for place, known in contents(part).items()}
    if isinstance(settings, dict):  # a factory's arguments, of which some may be files
        named = [value for value in settings.values() if isinstance(value, str) and _is_file(value)]
        return contents([*settings.values()]) | {place: _content(Path(place).expanduser()) for place in named}
    if not is_dataclass(settings):
        return {}
    found: dict[str, str] = {}
    for name, value in ((each.name, getattr(settings, each.name)) for each in fields(settings)):
        if not isinstance(value, str):
            found |= contents(value)
        elif name in ("weights", "file") and not value.startswith("asset:") and (path := resolve(value)).exists():
            found[value] = _content(path)
    return found


def _is_file(text: str) -> bool:
    try:
        return Path(text).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):  # no path at all
        return False


def _content(path: Path) -> str:
    """SHA-256 (hex) of a file, or of all files in a folder in their order."""
    files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    parts = [hashlib.sha256(each.read_bytes()).hexdigest() for each in files]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256 (hex) over the tensors' names, shapes, types and bytes."""
    total = hashlib.sha256()
    for name, value in tensors:
        total.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        total.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
