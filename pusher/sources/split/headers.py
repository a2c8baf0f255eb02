"""Read a tar and keep its headers unchanged, so that entries can be written again byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pusher.errors import ArchiveInvalid
from pusher.sources.tar import reader
from pusher.sources.tar.headers import BLOCK, DESCRIBING, PAX_FOR_ALL, parse_header

_MAX_BYTES: Final = 4 << 20
"""Bytes of the headers of one entry: a long name, a long target, and the extended attributes."""


class HeaderReader(reader.PipeInput):
    """Input of ``reader.walk``: ``read`` keeps the bytes for ``headers``; ``data`` does not."""

    def __init__(self, read_some: Callable[[int], bytes], name: str) -> None:
        super().__init__(read_some, name)
        self._kept: list[bytes] = []
        self._kept_size = 0

    def read(self, size: int) -> bytes:
        data = super().read(size)
        self._kept.append(data)
        self._kept_size += len(data)
        if self._kept_size > _MAX_BYTES:
            raise ArchiveInvalid(
                f"{self.name} is damaged: the headers of one entry have more than {_MAX_BYTES} bytes"
            )
        return data

    def headers(self) -> tuple[bytes, bytes]:
        """Return the global pax headers before the current entry, and its own pax, long names and
        header."""
        kept = b"".join(self._kept)
        self._kept.clear()
        self._kept_size = 0
        common: list[bytes] = []
        own: list[bytes] = []
        position = 0
        while (header := parse_header(kept[position : position + BLOCK])).kind in DESCRIBING:
            end = position + BLOCK + header.size + -header.size % BLOCK
            (common if header.kind == PAX_FOR_ALL else own).append(kept[position:end])
            position = end
        return b"".join(common), b"".join((*own, kept[position:]))

    def data(self, size: int) -> bytes:
        """Read exactly ``size`` bytes of an entry's data, fewer only at the end."""
        return super().read(size)

    def finish(self) -> None:
        """Read what follows the last entry, to the end."""
        while self.skip(1 << 20):
            pass
