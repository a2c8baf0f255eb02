"""Read streams in blocks."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Final, Protocol

BLOCK: Final = 1 << 20
"""Bytes of each block that a coder takes; only the last one is shorter."""
_BUFFER: Final = 256 * 1024
"""Bytes that are copied at a time."""


class Readable(Protocol):
    """A stream of bytes: a file, a pipe."""

    def read(self, size: int, /) -> bytes:
        """Read at most ``size`` bytes; none at the end."""


def read_block(stream: Readable, size: int = BLOCK) -> bytes:
    """Read exactly ``size`` bytes, fewer only at the end; a pipe's ``read`` may return fewer."""
    data = stream.read(size)
    if len(data) in (0, size):
        return data
    parts, missing = [data], size - len(data)
    while missing and (data := stream.read(missing)):
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)


def read_blocks(stream: Readable) -> Iterator[bytes | memoryview]:
    """Yield all that is in ``stream``; a block is valid until the next one.

    One buffer stays in the processor's cache, where new memory for each block does not.
    """
    if not isinstance(stream, io.BufferedIOBase):
        yield from iter(lambda: stream.read(BLOCK), b"")
        return
    buffer = memoryview(bytearray(_BUFFER))
    while count := stream.readinto(buffer):
        yield buffer[:count]
