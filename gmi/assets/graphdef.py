"""Reads the constants of a frozen TensorFlow graph from its protobuf bytes, without TensorFlow; nothing is executed.

Only the fields below are read; their numbers are those of TensorFlow's graph.proto, node_def.proto, attr_value.proto,
tensor.proto and tensor_shape.proto.
"""

import math

import numpy as np
from numpy.typing import NDArray

from gmi.assets.protobuf import fields

_FLOAT = 1  # DataType.DT_FLOAT


def constants(graph: bytes) -> dict[str, NDArray[np.float32]]:
    """Every float32 constant of a serialised GraphDef by its node's name, in the graph's order.

    Convolution kernels have TensorFlow's order, (height, width, in, out); matrices are (in, out). Constants of other
    types (shapes, axes, strings) are left out. Raises ValueError if the bytes are not a protobuf message.
    """
    values = {}
    for number, _, node in fields(memoryview(graph)):
        if number == 1:  # GraphDef.node
            name, value = _node(node)
            if value is not None:
                values[name] = value
    return values


def _node(node: memoryview) -> tuple[str, NDArray[np.float32] | None]:
    name = op = ""
    value = None
    for number, _, field in fields(node):
        if number == 1:
            name = bytes(field).decode()
        elif number == 2:
            op = bytes(field).decode()
        elif number == 5:  # one entry of NodeDef.attr, a map<string, AttrValue>
            entry = {part: content for part, _, content in fields(field)}
            if bytes(entry[1]) == b"value":
                value = {kind: content for kind, _, content in fields(entry[2])}.get(8)  # AttrValue.tensor
    return name, _tensor(value) if op == "Const" and value is not None else None


def _tensor(tensor: memoryview) -> NDArray[np.float32] | None:
    dtype, shape, content = 0, [], bytearray()
    for number, value, field in fields(tensor):
        if number == 1:
            dtype = value
        elif number == 2:  # TensorShapeProto.dim, each with its size; a size of 0 is not written
            dims = [dim for part, _, dim in fields(field) if part == 2]
            shape = [sum(size for part, size, _ in fields(dim) if part == 1) for dim in dims]
        elif number in (4, 5):  # tensor_content, or float_val: packed, or one value at a time
            content += field
    if dtype != _FLOAT:
        return None
    values = np.frombuffer(content, "<f4")
    # TensorFlow leaves out the end of float_val if it repeats the last value, and everything if all values are zero
    missing = math.prod(shape) - values.size
    return np.pad(values, (0, missing), mode="edge" if values.size else "constant").reshape(shape)
