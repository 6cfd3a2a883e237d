"""Reads the constants of a frozen TensorFlow graph from its protobuf bytes, without TensorFlow; nothing is executed.

A GraphDef is in protobuf's wire format: a sequence of (field number, wire type, value), where a value that is itself a
message is a sequence of the same kind. Only the fields below are read; their numbers are those of TensorFlow's
graph.proto, node_def.proto, attr_value.proto, tensor.proto and tensor_shape.proto.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_FLOAT = 1  # DataType.DT_FLOAT
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types; 3 and 4 (groups) are not used by TensorFlow


def constants(graph: bytes) -> dict[str, NDArray[np.float32]]:
    """Every float32 constant of a serialised GraphDef by its node's name, in the graph's order.

    Convolution kernels have TensorFlow's order, (height, width, in, out); matrices are (in, out). Constants of other
    types (shapes, axes, strings) are left out. Raises ValueError if the bytes are not a protobuf message.
    """
    values = {}
    for number, _, node in _fields(memoryview(graph)):
        if number == 1:  # GraphDef.node
            name, value = _node(node)
            if value is not None:
                values[name] = value
    return values


def _node(node: memoryview) -> tuple[str, NDArray[np.float32] | None]:
    name = op = ""
    value = None
    for number, _, field in _fields(node):
        if number == 1:
            name = bytes(field).decode()
        elif number == 2:
            op = bytes(field).decode()
        elif number == 5:  # one entry of NodeDef.attr, a map<string, AttrValue>
            entry = {part: content for part, _, content in _fields(field)}
            if bytes(entry[1]) == b"value":
                value = {kind: content for kind, _, content in _fields(entry[2])}.get(8)  # AttrValue.tensor
    return name, _tensor(value) if op == "Const" and value is not None else None


def _tensor(tensor: memoryview) -> NDArray[np.float32] | None:
    dtype, shape, content = 0, [], bytearray()
    for number, value, field in _fields(tensor):
        if number == 1:
            dtype = value
        elif number == 2:  # TensorShapeProto.dim, each with its size; a size of 0 is not written
            dims = [dim for part, _, dim in _fields(field) if part == 2]
            shape = [sum(size for part, size, _ in _fields(dim) if part == 1) for dim in dims]
        elif number in (4, 5):  # tensor_content, or float_val: packed, or one value at a time
            content += field
    if dtype != _FLOAT:
        return None
    values = np.frombuffer(content, "<f4")
    # TensorFlow leaves out the end of float_val if it repeats the last value, and everything if all values are zero
    missing = math.prod(shape) - values.size
    return np.pad(values, (0, missing), mode="edge" if values.size else "constant").reshape(shape)


def _fields(message: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """The fields of one message, each as (field number, value of a varint or 0, bytes of any other type or none)."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield number, value, message[:0]
            continue
        if wire == _BYTES:
            size, at = _varint(message, at)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"not a protobuf message: wire type {wire} before byte {at}")
        if at + size > len(message):
            raise ValueError(f"not a protobuf message: {size} bytes announced at byte {at} of {len(message)}")
        yield number, 0, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """An unsigned base-128 number, least significant group first, and the position after it."""
    value = shift = 0
    while at < len(message):
        byte = message[at]
        value |= (byte & 0x7F) << shift
        shift += 7
        at += 1
        if byte < 0x80:
            return value, at
    raise ValueError("not a protobuf message: it ends within a number")
