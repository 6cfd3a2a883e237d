"""Reads the nodes and constants of an ONNX file from its protobuf bytes, without onnxruntime; nothing is executed.

Only the fields below are read; their numbers are those of onnx.proto.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gmi.assets.protobuf import fields

_FLOAT = 1  # TensorProto.DataType.FLOAT


@dataclass(frozen=True)
class Node:
    """One operation of a graph: its type, and the names of what it takes."""

    op: str
    inputs: tuple[str, ...]


def read_graph(model: bytes) -> tuple[list[Node], dict[str, NDArray[np.float32]]]:
    """The nodes in the graph's order, and its float32 constants by name.

    Kernels have the order (out, in, height, width). Constants of other types are left out. Raises ValueError if the
    bytes are not a protobuf message.
    """
    nodes, values = [], {}
    for number, _, graph in fields(memoryview(model)):
        if number != 7:  # ModelProto.graph
            continue
        for part, _, content in fields(graph):
            if part == 1:  # GraphProto.node
                texts = [(kind, bytes(text).decode()) for kind, _, text in fields(content) if kind in (1, 4)]
                op = next(text for kind, text in texts if kind == 4)
                nodes.append(Node(op, tuple(text for kind, text in texts if kind == 1)))
            elif part == 5:  # GraphProto.initializer
                name, value = _tensor(content)
                if value is not None:
                    values[name] = value
    return nodes, values


def _tensor(tensor: memoryview) -> tuple[str, NDArray[np.float32] | None]:
    """The name and the value, where this is float32 and stored as raw bytes."""
    name, dtype, shape, content = "", 0, [], None
    for number, value, field in fields(tensor):
        if number == 1:
            shape.append(value)
        elif number == 2:
            dtype = value
        elif number == 8:
            name = bytes(field).decode()
        elif number == 9:
            content = field
    if dtype != _FLOAT or content is None:
        return name, None
    return name, np.frombuffer(content, "<f4").reshape(shape)
