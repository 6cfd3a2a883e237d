"""Judges of one's own: face recognisers in an ONNX file or a torch module, compared by cosines."""

import importlib
import os
import sys
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, JsonValue
from torch import Tensor, nn

from gmi.assets.catalogue import resolve
from gmi.assets.onnxgraph import read_graph
from gmi.assets.weights import load_weights
from gmi.errors import GmiError, because
from gmi.judges.aligned import PACKAGED, AlignedJudge
from gmi.judges.alignment import Alignment
from gmi.settings import settings
from gmi.views import Input

Align = Literal["arcface", "none"]
"""arcface: eyes, nose and mouth at the places of Deng et al., CVPR 2019. none: the whole image."""
Names = Annotated[frozenset[str], Field(min_length=1)]


@settings
class OnnxRecogniser:
    """A face recogniser in an ONNX file: float images (N, C, H, W) to templates (N, D)."""

    type: Literal["onnx"] = "onnx"
    file: str  # the file
    input: Input  # the input that the model expects
    align: Align = "arcface"  # how faces are laid into the input; none: the whole image is resized
    trained_on: Names  # names of the data sets that it learnt from; it is refused for a target that learnt from them
    name: str = "own"  # the judge's name in reports

    def load(self, device: torch.device) -> AlignedJudge:
        """The judge; onnxruntime runs it on the CPU. Raises GmiError if the file or what it gives is unusable."""
        path = resolve(self.file)
        network = _OnnxNetwork(self, path)
        try:
            weights = [torch.from_numpy(value.copy()) for value in read_graph(path.read_bytes())[1].values()]
        except ValueError as error:
            raise GmiError(f"The weights in {path} of the judge {self.name} cannot be read.") from error
        return _judge(self, network, weights, device)


@settings
class ModuleRecogniser:
    """A face recogniser as a torch module: float images (N, C, H, W) to templates (N, D)."""

    type: Literal["module"] = "module"
    factory: str  # "package.module:callable" that returns a torch module: code that you name and therefore trust
    arguments: dict[str, JsonValue] = field(default_factory=dict)  # the factory's; strings "asset:..." become paths
    weights: str  # .safetensors, or a .pt of plain tensors
    input: Input  # the input that the module expects
    align: Align = "arcface"  # how faces are laid into the input; none: the whole image is resized
    trained_on: Names  # names of the data sets that it learnt from; it is refused for a target that learnt from them
    name: str = "own"  # the judge's name in reports

    def load(self, device: torch.device) -> AlignedJudge:
        """The judge. Raises GmiError if the factory, the weights or what the module gives is unusable."""
        with torch.random.fork_rng():
            module = self._built()
        load_weights(module, resolve(self.weights))
        module = module.float().eval().requires_grad_(False).to(device)
        return _judge(self, lambda faces: module(faces.to(device)), list(module.parameters()), device)

    def _built(self) -> nn.Module:
        if (here := os.getcwd()) not in sys.path:
            sys.path.append(here)
        name, _, part = self.factory.partition(":")
        arguments = {
            key: str(resolve(value)) if isinstance(value, str) and value.startswith("asset:") else value
            for key, value in self.arguments.items()
        }
        try:
            module: Any = importlib.import_module(name)
            for step in part.split("."):
                module = getattr(module, step)
            module = module(**arguments)
        except Exception as error:  # the code is the user's
            raise GmiError(
                f"The factory {self.factory!r} of the judge {self.name} failed ({because(error)}); it reads "
                "'module:callable'."
            ) from error
        if not isinstance(module, nn.Module):
            raise GmiError(f"The factory {self.factory!r} of the judge {self.name} returned no torch module.")
        return module


class _OnnxNetwork:
    """Templates (N, D) by onnxruntime, of images (N, C, H, W)."""

    def __init__(self, plan: OnnxRecogniser, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise GmiError("A judge of type onnx needs onnxruntime: pip install 'gmi[onnx]'.") from error
        if not path.is_file():
            raise GmiError(f"There is no file {path} for the judge {plan.name}.")
        try:
            self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        except Exception as error:  # the only common base of onnxruntime's errors
            raise GmiError(f"{path} of the judge {plan.name} is no ONNX model that onnxruntime can read.") from error
        (taken, *more), self._output = self._session.get_inputs(), self._session.get_outputs()[0].name
        if more:
            raise GmiError(f"The model of the judge {plan.name} takes {1 + len(more)} inputs, where one is expected.")
        self._input = taken.name
        self._fixed = taken.shape[0] if taken.shape and isinstance(taken.shape[0], int) else None  # images in a batch

    def __call__(self, faces: Tensor) -> Tensor:
        """A model of fixed batch gets the last image repeatedly, and the extra templates are dropped."""
        size = self._fixed or len(faces)
        return torch.cat([self._batch(batch, size) for batch in faces.split(size)])

    def _batch(self, faces: Tensor, size: int) -> Tensor:
        filled = torch.cat([faces, faces[-1:].expand(size - len(faces), -1, -1, -1)]).contiguous().numpy()
        return torch.from_numpy(np.asarray(self._session.run([self._output], {self._input: filled})[0]))[: len(faces)]


def _judge(
    plan: OnnxRecogniser | ModuleRecogniser, network: Any, weights: list[Tensor], device: torch.device
) -> AlignedJudge:
    """The judge, once its network has shown that it gives templates (N, D) of its input."""
    height, width = plan.input.size
    if plan.align != "none" and height != width:
        raise GmiError(f"The judge {plan.name} aligns faces to {height}x{width}: they are square, or align is none.")
    try:
        shown = network(plan.input(torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))))
        shape, finite = tuple(shown.shape), bool(shown.isfinite().all())
    except Exception as error:  # the network is the user's
        raise GmiError(
            f"The judge {plan.name} cannot take images of {height}x{width}: check its input ({because(error)})."
        ) from error
    if len(shape) != 2 or shape[0] != 2 or shape[1] < 2 or not finite:
        raise GmiError(
            f"The judge {plan.name} gives {shape} for two images, where finite templates (2, D) are expected."
        )
    alignment = None if plan.align == "none" else Alignment(resolve(PACKAGED) / "landmarks.safetensors", device)
    return AlignedJudge(plan.name, plan.trained_on, network, weights, plan.input, alignment)
