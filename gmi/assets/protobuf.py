"""Reads protobuf's wire format, for files of graphs: without their schemas, and nothing is executed.

A message is a sequence of (field number, wire type, value), where a value that is itself a message is a sequence of the
same kind.
"""

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types; 3 and 4 (groups) are used neither by TensorFlow nor ONNX


def fields(message: memoryview) -> Iterator[tuple[int, int, memoryview]]:
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
