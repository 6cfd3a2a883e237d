"""A model in an ONNX file, run by onnxruntime: only its answers are used."""

from math import prod
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from gmi.assets.catalogue import resolve
from gmi.assets.onnxmodel import OnnxModel
from gmi.errors import GmiError
from gmi.settings import settings
from gmi.targets.module import Input
from gmi.targets.outputs import outputs
from gmi.targets.served import Answers, Requests, Served


@settings
class OnnxTarget:
    """A model in an ONNX file."""

    networked: ClassVar = False
    type: Literal["onnx"] = "onnx"
    file: str  # file with a model that takes float images (N, C, H, W)
    input: Input  # the input that the model expects
    output: str | None = None  # name of the model's output; None: its first
    gives: Answers = "logits"  # meaning of the output
    # text file with a line for every output, in the model's order: the person's folder, or another word for an output
    # of nobody (a background class), which is ignored; None: the outputs are the people in sorted order
    outputs: str | None = None
    trained_on: tuple[str, ...] = ()  # data sets besides the private one; judges trained on them are refused

    def load(self, classes: tuple[str, ...]) -> Served:
        """The model for these people. Raises GmiError if onnxruntime is missing, or the file or its model unusable."""
        path, order = resolve(self.file), outputs(self.outputs, classes)
        model = OnnxModel(path, "target.file")
        service, digest = _Session(self, model, len(order.names)), order.digest(model.digest)
        known = frozenset(self.trained_on)
        return Served(service, self.gives, classes, digest, known, outputs=order, parameters=model.weights)


class _Session:
    """`Service` over an ONNX model."""

    def __init__(self, plan: OnnxTarget, model: OnnxModel, count: int) -> None:
        """Raises GmiError where what the file states of its model does not fit the plan or the number of outputs."""
        if plan.output is not None and plan.output not in model.gives:
            raise GmiError(f"target.output: the model has no output {plan.output}; it has {', '.join(model.gives)}.")
        self._plan, self._model, self._output = plan, model, plan.output or next(iter(model.gives))
        made = ["N", 1 if plan.input.colour == "grey" else 3, *plan.input.size]
        if _differ(model.takes, made):
            raise GmiError(
                f"target.input makes images of {_sizes(made)} and the model in target.file takes "
                f"{_sizes(model.takes)} (images, channels, height, width): set target.input.size and colour so."
            )
        given, expected = model.gives[self._output][1:], 1 if plan.gives == "labels" else count
        if given and all(isinstance(size, int) for size in given) and prod(given) != expected:
            raise GmiError(
                f"target.output: {self._output} holds {prod(given)} numbers for each image, where {expected} are "
                f"expected of a model that gives {plan.gives} of {count} classes: name another output, correct "
                "target.gives, or name all its classes in target.outputs."
            )
        self.requests = Requests(batch=model.batch or 64)

    def __call__(self, images: Tensor) -> Tensor:
        """Answers (N, D) float64."""
        answers = self._model(self._plan.input(images.float() / 255), self._output)
        if not np.isfinite(answers).all():
            raise GmiError(f"target.output: {self._output} holds numbers that are not finite: the model is broken.")
        return torch.from_numpy(answers).double().reshape(len(images), -1)


def _differ(stated: Any, made: list[Any]) -> bool:
    """True where a file states sizes, as far as it does, that images do not have."""
    pairs = zip(stated[1:], made[1:], strict=False)
    return bool(stated) and (len(stated) != 4 or any(isinstance(size, int) and size != side for size, side in pairs))


def _sizes(shape: Any) -> str:
    return "x".join(str(size) if isinstance(size, int) else "N" for size in shape)
