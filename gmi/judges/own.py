"""Face recognisers of one's own, in an ONNX file or a torch module, compared by cosines: judges, or a target."""

from dataclasses import field
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, JsonValue
from torch import Tensor

from gmi.assets.catalogue import resolve
from gmi.assets.factory import make_network
from gmi.assets.onnxmodel import OnnxModel
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
    layout: Literal["NCHW", "NHWC"] = "NCHW"  # order of the input's dimensions
    output: str | None = None  # name of the output with the templates; None: the model's first
    align: Align = "arcface"  # how faces are laid into the input; none: the whole image is resized
    trained_on: Names  # names of the data sets that it learnt from; it is refused for a target that learnt from them
    name: str = "own"  # its name in reports

    def load(self, device: torch.device) -> AlignedJudge:
        """The judge; onnxruntime runs it on the CPU. Raises GmiError if the file or what it gives is unusable."""
        path = resolve(self.file)
        model = OnnxModel(path, f"The recogniser {self.name}'s file")
        if not any(value.ndim > 1 for value in model.weights):
            raise GmiError(
                f"The recogniser {self.name}'s file holds no weights that can be read (quantised, or computed), so "
                "that its independence cannot be checked: export it with weights of floating point."
            )
        if model.kind == np.uint8 and (any(self.input.mean) or any(value != 1 for value in self.input.std)):
            raise GmiError(
                f"The recogniser {self.name}'s file takes bytes (uint8): leave input.mean and input.std out."
            )
        output = self.output or next(iter(model.gives))
        if output not in model.gives:
            raise GmiError(
                f"The recogniser {self.name}'s file has no output {output}; it has {', '.join(model.gives)}."
            )

        def network(faces: Tensor) -> Tensor:
            given = faces if self.layout == "NCHW" else faces.permute(0, 2, 3, 1)
            return torch.from_numpy(model(given, output))

        return _judge(self, network, list(model.weights), device)


@settings
class ModuleRecogniser:
    """A face recogniser as a torch module: float images (N, C, H, W) to templates (N, D)."""

    type: Literal["module"] = "module"
    factory: str  # "package.module:callable" that returns a torch module: code that you name and therefore trust
    arguments: dict[str, JsonValue] = field(default_factory=dict)  # the factory's; strings "asset:..." become paths
    weights: str  # .safetensors, or a .pt that holds one state_dict
    input: Input  # the input that the module expects
    align: Align = "arcface"  # how faces are laid into the input; none: the whole image is resized
    trained_on: Names  # names of the data sets that it learnt from; it is refused for a target that learnt from them
    name: str = "own"  # its name in reports

    def load(self, device: torch.device) -> AlignedJudge:
        """The judge. Raises GmiError if the factory, the weights or what the module gives is unusable."""
        with torch.random.fork_rng():
            module = make_network(self.factory, self.arguments, f"The recogniser {self.name}'s factory")
        load_weights(module, resolve(self.weights))
        module = module.float().eval().requires_grad_(False).to(device)
        return _judge(self, module, [*module.parameters()] or [*module.buffers()], device)


def _judge(
    plan: OnnxRecogniser | ModuleRecogniser, network: Any, weights: list[Tensor], device: torch.device
) -> AlignedJudge:
    """The judge, once its network has shown that it gives templates (N, D) of its input."""
    height, width = plan.input.size
    if plan.align != "none" and height != width:
        raise GmiError(
            f"The recogniser {plan.name} aligns faces to {height}x{width}: they are square, or align is none."
        )
    try:
        images = plan.input(torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0)))
        shown = network(images.to(next(iter(weights), images).device))  # a file's weights are on the CPU
        shape, finite = tuple(shown.shape), bool(shown.isfinite().all())
    except Exception as error:  # the network is the user's
        raise GmiError(
            f"The recogniser {plan.name} cannot take images of {height}x{width}: check its input ({because(error)})."
        ) from error
    if len(shape) != 2 or shape[0] != 2 or shape[1] < 2 or not finite:
        raise GmiError(
            f"The recogniser {plan.name} gives {shape} for two images, where finite templates (2, D) are expected."
        )
    alignment = None if plan.align == "none" else Alignment(resolve(PACKAGED) / "landmarks.safetensors", device)
    return AlignedJudge(plan.name, plan.trained_on, network, weights, plan.input, alignment)
