"""A model in an ONNX file, run by onnxruntime: only its answers are used."""

import hashlib
import importlib
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from gmi.assets.catalogue import resolve
from gmi.errors import GmiError, because
from gmi.settings import settings
from gmi.targets.module import Input
from gmi.targets.served import Gives, Requests, Served


@settings
class OnnxTarget:
    """A model in an ONNX file."""

    networked: ClassVar = False
    type: Literal["onnx"] = "onnx"
    file: str  # file with a model that takes float images (N, C, H, W)
    input: Input  # the input that the model expects
    output: str | None = None  # name of the model's output; None: its first
    gives: Gives = "logits"  # meaning of the output
    trained_on: tuple[str, ...] = ()  # data sets besides the private one; judges trained on them are refused

    def load(self, classes: tuple[str, ...]) -> Served:
        """The model for these people. Raises GmiError if onnxruntime is missing, or the file or its model unusable."""
        path = resolve(self.file)
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except FileNotFoundError as error:
            raise GmiError(f"target.file: there is no file {path}.") from error
        except OSError as error:
            raise GmiError(f"target.file: {path} cannot be read ({because(error)}).") from error
        service = _Session(self, _open(path), len(classes))
        return Served(service, self.gives, classes, digest, frozenset(self.trained_on))


class _Session:
    """`Service` over an onnxruntime session."""

    def __init__(self, plan: OnnxTarget, session: Any, people: int) -> None:
        """Raises GmiError where what the file states of its model does not fit the plan or the number of people."""
        self._plan, self._session = plan, session
        inputs, outputs = session.get_inputs(), {output.name: output.shape for output in session.get_outputs()}
        if len(inputs) != 1:
            raise GmiError(f"target.file: the model takes {len(inputs)} inputs, where one of images is expected.")
        if plan.output is not None and plan.output not in outputs:
            raise GmiError(f"target.output: the model has no output {plan.output}; it has {', '.join(outputs)}.")
        self._name, self._output = inputs[0].name, plan.output or next(iter(outputs))
        made = ["N", 1 if plan.input.colour == "grey" else 3, *plan.input.size]
        if _differ(inputs[0].shape, made):
            raise GmiError(
                f"target.input makes images of {_sizes(made)} and the model in target.file takes "
                f"{_sizes(inputs[0].shape)} (images, channels, height, width): set target.input.size and colour so."
            )
        given, expected = outputs[self._output][1:], 1 if plan.gives == "labels" else people
        if given and all(isinstance(size, int) for size in given) and prod(given) != expected:
            raise GmiError(
                f"target.output: {self._output} holds {prod(given)} numbers for each image, where {expected} are "
                f"expected of a model that gives {plan.gives} of {people} people: name another output, or correct "
                "target.gives."
            )
        fixed = inputs[0].shape[0]
        self.requests = Requests(batch=fixed if isinstance(fixed, int) else 64)

    def __call__(self, images: Tensor) -> Tensor:
        """Answers (N, D) float64.

        A model of fixed batch gets the last image repeatedly, and the extra answers are dropped.
        """
        short = self.requests.batch - len(images) if isinstance(self._session.get_inputs()[0].shape[0], int) else 0
        filled = torch.cat([images, images[-1:].expand(short, -1, -1, -1)])
        tensor = self._plan.input(filled.float() / 255).contiguous().numpy()
        try:
            (answers,) = self._session.run([self._output], {self._name: tensor})
        except _errors() as error:
            raise GmiError(
                f"target.file: the model cannot take these images, check target.input (its words: {because(error)})."
            ) from error
        if not (isinstance(answers, np.ndarray) and answers.dtype.kind in "fiu" and len(answers) == len(filled)):
            raise GmiError(
                f"target.output: {self._output} does not hold numbers for each image: name another of the model's."
            )
        if not np.isfinite(answers).all():
            raise GmiError(f"target.output: {self._output} holds numbers that are not finite: the model is broken.")
        return torch.from_numpy(answers).double().reshape(len(filled), -1)[: len(images)]


def _differ(stated: Any, made: list[Any]) -> bool:
    """True where a file states sizes, as far as it does, that images do not have."""
    pairs = zip(stated[1:], made[1:], strict=False)
    return bool(stated) and (len(stated) != 4 or any(isinstance(size, int) and size != side for size, side in pairs))


def _sizes(shape: Any) -> str:
    return "x".join(str(size) if isinstance(size, int) else "N" for size in shape)


def _open(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise GmiError("A target of type onnx needs onnxruntime: pip install 'gmi[onnx]'.") from error
    try:
        return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except _errors() as error:
        raise GmiError(f"target.file: {path} is no ONNX model that onnxruntime can read.") from error


def _errors() -> tuple[type[Exception], ...]:
    """The errors that onnxruntime raises; their only common base is Exception."""
    state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")

    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented")
    return tuple(getattr(state, name) for name in (*names, "RuntimeException"))
