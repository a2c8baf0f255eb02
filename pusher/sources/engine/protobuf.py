"""Write and read Protocol Buffers messages by field numbers: integers and bytes, which is all that is needed.

The encoding: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Mapping


def encode_field(number: int, value: int | bytes) -> bytes:
    """Return a field: an integer, or bytes."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    written = bytearray()
    while value >= 128:
        written.append(value & 127 | 128)
        value >>= 7
    return bytes((*written, value))


def decode_fields(message: memoryview) -> Mapping[int, int | memoryview]:
    """Return the fields of a message by number, the last of each. Raises ValueError."""
    view, at = message, 0
    found: dict[int, int | memoryview] = {}
    try:
        while at < len(view):
            key, at = _read_varint(view, at)
            number, kind = key >> 3, key & 7
            if kind == 0:
                found[number], at = _read_varint(view, at)
            elif kind in (1, 5):
                at += 8 if kind == 1 else 4
            elif kind == 2:
                size, at = _read_varint(view, at)
                if at + size > len(view):
                    raise ValueError("a field ends after its message")
                found[number], at = view[at : at + size], at + size
            else:
                raise ValueError(f"a field of kind {kind}")
    except IndexError:
        raise ValueError("the message is cut off") from None
    return found


def bytes_field(message: memoryview, number: int) -> memoryview:
    """Return a field of bytes, empty where it is missing. Raises ValueError."""
    found = decode_fields(message).get(number, memoryview(b""))
    if isinstance(found, int):
        raise ValueError(f"field {number} is an integer")
    return found


def _read_varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte, at = view[at], at + 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("an integer of more than 64 bits")
