"""Published StyleGANs as prior folders: `gmi convert-stylegan FILE OUT`.

Tensors of StyleGAN2-ADA and StyleGAN3 have the names of `gmi.priors.stylegan_network` and `stylegan3_network`. Those
of rosinality's implementation are renamed; its 3x3 weights are scaled when used (by 1 / sqrt(fan-in)), here they are
stored so. All were written to give the images of the networks that were published first.
"""

import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from gmi.assets.weights import load_weights
from gmi.cli.options import flags_of
from gmi.errors import GmiError, foreign
from gmi.files import written
from gmi.priors.stylegan import StyleGan3Shape, StyleGanShape
from gmi.priors.stylegan_network import binomial

_FILTER = "resample_filter"
_SIDES = torch.outer(binomial(), binomial())


def main(arguments: Sequence[str]) -> None:
    """Converts one file. Raises GmiError where it cannot be read or is of another kind."""
    options = flags_of("convert-stylegan").parse_args(list(arguments))
    print(convert(options.file, options.out, options.licence))


def convert(file: Path, out: Path, licence: Path) -> Path:
    """The prior's folder, made of a published file, with its licence beside the weights. Raises GmiError as `main`."""
    for path, what in ((file, "model"), (licence, "licence")):
        if not path.is_file():
            raise GmiError(f"There is no {what} at {path}.")
    if out.exists():
        raise GmiError(f"{out} is there already: name another folder.")
    held, about = _read(file)
    with foreign(lambda why: f"{file} is no StyleGAN that gmi can convert ({why})."):
        if any(name.startswith("mapping.embed") for name in held):
            raise GmiError(f"{file} is a network of classes: an unconditional one is needed.")
        if "synthesis.input.weight" in held:
            weights, shape = held, _alias_free(file, held)
        else:
            weights = _named(held) if about["layout"] == "rosinality" else _ours(file, held)
            shape = _shape(file, weights)
    with written(out), TemporaryDirectory(dir=_parent(out)) as made:
        folder = Path(made, out.name)
        folder.mkdir()
        save_file(weights, folder / "model.safetensors")
        load_weights(shape.build(), folder / "model.safetensors")  # that all fits
        (folder / "config.json").write_text(json.dumps(asdict(shape), indent=1) + "\n", "utf-8")
        shutil.copyfile(licence, folder / "LICENSE.txt")
        digest = sha256(file.read_bytes()).hexdigest()
        (folder / "README.md").write_text(
            f"# {out.name}\n\nA StyleGAN{shape.type[-1]} at {shape.size} px, converted by gmi from `{file.name}`.\n"
            f"That file's SHA-256: `{digest}`. The licence is in LICENSE.txt.\n",
            "utf-8",
        )
        folder.rename(out)
    return out


def _parent(out: Path) -> Path:
    out.parent.mkdir(parents=True, exist_ok=True)
    return out.parent


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and what is said of them, read by a process of its own. Raises GmiError with its words where it fails."""
    with TemporaryDirectory() as folder:
        made = Path(folder, "tensors.safetensors")
        done = subprocess.run(
            [sys.executable, "-I", "-m", "gmi.assets.pickles", str(file.resolve()), str(made)],
            capture_output=True,
            text=True,
            cwd=folder,
        )
        if done.returncode:
            words = done.stderr.strip().splitlines() or ["it ended without a word"]
            raise GmiError(f"{file} cannot be converted: {words[-1]}.")
        with safe_open(made, "pt") as tensors:
            about = json.loads((tensors.metadata() or {})["about"])
            return {name: tensors.get_tensor(name).float() for name in tensors.keys()}, about  # noqa: SIM118


def _ours(file: Path, held: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of ADA's layout without its filters. Raises GmiError where these are others."""
    for name, value in held.items():
        if name.endswith(_FILTER) and not torch.allclose(value, _SIDES, atol=1e-6):
            raise GmiError(
                f"{file} has another filter than [1, 3, 3, 1] in {name}: it is not the StyleGAN2 of the paper."
            )
    return {name: value.contiguous() for name, value in held.items() if not name.endswith(_FILTER)}


def _named(held: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of rosinality's layout by our names and scales."""
    if "latent_avg" not in held:
        raise GmiError(
            "The file has no mean style (latent_avg), which truncation needs: it is no converted checkpoint."
        )
    found = {"mapping.w_avg": held["latent_avg"].flatten(), "synthesis.b4.const": held["input.input"][0]}
    layers = sorted({int(name.split(".")[1]) for name in held if name.startswith("style.")})
    for place, layer in enumerate(layers):
        for part in ("weight", "bias"):
            found[f"mapping.fc{place}.{part}"] = held[f"style.{layer}.{part}"]
    for ours, theirs, noise in _convolutions(held):
        weight = held[f"{theirs}.conv.weight"][0]
        found[f"synthesis.{ours}.weight"] = weight / math.sqrt(weight[0].numel())
        found[f"synthesis.{ours}.bias"] = held[f"{theirs}.activate.bias"].flatten()
        found[f"synthesis.{ours}.noise_strength"] = held[f"{theirs}.noise.weight"].reshape(())
        found[f"synthesis.{ours}.noise_const"] = held[f"noises.noise_{noise}"][0, 0]
        found |= _affine(held, f"synthesis.{ours}", theirs)
    for size, theirs in _colours(held):
        found[f"synthesis.b{size}.torgb.weight"] = held[f"{theirs}.conv.weight"][0]
        found[f"synthesis.b{size}.torgb.bias"] = held[f"{theirs}.bias"].flatten()
        found |= _affine(held, f"synthesis.b{size}.torgb", theirs)
    return {name: value.contiguous() for name, value in found.items()}


def _affine(held: Mapping[str, Tensor], ours: str, theirs: str) -> dict[str, Tensor]:
    return {f"{ours}.affine.{part}": held[f"{theirs}.conv.modulation.{part}"] for part in ("weight", "bias")}


def _resolutions(held: Mapping[str, Tensor]) -> int:
    """How many times the size is doubled."""
    return len({name.split(".")[1] for name in held if name.startswith("to_rgbs.")})


def _convolutions(held: Mapping[str, Tensor]) -> Iterator[tuple[str, str, int]]:
    """Our name, theirs, and the number of the noise, of each 3x3 convolution."""
    yield "b4.conv1", "conv1", 0
    for level in range(_resolutions(held)):
        for half in range(2):
            yield f"b{8 * 2**level}.conv{half}", f"convs.{2 * level + half}", 1 + 2 * level + half


def _colours(held: Mapping[str, Tensor]) -> Iterator[tuple[int, str]]:
    """The size and their name of each layer of colours."""
    yield 4, "to_rgb1"
    for level in range(_resolutions(held)):
        yield 8 * 2**level, f"to_rgbs.{level}"


def _shape(file: Path, weights: Mapping[str, Tensor]) -> StyleGanShape:
    """The shape that the tensors have. Raises GmiError where they are not those of a StyleGAN2 with skips."""
    sizes = sorted(int(name.split(".")[1][1:]) for name in weights if name.endswith(".torgb.bias"))
    if not sizes or sizes != [4 * 2**level for level in range(len(sizes))] or "mapping.w_avg" not in weights:
        raise GmiError(f"{file} holds no StyleGAN2 whose colours are added up over resolutions (skips).")
    layers = sum(name.startswith("mapping.fc") and name.endswith(".weight") for name in weights)
    first = weights["mapping.fc0.weight"]
    return StyleGanShape(
        latent=first.shape[1],
        width=len(weights["mapping.w_avg"]),
        layers=layers,
        channels=tuple(len(weights[f"synthesis.b{size}.conv1.bias"]) for size in sizes),
        size=sizes[-1],
        colours=3 if len(weights["synthesis.b4.torgb.bias"]) == 3 else 1,
    )


def _alias_free(file: Path, weights: Mapping[str, Tensor]) -> StyleGan3Shape:
    """The shape of a StyleGAN3's tensors. Raises GmiError where its layers are not those of the published settings."""
    names = {match[0]: match for name in weights if (match := re.match(r"synthesis\.L(\d+)_(\d+)_(\d+)", name))}
    layers = sorted(names.values(), key=lambda match: int(match[1]))
    shape = StyleGan3Shape(
        latent=weights["mapping.fc0.weight"].shape[1],
        width=len(weights["mapping.w_avg"]),
        layers=sum(name.startswith("mapping.fc") and name.endswith(".weight") for name in weights),
        channels=tuple(int(match[3]) for match in layers[:-1]),
        size=int(layers[-1][2]),
        colours=3 if int(layers[-1][3]) == 3 else 1,
        kernel=3 if weights[f"{layers[0][0]}.weight"].shape[-1] == 3 else 1,
        radial=any(value.ndim == 2 for name, value in weights.items() if name.endswith("down_filter")),
    )
    for name, ours in shape.build().state_dict().items():
        theirs = weights.get(name)
        if name.endswith("_filter") and (
            theirs is None or theirs.shape != ours.shape or not torch.allclose(theirs, ours, atol=1e-5)
        ):
            raise GmiError(f"{file} has another filter in {name} than the settings of the published StyleGAN3s give.")
    return shape
