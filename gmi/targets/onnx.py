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
from gmi.targets.outputs import Named, outputs
from gmi.targets.remote import refuse_scaling
from gmi.targets.served import Answers, Requests, Served


@settings
class OnnxTarget:
    """A model in an ONNX file."""

    networked: ClassVar = False
    type: Literal["onnx"] = "onnx"
    file: str  # file with a model that takes images, as floating-point numbers or bytes
    input: Input  # the input that the model expects; of one that takes bytes (uint8), no mean and std
    layout: Literal["NCHW", "NHWC"] = "NCHW"  # order of the input's dimensions
    output: str | None = None  # name of the model's output; None: its first
    gives: Answers = "logits"  # meaning of the output
    # names of the outputs in the model's order, or a text file with one a line: a person's is the folder's, another
    # word stands for nobody (a background class) and is ignored; natural: the people, 2 before 10; None: the
    # people, sorted
    outputs: Named = None
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
        channels, (height, width) = 1 if plan.input.colour == "grey" else 3, plan.input.size
        orders: dict[str, list[Any]] = {
            "NCHW": ["N", channels, height, width],
            "NHWC": ["N", height, width, channels],
        }
        made = orders.pop(plan.layout)
        if _differ(model.takes, made):
            ((other, turned),) = orders.items()
            mend = f"layout: {other}" if not _differ(model.takes, turned) else "target.input.size and colour so"
            raise GmiError(
                f"target.input makes images of {_sizes(made)} ({plan.layout}: images, channels, height, width) and the "
                f"model in target.file takes {_sizes(model.takes)}: set {mend}."
            )
        if model.kind == np.uint8:
            try:
                refuse_scaling(plan.input)
            except ValueError as error:
                raise GmiError(f"target.file takes bytes (uint8), and target.{error}.") from error
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
        prepared = self._plan.input(images.float() / 255)
        if self._plan.layout == "NHWC":
            prepared = prepared.permute(0, 2, 3, 1)
        answers = self._model(prepared, self._output)
        if not np.isfinite(answers).all():
            raise GmiError(f"target.output: {self._output} holds numbers that are not finite: the model is broken.")
        return torch.from_numpy(answers).double().reshape(len(images), -1)


def _differ(stated: Any, made: list[Any]) -> bool:
    """True where a file states sizes, as far as it does, that images do not have."""
    pairs = zip(stated[1:], made[1:], strict=False)
    return bool(stated) and (len(stated) != 4 or any(isinstance(size, int) and size != side for size, side in pairs))


def _sizes(shape: Any) -> str:
    return "x".join(str(size) if isinstance(size, int) else "N" for size in shape)
