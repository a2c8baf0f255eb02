"""Read what is compressed: archives as a whole, and layers that no manifest describes.

The libraries are imported by what reads with them: most archives are not compressed.
"""

from __future__ import annotations

import bz2
import hashlib
import io
import lzma
import zlib
from collections.abc import Callable, Sequence
from typing import BinaryIO, Final, cast

from pusher.dataclass import dataclass
from pusher.errors import ArchiveInvalid, ArchiveTruncated, SourceError
from pusher.oci.media_types import GZIP_MAGIC, ZSTD_MAGIC

HEAD: Final = 10
"""Bytes at the beginning of a file that show how it is compressed."""
_READ: Final = 1 << 20
_MEMORY: Final = 128 << 20
"""Bytes that a decompressor may need: the default limit of `zstd` and `xz -9`."""
_MEMORY_INSIDE: Final = 72 << 20
"""The same for what is compressed once more: what `xz -9` takes."""
_MAX_TIMES: Final = 2
_GZIP_READ: Final = 8 << 10
"""Bytes at once: what follows a member is copied at its end, and members can be as small as 20 bytes."""
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
_GZIP_WITHOUT_FIELDS: Final = GZIP_MAGIC + b"\x08\x00"
"""How a gzip file begins that is deflated and has no name, comment or other field (RFC 1952, 2.3.1)."""
Method = Callable[[BinaryIO, int], BinaryIO]
"""Reads a compressed file in at most so many bytes of memory."""


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


@dataclass(frozen=True)
class Unpacked:
    """What a compressed file is, and what it holds. ``size``: bytes of the latter."""

    digest: str
    diff_id: str
    size: int
    is_plain: bool = False
    """A gzip file of one member, without fields in its header and with nothing behind it. Of others Go's
    reader or gzip may find that they are damaged or end earlier, where ours reads on."""
    is_padded: bool = False
    """A gzip file with zeros between or behind its members. gzip skips them; Go's reader, and so Docker's and
    containerd's, takes them for the next member's header and fails."""


def unpack(stream: BinaryIO, name: str, how: Method) -> Unpacked:
    """Read a compressed file once, to its end. Raises what ``Decompressed`` does."""
    hashed = _Hashed(stream)
    content, size = hashlib.sha256(), 0
    source = io.BufferedReader(hashed, _READ)
    members = _Members(source) if how is _gzip else None
    file = Decompressed(source, name, (lambda *_: cast("BinaryIO", members)) if members else how)
    while data := file.read():
        content.update(data)
        size += len(data)
    while source.read(_READ):  # bzip2 looks at nothing behind its end
        pass
    return Unpacked(
        f"sha256:{hashed.hash.hexdigest()}",
        f"sha256:{content.hexdigest()}",
        size,
        bool(members and members.is_plain),
        bool(members and members.is_padded),
    )


class _Members:
    """Reads gzip as ``_gzip`` does, counts its members and notices other data around them."""

    def __init__(self, file: BinaryIO) -> None:
        from isal import isal_zlib

        self._file = file
        self._data = file.read(_GZIP_READ)
        self._begins_plainly = self._data.startswith(_GZIP_WITHOUT_FIELDS)
        self._new_member = isal_zlib.decompressobj
        self._member = self._new_member(_GZIP_WINDOW)
        self._count = 1
        self.is_padded = False

    @property
    def is_plain(self) -> bool:
        """Whether the file, read to its end, is one member and nothing else."""
        return self._begins_plainly and self._count == 1 and not self.is_padded

    def read(self, size: int) -> bytes:
        """Return at most ``size`` bytes, none at the end. Raises EOFError if the file is cut off."""
        while True:
            if self._member.eof:
                self._data = self._data or self._file.read(_GZIP_READ)
                while self._data.startswith(b"\0"):  # gzip passes over them
                    self.is_padded = True
                    self._data = self._data.lstrip(b"\0") or self._file.read(_GZIP_READ)
                if not self._data:
                    return b""
                self._member = self._new_member(_GZIP_WINDOW)
                self._count += 1
            part = self._member.decompress(self._data, size)
            self._data = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            if part:
                return part
            if not (self._data or self._member.eof):
                self._data = self._file.read(_GZIP_READ)
                if not self._data:
                    raise EOFError


class Decompressed(io.RawIOBase):
    """What a compressed file holds, read forward in bounded memory; ``name`` is the file's."""

    def __init__(self, file: BinaryIO, name: str, how: Method, memory: int = _MEMORY) -> None:
        self._stream = how(file, memory)
        self._memory = memory
        self._name = name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def read(self, size: int = _READ) -> bytes:
        """Return at most ``size`` bytes, none at the end.

        Raises ArchiveTruncated, ArchiveInvalid, SourceError.
        """
        try:
            return self._stream.read(size)
        except EOFError as error:
            raise ArchiveTruncated(
                f"{self._name} is cut off: its compressed data has no end", hint="save or copy it again"
            ) from error
        except Exception as error:
            if not isinstance(error, (OSError, *_damage_errors())):
                raise
            if isinstance(error, OSError) and error.errno is not None:
                raise SourceError(f"cannot read {self._name}: {error.strerror}") from error
            if "memory" in str(error).lower():
                raise ArchiveInvalid(
                    f"{self._name} takes more than {self._memory >> 20} MiB of memory to decompress",
                    hint="unpack it first, with the tool that made it, and push the tar",
                ) from error
            raise ArchiveInvalid(
                f"{self._name} is damaged: its compressed data cannot be read",
                hint="save or copy it again",
            ) from error


def decompression(head: bytes) -> Method | None:
    """Return how to read a file that begins with ``head`` (``HEAD`` bytes), None if it is not compressed."""
    if _is_skippable(head):  # pzstd writes the size of the frame before it
        return _zstd
    return next((how for magic, how in _KINDS if head.startswith(magic)), None) or _bzip2_of(head)


def decompress(file: BinaryIO, name: str, methods: Sequence[Method]) -> BinaryIO | Decompressed:
    """Return ``file`` read by one method after the other."""
    stream: BinaryIO | Decompressed = file
    for number, how in enumerate(methods):
        inner = stream if number == 0 else io.BufferedReader(cast("Decompressed", stream), _READ)
        memory = _MEMORY if number == 0 else _MEMORY_INSIDE
        stream = Decompressed(cast("BinaryIO", inner), name, how, memory)
    return stream


def methods_of(open_again: Callable[[], BinaryIO], name: str) -> tuple[Method, ...]:
    """Return how a file is to be read: () if it is not compressed, two methods for what was compressed twice.

    Raises ArchiveInvalid if it was compressed more often, and what reading it does.
    """
    methods: list[Method] = []
    while True:
        stream = decompress(open_again(), name, methods)
        head = b""
        while len(head) < HEAD and (data := stream.read(HEAD - len(head))):
            head += data
        how = decompression(head)
        if how is None:
            return tuple(methods)
        if len(methods) == _MAX_TIMES:
            raise ArchiveInvalid(
                f"{name} is compressed more than {_MAX_TIMES} times, one within the other",
                hint="unpack it first, and push the tar",
            )
        methods.append(how)


def _is_skippable(head: bytes) -> bool:
    """Return whether a frame begins that has no data (zstd's format, "Skippable Frames")."""
    return head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50


def _damage_errors() -> tuple[type[Exception], ...]:
    """Return what the decompressors raise."""
    import zstandard
    from isal import igzip, isal_zlib

    isal_error = cast("type[Exception]", isal_zlib.IsalError)  # its stub declares an instance
    return igzip.BadGzipFile, isal_error, zlib.error, zstandard.ZstdError, lzma.LZMAError


def _gzip(file: BinaryIO, memory: int) -> BinaryIO:  # noqa: ARG001 - it takes 32 KiB
    from isal import igzip

    return cast("BinaryIO", igzip.IGzipFile(fileobj=file, mode="rb"))  # type: ignore[no-untyped-call]


def _zstd(file: BinaryIO, memory: int) -> BinaryIO:
    import zstandard

    reader = zstandard.ZstdDecompressor(max_window_size=memory)
    return cast("BinaryIO", reader.stream_reader(file, read_size=_READ, read_across_frames=True))


class _Xz(io.RawIOBase):
    """Reads xz in bounded memory, which lzma.LZMAFile cannot."""

    def __init__(self, file: BinaryIO, memory: int) -> None:
        self._file = file
        self._memory = memory
        self._part = self._new_decompressor()

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
                self._part = self._new_decompressor()
            elif self._part.needs_input and not (rest := self._file.read(_READ)):
                raise EOFError
            data = self._part.decompress(rest, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _new_decompressor(self) -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=self._memory)


def _xz(file: BinaryIO, memory: int) -> BinaryIO:
    return io.BufferedReader(_Xz(file, memory), _READ)


def _bzip2(file: BinaryIO, memory: int) -> BinaryIO:  # noqa: ARG001 - it takes 4 MiB
    return cast("BinaryIO", bz2.BZ2File(file))


def _bzip2_of(head: bytes) -> Method | None:
    """Return how to read bzip2, if the file is that: ``BZh`` alone may be the name of a tar's first file."""
    return _bzip2 if head.startswith(b"BZh") and head[4:10] in _BZIP2_BLOCKS else None


_BZIP2_BLOCKS: Final = (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90")
"""How its blocks begin, or its end where it has none."""
_KINDS: Final = ((GZIP_MAGIC, _gzip), (ZSTD_MAGIC, _zstd), (b"\xfd7zXZ\0", _xz))
