"""Reads the nodes and constants of an ONNX file from its protobuf bytes, without onnxruntime; nothing is executed.

Only the fields below are read; their numbers are those of onnx.proto.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gmi.assets.protobuf import fields

_FLOATS = {1: "<f4", 10: "<f2", 11: "<f8"}  # TensorProto.DataType: FLOAT, FLOAT16, DOUBLE


@dataclass(frozen=True)
class Node:
    """One operation of a graph: its type, and the names of what it takes."""

    op: str
    inputs: tuple[str, ...]


def read_graph(model: bytes, folder: Path | None = None) -> tuple[list[Node], dict[str, NDArray[np.float32]]]:
    """The nodes in the graph's order, and its constants of floating point by name, as float32.

    folder: where the files lie that hold constants outside the model's. Kernels have the order (out, in, height,
    width). Constants of other types are left out. Raises ValueError if the bytes are not a protobuf message, or if a
    constant lies in a file that is not there.
    """
    nodes, values = [], {}
    for tensor, name in _tensors(model):
        if (value := _value(tensor, folder)) is not None:
            values[name] = value
    for graph in _messages(memoryview(model), 7):  # ModelProto.graph
        for content in _messages(graph, 1):  # GraphProto.node
            texts = [(kind, bytes(text).decode()) for kind, _, text in fields(content) if kind in (1, 4)]
            op = next(text for kind, text in texts if kind == 4)
            nodes.append(Node(op, tuple(text for kind, text in texts if kind == 1)))
    return nodes, values


def external_files(model: bytes) -> list[str]:
    """Names of the files, relative to the model's, that hold constants outside it. Raises ValueError for odd bytes."""
    return sorted({found["location"] for tensor, _ in _tensors(model) if (found := _external(tensor))})


def _messages(message: memoryview, number: int) -> Iterator[memoryview]:
    """The fields of this number."""
    return (content for kind, _, content in fields(message) if kind == number)


def _tensors(model: bytes) -> Iterator[tuple[memoryview, str]]:
    """Every constant of the graph, a TensorProto, and its name: initialisers, and values of Constant nodes."""
    for graph in _messages(memoryview(model), 7):
        for tensor in _messages(graph, 5):  # GraphProto.initializer
            yield tensor, next((bytes(name).decode() for name in _messages(tensor, 8)), "")
        for node in _messages(graph, 1):
            name = next((bytes(output).decode() for output in _messages(node, 2)), "")
            for attribute in _messages(node, 5):  # NodeProto.attribute
                yield from ((tensor, name) for tensor in _messages(attribute, 5))  # AttributeProto.t


def _external(tensor: memoryview) -> dict[str, str]:
    """Where a constant lies outside the file: location, offset, length; empty where it lies within."""
    entries = [{kind: bytes(text).decode() for kind, _, text in fields(entry)} for entry in _messages(tensor, 13)]
    return {entry[1]: entry.get(2, "") for entry in entries}


def _value(tensor: memoryview, folder: Path | None) -> NDArray[np.float32] | None:
    """The value, where it is of floating point: in raw bytes, as packed floats, or in a file of its own."""
    shape, dtype, content = [], 0, None
    for number, value, field in fields(tensor):
        if number == 1:  # dims, each by itself or all packed
            shape += [value] if len(field) == 0 else _packed(field)
        elif number == 2:
            dtype = value
        elif number in (4, 9):  # float_data, raw_data
            content = field if content is None else memoryview(bytes(content) + bytes(field))
    if dtype not in _FLOATS:
        return None
    if outside := _external(tensor):
        if folder is None:
            return None
        try:
            held = (folder / outside["location"]).read_bytes()
        except OSError as error:
            raise ValueError(f"constants lie in {outside['location']}, which cannot be read") from error
        start = int(outside.get("offset") or 0)
        content = memoryview(held)[start : start + int(outside.get("length") or len(held))]
    if content is None:
        return None
    return np.frombuffer(content, _FLOATS[dtype]).reshape(shape).astype(np.float32)


def _packed(field: memoryview) -> list[int]:
    """Unsigned base-128 numbers, one after the other."""
    numbers, value, shift = [], 0, 0
    for byte in field:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(value)
            value = shift = 0
    return numbers
