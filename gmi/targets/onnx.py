"""A model in an ONNX file, run by onnxruntime: only its answers are used."""

import hashlib
import importlib
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from gmi.assets.catalogue import resolve
from gmi.errors import GmiError
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
        except OSError as error:
            raise GmiError(f"target.file: {path} cannot be read ({error}).") from error
        service = _Session(self, _open(path))
        return Served(service, self.gives, classes, digest, frozenset(self.trained_on))


class _Session:
    """`Service` over an onnxruntime session."""

    def __init__(self, plan: OnnxTarget, session: Any) -> None:
        self._plan, self._session = plan, session
        inputs, outputs = session.get_inputs(), [output.name for output in session.get_outputs()]
        if len(inputs) != 1:
            raise GmiError(f"target.file: the model takes {len(inputs)} inputs, where one of images is expected.")
        if plan.output is not None and plan.output not in outputs:
            raise GmiError(f"target.output: the model has no output {plan.output}; it has {', '.join(outputs)}.")
        self._name, self._output = inputs[0].name, plan.output or outputs[0]
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
            raise GmiError(f"target.file: the model cannot take these images, check target.input ({error}).") from error
        if not (isinstance(answers, np.ndarray) and answers.dtype.kind in "fiu" and len(answers) == len(filled)):
            raise GmiError(
                f"target.output: {self._output} does not hold numbers for each image: name another of the model's."
            )
        if not np.isfinite(answers).all():
            raise GmiError(f"target.output: {self._output} holds numbers that are not finite: the model is broken.")
        return torch.from_numpy(answers).double().reshape(len(filled), -1)[: len(images)]


def _open(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise GmiError("A target of type onnx needs onnxruntime: pip install 'gmi[onnx]'.") from error
    try:
        return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except _errors() as error:
        raise GmiError(f"target.file: {path} is no ONNX model that onnxruntime can read ({error}).") from error


def _errors() -> tuple[type[Exception], ...]:
    """The errors that onnxruntime raises; their only common base is Exception."""
    state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")

    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented")
    return tuple(getattr(state, name) for name in (*names, "RuntimeException"))
