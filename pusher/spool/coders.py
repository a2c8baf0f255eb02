"""Encode layers as gzip or zstd streams in parts that are compressed independently of each other.

All processors work on one layer, and the result does not depend on their number; libzstd's own threads do not
guarantee that.

gzip is one member without time and name, as ``pigz`` writes it: parts end at a byte boundary (a sync flush).
Levels 1 to 3 are Intel's ISA-L, whose parts use the 32 KiB before them as dictionary, 4 to 12 libdeflate.
Incompressible data is stored, at the speed of a copy.

zstd is a frame for every ``FRAME`` bytes (RFC 8878, 3: frames may follow each other), each with a checksum
and, as in a stream, without its content's size: readers take the first one's for the whole.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, Protocol

import deflate
import isal
import zstandard
from isal import isal_zlib

from pusher.spool.blocks import BLOCK
from pusher.spool.final_block import continue_stream

FRAME: Final = 8 * BLOCK
"""Bytes in a zstd frame: larger ones hardly save a percent at the usual levels, and cost memory."""

ISAL_MAX_LEVEL: Final = 3

_RAW: Final = -15
_WINDOW: Final = 32 * 1024
_HEADER: Final = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
_LAST: Final = b"\x03\0"
"""An empty final deflate block."""

_PIECE: Final = 256 * 1024
"""Bytes of a piece, which is stored or compressed as a whole."""
_STORED: Final = 65535
"""The most that one stored deflate block holds (RFC 1951, 3.2.4)."""
_SAMPLES: Final = 16
_SAMPLE: Final = 512
_STORED_ABOVE: Final = 0.98
"""Pieces whose compressed size is more than this share are stored."""
_ZEROS: Final = 1 / 8
"""Share of zeros from which on a sample need not be compressed to see whether it is worth it."""

Bytes = bytes | memoryview
Work = Callable[[], bytes]
"""Returns a part of the stream. Parts may be computed concurrently, in any thread."""


def gzip_library(level: int) -> str:
    """Return the libraries that compress at a level of gzip, with their versions."""
    smaller = f"deflate-{deflate.__version__}+" if level > ISAL_MAX_LEVEL else ""
    return f"{smaller}isal-{isal.__version__}"


def zstd_library() -> str:
    """Return the library that makes zstd, with its version."""
    return f"zstd-{'.'.join(map(str, zstandard.ZSTD_VERSION))}"


class Coder(Protocol):
    """Splits one layer into parts. The stream is the results of their ``Work``, in order."""

    def take(self, block: bytes) -> Work | None:
        """Take the next block, of ``BLOCK`` bytes unless it is the last; None: more is needed first."""

    def finish(self) -> Work | None:
        """Return the rest of the stream; nothing may follow."""


class Plain:
    """The unchanged blocks."""

    def take(self, block: bytes) -> Work | None:
        return partial(bytes, block)

    def finish(self) -> Work | None:
        return None


class Zstd:
    """A frame for every ``FRAME`` bytes."""

    def __init__(self, level: int) -> None:
        self._level = level
        self._blocks: list[bytes] = []
        self._begun = False

    def take(self, block: bytes) -> Work | None:
        self._blocks.append(block)
        return self._frame() if len(self._blocks) * BLOCK == FRAME else None

    def finish(self) -> Work | None:
        return self._frame() if self._blocks or not self._begun else None  # of nothing: an empty frame

    def _frame(self) -> Work:
        blocks, self._blocks = self._blocks, []
        self._begun = True
        return partial(_zstd_frame, self._level, blocks)


def _zstd_frame(level: int, blocks: list[bytes]) -> bytes:
    packer = zstandard.ZstdCompressor(level=level, write_checksum=True, write_content_size=False)
    return packer.compress(b"".join(blocks))


class Gzip:
    """One member; each block is a part."""

    def __init__(self, level: int) -> None:
        self._encode = partial(_encode_fast if level <= ISAL_MAX_LEVEL else _encode_small, level)
        self._head = _HEADER
        self._before = b""
        self._crc = 0
        self._size = 0

    def take(self, block: bytes) -> Work | None:
        before, self._before = self._before, block[-_WINDOW:]
        self._crc = isal_zlib.crc32(block, self._crc)
        self._size += len(block)
        return partial(_gzip_part, self._encode, self._rest_of_head(), before, block)

    def finish(self) -> Work | None:
        trailer = struct.pack("<II", self._crc, self._size & 0xFFFFFFFF)
        return partial(bytes, self._rest_of_head() + _LAST + trailer)

    def _rest_of_head(self) -> bytes:
        head, self._head = self._head, b""
        return head


def _gzip_part(
    encode: Callable[[bytes, bytes], Iterator[Bytes]], head: bytes, before: bytes, block: bytes
) -> bytes:
    return b"".join((head, *encode(before, block)))


def _encode_fast(level: int, before: Bytes, block: bytes) -> Iterator[Bytes]:
    """Yield deflate blocks by ISA-L; they end at a byte boundary."""
    view = memoryview(block)  # its slices are no copies
    for start in range(0, len(block), _PIECE):
        piece = view[start : start + _PIECE]
        yield from _store(piece) if _looks_like_noise(piece) else _compress_fast(level, before, piece)
        before = piece[-_WINDOW:]


def _encode_small(level: int, before: Bytes, block: bytes) -> Iterator[Bytes]:  # noqa: ARG001
    """Yield deflate blocks by libdeflate, which has no dictionary; they end at a byte boundary."""
    begun = 0
    for start in range(0, len(block), _PIECE):
        piece = block[start : start + _PIECE]
        # libdeflate is so slow that a check pays: noise may still have repetitions
        if _looks_like_noise(piece) and not _is_worth_it(piece):
            if begun < start:
                yield _compress_small(level, block[begun:start])
            yield from _store(piece)
            begun = start + len(piece)
    if begun < len(block):
        yield _compress_small(level, block[begun:])


def _compress_fast(level: int, before: Bytes, data: Bytes) -> Iterator[bytes]:
    packer = isal_zlib.compressobj(level, wbits=_RAW, zdict=before)
    yield packer.compress(data)
    yield packer.flush(isal_zlib.Z_SYNC_FLUSH)


def _compress_small(level: int, data: bytes) -> bytes:
    stream = continue_stream(bytes(deflate.deflate_compress(data, level)), data)
    # one part of some hundred has an end from which its stream cannot be continued
    return b"".join(_compress_fast(ISAL_MAX_LEVEL, b"", data)) if stream is None else stream


def _looks_like_noise(piece: Bytes) -> bool:
    """Return whether samples of a piece are incompressible: encrypted, compressed, random."""
    step = len(piece) // _SAMPLES
    if step < _SAMPLE:
        return False
    sample = b"".join(piece[at : at + _SAMPLE] for at in range(0, len(piece), step))
    return not (_is_plain(sample) or _is_worth_it(sample))


def _is_plain(sample: bytes) -> bool:
    """Return whether a sample is certainly worth compressing, which is much faster than to try: ASCII takes
    7 bits a byte at most, bytes with an eighth of zeros 7.6."""
    return sample.isascii() or sample.count(0) >= len(sample) * _ZEROS


def _is_worth_it(data: bytes) -> bool:
    return len(isal_zlib.compress(data, 1, _RAW)) < len(data) * _STORED_ABOVE


def _store(piece: Bytes) -> Iterator[Bytes]:
    """Yield stored deflate blocks with the bytes; the data before them must end at a byte boundary."""
    for start in range(0, len(piece), _STORED):
        data = piece[start : start + _STORED]
        yield struct.pack("<BHH", 0, len(data), len(data) ^ 0xFFFF)
        yield data
