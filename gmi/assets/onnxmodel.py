"""A model in an ONNX file, run by onnxruntime on the CPU."""

import importlib
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gmi.assets.onnxgraph import external_files, read_graph
from gmi.errors import GmiError, because

_KINDS: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}
"""Types of images that models take, by onnxruntime's names."""


class OnnxModel:
    """A model that takes one tensor of images (N, C, H, W)."""

    def __init__(self, path: Path, key: str) -> None:
        """key: the setting that names the file. Raises GmiError if onnxruntime is missing, or the file is unusable."""
        try:
            import onnxruntime
        except ImportError as error:
            raise GmiError(f"{key}: an ONNX file needs onnxruntime: pip install onnxruntime.") from error
        if not path.is_file():
            raise GmiError(f"{key}: there is no file {path}.")
        try:
            self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        except _errors() as error:
            raise GmiError(f"{key}: {path} is no ONNX model that onnxruntime can read.") from error
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            raise GmiError(f"{key}: the model takes {len(inputs)} inputs, where one of images is expected.")
        self.takes: list[Any] = list(inputs[0].shape)  # sizes, as far as the file states them
        if inputs[0].type not in _KINDS:
            raise GmiError(f"{key}: the model takes images as {inputs[0].type}, which gmi does not make.")
        self.kind = _KINDS[inputs[0].type]
        self.gives: dict[str, list[Any]] = {output.name: output.shape for output in self._session.get_outputs()}
        self._input, self._key = inputs[0].name, key
        content = path.read_bytes()
        try:
            outside, (_, held) = external_files(content), read_graph(content, path.parent)
        except ValueError as error:
            raise GmiError(f"{key}: the weights in {path} cannot be read ({because(error)}).") from error
        digest = sha256(content)
        for name in outside:
            digest.update((path.parent / name).read_bytes())
        self.digest = digest.hexdigest()  # of the file, and of those that hold its weights
        self.weights = tuple(torch.from_numpy(value.copy()) for value in held.values())

    @property
    def batch(self) -> int | None:
        """The images that it takes at once; None: any number."""
        return self.takes[0] if self.takes and isinstance(self.takes[0], int) else None

    def __call__(self, images: Tensor, output: str) -> NDArray[Any]:
        """One output (N, ...) for prepared images (N, C, H, W), or (N, H, W, C) if that is what it takes.

        They become what it takes: bytes are those of images in [0, 1]. A model of fixed batch gets the last image
        repeatedly, and the extra answers are dropped. Raises GmiError where the model cannot take the images, or does
        not hold numbers for each of them.
        """
        size = self.batch or len(images)
        return np.concatenate([self._run(batch, output, size) for batch in images.split(size)])

    def _run(self, images: Tensor, output: str, size: int) -> NDArray[Any]:
        filled = torch.cat([images, images[-1:].expand(size - len(images), -1, -1, -1)]).contiguous().numpy()
        given = (filled.clip(0, 1) * 255).round() if self.kind == np.uint8 else filled
        try:
            answers: Any = self._session.run([output], {self._input: given.astype(self.kind)})[0]
        except _errors() as error:
            raise GmiError(
                f"{self._key}: the model cannot take these images, check the input stated beside it (its words: "
                f"{because(error)})."
            ) from error
        held = isinstance(answers, np.ndarray) and answers.ndim > 0 and answers.dtype.kind in "fiu"
        if not held or len(answers) != size:
            raise GmiError(f"{self._key}: its output {output} does not hold numbers for each image: name another.")
        return answers[: len(images)]


def _errors() -> tuple[type[Exception], ...]:
    """The errors that onnxruntime raises; their only common base is Exception."""
    state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")

    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented")
    return tuple(getattr(state, name) for name in (*names, "RuntimeException"))
