"""A model on a server with the Open Inference Protocol, version 2: Triton, KServe, MLServer, OpenVINO.

https://github.com/kserve/open-inference-protocol, its REST API and binary tensor extension.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from gmi.errors import GmiError
from gmi.settings import OPERATIONAL, settings
from gmi.targets.module import Input
from gmi.targets.outputs import Labels, Named, Outputs, outputs
from gmi.targets.remote import Answer, Connection, Session, pixels, refuse_scaling
from gmi.targets.served import Gives, Served, digest_of, refuse_claims, verifier

_TYPES = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8", "BOOL": "?"}
_TYPES |= {f"INT{size * 8}": f"<i{size}" for size in (1, 2, 4, 8)} | {
    f"UINT{size * 8}": f"<u{size}" for size in (1, 2, 4, 8)
}
_TEXTS = ("BYTES", "STRING")
_NAMES = {torch.float32: "FP32", torch.uint8: "UINT8", torch.int64: "INT64"}
_HEADER = "Inference-Header-Content-Length"


@settings
class OpenInferenceTarget:
    """A model on a server with the Open Inference Protocol v2."""

    networked: ClassVar = True
    type: Literal["open-inference"] = "open-inference"
    url: str  # address of the server, without /v2
    model: str  # name of the model
    version: str | None = None  # version of the model; None: the server's choice
    input: Input  # the input that the model expects
    tensor: str  # name of the input tensor in the model's signature
    output: str | None = None  # name of the output with the numbers; None: the model's first
    places: str | None = None  # name of the output with the numbers' classes, if the model shows only some; None: all
    datatype: Literal["FP32", "UINT8"] = "FP32"  # the input tensor's; UINT8 is 0 to 255 and takes no mean and std
    layout: Literal["NCHW", "NHWC"] = "NCHW"  # order of the input tensor's dimensions
    binary: bool = True  # False: write numbers as text, for a server without the binary tensor extension
    gives: Gives = "probabilities"  # meaning of the output
    # the model's names of its classes, in the order of its outputs, where its labels are texts (BYTES); None: those of
    # the folders
    classes: tuple[str, ...] | None = None
    # name of the input tensor (INT64) with the number of each image's claimed person, of a model that verifies a claim;
    # its output is 1 for yes and 0 for no, and gives is decisions, or a number, and gives is similarities
    claims: str | None = None
    threshold: float | None = None  # of similarities to a claimed person: the least that the system accepts; else None
    # names of the outputs in the model's order, or a text file with one a line: a person's is the folder's, another
    # word stands for nobody (a background class) and is ignored; natural: the people, 2 before 10; None: the
    # people, sorted
    outputs: Named = None
    trained_on: tuple[str, ...] = ()  # data sets besides the private one; judges trained on them are refused
    connection: Annotated[Connection, OPERATIONAL] = Connection()  # how the server is reached

    def __post_init__(self) -> None:
        refuse_claims(self.gives, self.claims is not None, self.threshold)
        if self.datatype == "UINT8":
            refuse_scaling(self.input)
        if self.places is not None and self.output is None:
            raise ValueError("places says of which classes the numbers in output are: name output too")

    def load(self, classes: tuple[str, ...]) -> Served:
        """The served model for these people, without any query yet. Raises GmiError as `Session` does."""
        version = "" if self.version is None else f"/versions/{self.version}"
        session = Session(f"{self.url.rstrip('/')}/v2/models/{self.model}{version}/infer", self.connection)
        order = outputs(self.outputs, classes)
        service = _OpenInference(self, order, Labels.of(order, self.classes), session)
        digest, trained_on = order.digest(digest_of(self)), frozenset(self.trained_on)
        rate, asked = self.connection.rate, verifier(service, self.gives, self.threshold, silent=True)
        return Served(service, self.gives, classes, digest, trained_on, rate, order, verifier=asked)


class _OpenInference:
    """`Service` over the protocol's `infer`."""

    def __init__(self, plan: OpenInferenceTarget, order: Outputs, labels: Labels, session: Session) -> None:
        self.requests = session.requests
        self._plan, self._order, self._labels, self._session = plan, order, labels, session

    def decide(self, images: Tensor, claims: Tensor) -> Tensor:
        """What it says (N, 1) of images (N, C, H, W), given as bytes, and these people (N,)."""
        return self._asked(images, {str(self._plan.claims): torch.tensor(self._order.columns)[claims]})

    def __call__(self, images: Tensor) -> Tensor:
        return self._asked(images, {})

    def _asked(self, images: Tensor, more: Mapping[str, Tensor]) -> Tensor:
        """The answer to images (N, C, H, W), given as bytes, and to further input tensors (N,) of whole numbers."""
        tensor = pixels(images, self._plan.input) if self._plan.datatype == "UINT8" else self._floats(images)
        if self._plan.layout == "NHWC":
            tensor = tensor.permute(0, 2, 3, 1).contiguous()
        inputs = {self._plan.tensor: tensor} | {name: numbers[:, None].contiguous() for name, numbers in more.items()}
        described: list[dict[str, Any]] = [
            {"name": name, "shape": list(values.shape), "datatype": _NAMES[values.dtype]}
            for name, values in inputs.items()
        ]
        request: dict[str, Any] = {"inputs": described}
        if names := [name for name in (self._plan.output, self._plan.places) if name is not None]:
            request["outputs"] = [{"name": name, "parameters": {"binary_data": self._plan.binary}} for name in names]
        if not self._plan.binary:
            for each, values in zip(described, inputs.values(), strict=True):
                each["data"] = values.flatten().tolist()
            content, headers = json.dumps(request).encode(), {"Content-Type": "application/json"}
        else:
            parts = [values.numpy().tobytes() for values in inputs.values()]
            for each, part in zip(described, parts, strict=True):
                each["parameters"] = {"binary_data_size": len(part)}
            request["parameters"] = {"binary_data_output": True}
            head = json.dumps(request).encode()
            content = head + b"".join(parts)
            headers = {"Content-Type": "application/octet-stream", _HEADER: str(len(head))}
        answer = self._session.post(content, headers, len(images))
        with self._session.reading(answer.content):
            return self._read(answer)

    def _floats(self, images: Tensor) -> Tensor:
        return self._plan.input(images.float() / 255).contiguous()

    def _read(self, response: Answer) -> Tensor:
        """The numbers in a response, (N, K), or (N, 1) for labels. Raises GmiError if it does not hold them."""
        body = response.content
        header = response.headers.get(_HEADER, "")
        size = int(header) if header.isdecimal() and len(header) < 19 else len(body)
        answer, raw = self._session.parsed(body[:size]), body[size:]
        outputs: dict[str, Tensor] = {}
        try:
            for output in answer["outputs"]:
                length = (output.get("parameters") or {}).get("binary_data_size")
                content, raw = (None, raw) if length is None else (raw[:length], raw[length:])
                outputs[output["name"]] = self._tensor(output, content)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
            raise GmiError(
                f"The answer is not one of the Open Inference Protocol ({error!r}): {self._session.quoted(body)}"
            ) from error
        names = [self._plan.output or next(iter(outputs), ""), *filter(None, [self._plan.places])]
        if missing := [name for name in names if name not in outputs]:
            raise GmiError(
                f"The model has no output {missing[0]!r}; it has {', '.join(outputs)}: set target.output and "
                "target.places."
            )
        values, *classes = (outputs[name] for name in names)
        return values if not classes else self._scattered(values, classes[0])

    def _scattered(self, values: Tensor, classes: Tensor) -> Tensor:
        """The numbers (N, K) of all classes from those (N, D) of some classes (N, D): NaN for the others."""
        fits = values.shape == classes.shape and bool(((classes >= 0) & (classes < len(self._order.names))).all())
        if not fits:
            raise GmiError(f"target.places: {self._plan.places} does not name a class for each of the numbers.")
        return values.new_full((len(values), len(self._order.names)), torch.nan).scatter(1, classes.long(), values)

    def _tensor(self, output: Mapping[str, Any], raw: bytes | None) -> Tensor:
        """An output as a tensor (N, D), with all dimensions after the first made one; texts are names of classes.

        Raises ValueError for odd numbers, GmiError for a type that gmi does not read and for an unknown class.
        """
        kind, shape = output["datatype"], output["shape"]
        if kind in _TEXTS:
            texts = np.ravel(output["data"]).tolist() if raw is None else list(_texts(raw))
            values = np.array([self._labels.number(text) for text in texts], np.float64)
        elif kind not in _TYPES and kind != "BF16":
            raise GmiError(f"The model's output {output['name']} is of type {kind}, which gmi does not read.")
        elif raw is None:
            values = np.array(output["data"], np.float64).ravel()  # some servers nest it, others do not
        elif kind == "BF16":  # the upper half of FP32
            values = (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4").astype(np.float64)
        else:
            values = np.frombuffer(raw, _TYPES[kind]).astype(np.float64)
        if shape[0] == 0 or values.size != int(np.prod(shape)):
            raise ValueError(f"{values.size} numbers for shape {shape}")
        if not np.isfinite(values).all():
            raise ValueError("numbers that are not finite")
        return torch.from_numpy(values.reshape(shape[0], -1))


def _texts(raw: bytes) -> Iterator[str]:
    """Texts of a binary tensor: before each, its length in four bytes. Raises ValueError where they do not fit."""
    place = 0
    while place < len(raw):
        start, place = place + 4, place + 4 + int.from_bytes(raw[place : place + 4], "little")
        if place > len(raw):
            raise ValueError("texts longer than the answer")
        yield raw[start:place].decode("utf-8")
