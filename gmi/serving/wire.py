"""Requests and answers of the Open Inference Protocol, version 2, as text or with its binary tensor extension."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from fastapi import Response
from numpy.typing import NDArray
from torch import Tensor

from gmi.errors import because
from gmi.serving.gate import Refused

INPUT = "images"
CLAIMS = "claims"
HEADER = "Inference-Header-Content-Length"
_MOST = 256  # largest number of images in one request
_SIDE = 4096  # greatest height and width of an image
_PIXELS = 2**24  # greatest number of values in one image
_TEXT = 16 * 2**20  # greatest size of the JSON part: ten times as much memory holds its numbers
_TYPES = {"UINT8": np.dtype("u1"), "FP32": np.dtype("<f4"), "INT64": np.dtype("<i8")}
_NAMES = {"float32": "FP32", "int64": "INT64"}


@dataclass(frozen=True)
class Query:
    """The content of a request."""

    images: Tensor  # (N, 1 or 3, H, W), bytes or floats in [0, 1]
    raw: list[bytes]  # bytes of each image
    outputs: dict[str, bool] | None  # names of the wanted outputs, and True for binary; None: all outputs
    binary: bool  # answer in binary, unless an output says otherwise
    id: str | None  # the client's name of the request
    claims: Tensor | None = None  # numbers (N,) of the people that the images are said to show; None: nobody's


def parse(body: bytes, header: str | None) -> Query:
    """The request in a body. header: length of its JSON part; None: all of it. Raises Refused with 400 or 413."""
    size = len(body)
    if header is not None:
        if not header.isascii() or not header.isdigit() or len(header) > 9 or int(header) > size:
            raise Refused(400, f"{HEADER}: the length of the JSON part is expected")
        size = int(header)
    if size > _TEXT:
        raise Refused(413, f"more than {_TEXT} bytes of JSON: send images in binary")
    try:
        tree = json.loads(body[:size])
        inputs, raw = {}, body[size:]
        for described in tree["inputs"]:
            values, raw = _values(described, raw)
            shape = [int(side) for side in described["shape"]]
            if min(shape) < 0:
                raise ValueError("a side is negative")
            inputs[described["name"]] = values.reshape(shape)
        array, claims = inputs.pop(INPUT), inputs.pop(CLAIMS, None)
        if inputs:
            raise ValueError(f"there is no input {', '.join(inputs)}")
        binary = bool((tree.get("parameters") or {}).get("binary_data_output", False))
        outputs = {
            str(output["name"]): bool((output.get("parameters") or {}).get("binary_data", binary))
            for output in tree.get("outputs") or []
        }
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, MemoryError) as error:
        raise Refused(400, f"an input of images is expected, datatype UINT8 or FP32 ({because(error)})") from error
    if array.ndim != 4 or array.shape[1] not in (1, 3) or not 1 <= len(array) <= _MOST or array.size == 0:
        raise Refused(400, f"images of shape (1 to {_MOST}, 1 or 3, height, width) are expected, not {array.shape}")
    if max(array.shape[2:]) > _SIDE or array[0].size > _PIXELS:
        raise Refused(413, f"images of at most {_SIDE} pixels a side and {_PIXELS} values are expected")
    if array.dtype == np.int64:
        raise Refused(400, "images are UINT8 or FP32")
    if array.dtype != np.uint8 and not (array.min() >= 0 and array.max() <= 1):
        raise Refused(400, "FP32 images must lie in 0 to 1")
    if claims is not None and (claims.dtype != np.int64 or claims.size != len(array)):
        raise Refused(400, "claims are one INT64 for each image")
    said = None if claims is None else torch.from_numpy(claims.ravel().copy())
    shown = [image.tobytes() for image in array]
    return Query(torch.from_numpy(array.copy()), shown, outputs or None, binary, tree.get("id"), said)


def _values(described: Mapping[str, Any], raw: bytes) -> tuple[NDArray[Any], bytes]:
    """The numbers of an input, and the rest of the binary part. Raises ValueError or KeyError for odd ones."""
    kind = _TYPES[described["datatype"]]
    length = (described.get("parameters") or {}).get("binary_data_size")
    if length is not None:
        return np.frombuffer(raw[:length], kind), raw[length:]
    values = np.array(described["data"], np.float64).ravel()
    if not (values.size and values.min() >= 0 and (kind == np.int64 or values.max() <= 255)):  # NaN is refused, too
        raise ValueError("pixels lie between 0 and 255")
    return values.astype(kind), raw


def respond(name: str, query: Query, outputs: Mapping[str, Tensor]) -> Response:
    """The response of the model `name`, with the outputs that the query wants."""
    described, raw = [], b""
    for key, binary in (query.outputs or dict.fromkeys(outputs, query.binary)).items():
        values = outputs[key].contiguous().numpy()
        output: dict[str, Any] = {
            "name": key,
            "datatype": _NAMES[str(values.dtype)],
            "shape": list(values.shape),
        }
        if binary:
            output["parameters"] = {"binary_data_size": values.nbytes}
            raw += values.tobytes()
        else:
            output["data"] = values.ravel().tolist()
        described.append(output)
    answer = {"model_name": name, "model_version": "1", "outputs": described}
    head = json.dumps(answer | ({} if query.id is None else {"id": query.id})).encode()
    if not raw:
        return Response(head, media_type="application/json")
    return Response(head + raw, media_type="application/octet-stream", headers={HEADER: str(len(head))})
