"""Let a complete deflate stream continue: clear the mark of its final block, and end it at a byte boundary.

libdeflate makes complete streams only, and does not tell where their blocks are. zlib's gzjoin
(https://github.com/madler/zlib/blob/develop/examples/gzjoin.c) finds the final block by an option of inflate
that Python's zlib lacks. Here it is found by what inflate writes: nothing while it reads the header of a
block with codes of its own, which is some 50 bytes long. Every result is decompressed and compared before it
is returned: a wrong guess costs time, never a layer.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from zlib import _Decompress

_SYNC: Final = b"\0\0\xff\xff"
"""An empty stored block (RFC 1951, 3.2.4) without its first three bits, which are zeros."""
_END: Final = b"\x03\0"
"""An empty final block."""
_RAW: Final = -15
_SEGMENT: Final = 16 * 1024
"""Bytes of the stream between two copies of inflate's state."""
_STEPS: Final = (16, 4)
"""Bytes of the stream after which to look whether inflate wrote something: less than half of a header. Few
headers are shorter, and in so few bytes inflate may write nothing elsewhere, too."""
_LONGEST: Final = 320 * 1024
"""Bytes of the stream in which libdeflate's final block begins: it holds at most 305,000 bytes of data."""
_BEFORE: Final = 128
"""Bytes before the middle of a header in which to look for its beginning."""
_LONGEST_CODE: Final = 15
"""Bits of the code that ends the block before."""
_OWN_CODES: Final = 0b101
"""The first three bits of a final block with codes of its own, the last bit in front."""
_STORED_MOST: Final = 65535
"""The most bytes that one stored block holds."""


class _Point(NamedTuple):
    """Inflate's ``state`` after it has taken so many bytes of the stream and given so many."""

    taken: int
    given: int
    state: _Decompress


def continue_stream(stream: bytes, data: bytes) -> bytes | None:
    """Return ``stream``, which decompresses to ``data``, changed so that another one can follow it.

    Return None if that is not possible: its final block has the fixed codes, or it is not ``data``'s stream.
    """
    points = _decompress(stream, data)
    if not points:
        return None
    for point, bit in _final_blocks(points, stream):
        found = _clear(point, stream, bit, data)
        if found is not None:
            return found
    return None


def _decompress(stream: bytes, data: bytes) -> list[_Point]:
    """Return points of ``stream``, in order; none if it is not ``data``'s."""
    points, state, given = [], zlib.decompressobj(_RAW), 0
    for at in range(0, len(stream), _SEGMENT):
        points.append(_Point(at, given, state.copy()))
        output = state.decompress(stream[at : at + _SEGMENT])
        if not data.startswith(output, given):
            return []
        given += len(output)
    return points if state.eof and given == len(data) else []


def _final_blocks(points: list[_Point], stream: bytes) -> Iterator[tuple[_Point, int]]:
    """Yield the bits at which the final block may begin, each with a point before it."""
    if stream[0] & 1:  # the first block is the final one
        yield points[0], 0
        return
    for step in _STEPS:
        header = _find_last_header(points, stream, step)
        if header is None:
            continue
        point, last = _find_last_output(_last_before(points, header - _BEFORE), stream, header)
        bits = int.from_bytes(stream[last : last + 4], "little")
        for bit in range(1, 8 + _LONGEST_CODE):
            if bits >> bit & 0b111 == _OWN_CODES:
                yield point, 8 * last + bit
    stored = _find_stored(stream)
    if stored is not None:
        yield _last_before(points, stored // 8), stored


def _find_last_header(points: list[_Point], stream: bytes, step: int) -> int | None:
    """Return a byte inside the header of the last block with codes of its own."""
    for point in reversed(points):
        if point.taken + _SEGMENT < len(stream) - _LONGEST:
            break
        state, found, was_header = point.state.copy(), None, False
        for at in range(point.taken, min(point.taken + _SEGMENT + _BEFORE, len(stream) - step), step):
            is_header = not state.decompress(stream[at : at + step])
            if is_header and not was_header:
                found = at
            was_header = is_header
        if found is not None:
            return found
    return None


def _find_last_output(point: _Point, stream: bytes, header: int) -> tuple[_Point, int]:
    """Return a point before the header, and the last byte before it that lets inflate write something."""
    start = max(point.taken, header - _BEFORE)
    state = point.state.copy()
    given = point.given + len(state.decompress(stream[point.taken : start]))
    before = _Point(start, given, state.copy())
    last = start
    for at in range(start, header):
        if state.decompress(stream[at : at + 1]):
            last = at
    return before, last


def _find_stored(stream: bytes) -> int | None:
    """Return the first bit of the final block if it is a stored one."""
    for size in range(1, min(_STORED_MOST, len(stream) - 5) + 1):
        at = len(stream) - size - 4
        if stream[at : at + 4] == size.to_bytes(2, "little") + (size ^ 0xFFFF).to_bytes(2, "little"):
            # nothing but zeros is between the block's first bit, which is set, and its size
            before = max(0, at - 2)
            return 8 * before + int.from_bytes(stream[before:at], "little").bit_length() - 1
    return None


def _last_before(points: list[_Point], byte: int) -> _Point:
    return next(point for point in reversed(points) if point.taken <= max(0, byte))


def _clear(point: _Point, stream: bytes, bit: int, data: bytes) -> bytes | None:
    """Clear a bit after ``point``, end the stream at a byte boundary; None if it is not ``data``'s then."""
    tail = bytearray(stream[point.taken :])
    tail[bit // 8 - point.taken] &= ~(1 << bit % 8)
    # the first three bits of the empty block have room in the last byte, or begin another one
    for gap in (b"", b"\0"):
        ending = bytes(tail) + gap + _SYNC
        state = point.state.copy()
        try:
            output = state.decompress(ending + _END)
        except zlib.error:
            continue
        if state.eof and not state.unused_data and output == data[point.given :]:
            return stream[: point.taken] + ending
    return None
