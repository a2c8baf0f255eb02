"""Reading a compressed layer that no manifest describes."""

from __future__ import annotations

import hashlib
import io
import zlib
from typing import BinaryIO, Final, cast

from isal import igzip, isal_zlib

_READ: Final = 1 << 20
_ISAL_ERROR = cast("type[Exception]", isal_zlib.IsalError)  # its stub declares an instance


class _Hashed(io.RawIOBase):
    """A stream that hashes what is read from it."""

    def __init__(self, stream: BinaryIO) -> None:
        self.hash = hashlib.sha256()
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._stream.read(len(buffer))
        self.hash.update(data)
        buffer[: len(data)] = data
        return len(data)


def digest_of_gzip(stream: BinaryIO) -> tuple[str, str]:
    """The digest of a gzip file and that of what it holds, in one pass; ValueError if it is damaged."""
    hashed = _Hashed(stream)
    content = hashlib.sha256()
    source = io.BufferedReader(hashed, _READ)
    try:
        with igzip.IGzipFile(fileobj=source, mode="rb") as file:  # type: ignore[no-untyped-call]
            while data := file.read(_READ):
                content.update(data)
    except (EOFError, igzip.BadGzipFile, _ISAL_ERROR, zlib.error) as error:
        raise ValueError(str(error)) from error
    return f"sha256:{hashed.hash.hexdigest()}", f"sha256:{content.hexdigest()}"
