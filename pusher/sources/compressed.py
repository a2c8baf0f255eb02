"""Reading what is compressed: archives as a whole, and layers that no manifest describes."""

from __future__ import annotations

import bz2
import hashlib
import io
import lzma
import zlib
from collections.abc import Callable
from typing import BinaryIO, Final, cast

import zstandard
from isal import igzip, isal_zlib

from pusher.errors import ArchiveInvalid, ArchiveTruncated, SourceError
from pusher.oci.media_types import GZIP_MAGIC, ZSTD_MAGIC

_READ: Final = 1 << 20
_MEMORY: Final = 128 << 20
"""Bytes that a decompressor may need: what `zstd` and `xz -9` take without being told to."""
_ISAL_ERROR = cast("type[Exception]", isal_zlib.IsalError)  # its stub declares an instance
_DAMAGED: Final = (igzip.BadGzipFile, _ISAL_ERROR, zlib.error, zstandard.ZstdError, lzma.LZMAError)


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
        with _gzip(source) as file:
            while data := file.read(_READ):
                content.update(data)
    except (EOFError, *_DAMAGED) as error:
        raise ValueError(str(error)) from error
    return f"sha256:{hashed.hash.hexdigest()}", f"sha256:{content.hexdigest()}"


class Decompressed:
    """What a compressed file holds, read forward in bounded memory; ``name`` is the file's."""

    def __init__(self, file: BinaryIO, name: str, how: Callable[[BinaryIO], BinaryIO]) -> None:
        self._stream = how(file)
        self._name = name

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes, none at the end. Raises ArchiveTruncated, ArchiveInvalid, SourceError."""
        try:
            return self._stream.read(size)
        except EOFError as error:
            raise ArchiveTruncated(
                f"{self._name} is cut off: its compressed data has no end", hint="save or copy it again"
            ) from error
        except (OSError, *_DAMAGED) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise SourceError(f"cannot read {self._name}: {error.strerror}") from error
            if "memory" in str(error).lower():
                raise ArchiveInvalid(
                    f"{self._name} takes more than {_MEMORY >> 20} MiB of memory to decompress",
                    hint="unpack it first, with the tool that made it, and push the tar",
                ) from error
            raise ArchiveInvalid(
                f"{self._name} is damaged: its compressed data cannot be read",
                hint="save or copy it again",
            ) from error


def decompression(head: bytes) -> Callable[[BinaryIO], BinaryIO] | None:
    """How to read a file that begins with ``head`` (at least 6 bytes), None if it is not compressed."""
    return next((how for magic, how in _KINDS if head.startswith(magic)), None)


def _gzip(file: BinaryIO) -> BinaryIO:
    return cast("BinaryIO", igzip.IGzipFile(fileobj=file, mode="rb"))  # type: ignore[no-untyped-call]


def _zstd(file: BinaryIO) -> BinaryIO:
    reader = zstandard.ZstdDecompressor(max_window_size=_MEMORY)
    return cast("BinaryIO", reader.stream_reader(file, read_size=_READ, read_across_frames=True))


class _Xz(io.RawIOBase):
    """lzma.LZMAFile has no limit of memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._part = self._begun()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = b""
        while not data:
            rest = self._part.unused_data
            if self._part.eof:
                rest = (rest or self._file.read(_READ)).lstrip(b"\0")  # streams are padded with zeros
                if not rest:
                    return 0
                self._part = self._begun()
            elif self._part.needs_input and not (rest := self._file.read(_READ)):
                raise EOFError
            data = self._part.decompress(rest, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    @staticmethod
    def _begun() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY)


def _xz(file: BinaryIO) -> BinaryIO:
    return io.BufferedReader(_Xz(file), _READ)


def _bzip2(file: BinaryIO) -> BinaryIO:
    return cast("BinaryIO", bz2.BZ2File(file))


_KINDS: Final = ((GZIP_MAGIC, _gzip), (ZSTD_MAGIC, _zstd), (b"\xfd7zXZ\0", _xz), (b"BZh", _bzip2))
