"""Read a part of a file, or several pieces of bytes, as one stream."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from typing import BinaryIO

from pusher.errors import ArchiveTruncated, SourceError


class FileRange(io.RawIOBase):
    """``length`` bytes of an open file from ``offset``; the file's own position is neither used nor moved."""

    def __init__(self, file: BinaryIO, offset: int, length: int, name: str) -> None:
        self._file = file
        self._start = offset
        self._position = 0
        self._length = length
        self._name = name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        view = memoryview(buffer)[: self._length - self._position]
        if not view:
            return 0
        try:
            count = os.preadv(self._file.fileno(), [view], self._start + self._position)
        except OSError as error:
            raise SourceError(f"cannot read {self._name}: {error.strerror or error}") from error
        if count == 0:
            raise ArchiveTruncated(
                f"{self._name} became shorter while it was read",
                hint="write the archive again",
            )
        self._position += count
        return count


class Joined(io.RawIOBase):
    """Pieces of bytes one after the other."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = memoryview(piece)
        count = min(len(self._left), len(buffer))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


def open_buffered(raw: io.RawIOBase) -> BinaryIO:
    """Return ``raw`` as a stream whose ``read(n)`` gives n bytes, fewer at the end only."""
    return io.BufferedReader(raw, 1 << 16)
