"""Deterministic gzip: the same tar and the same compressor always give the same bytes, hence the same digest.

Levels 1 to 3 are Intel's ISA-L, 4 to 9 are zlib. Neither writes a time or a name into the header. ISA-L's
output depends on how its input is cut, so it must be fed blocks of one size (``pipeline`` does).
"""

from __future__ import annotations

import zlib
from typing import Final, Protocol

import isal
from isal import isal_zlib

from pusher.errors import InvalidOption

MIN_LEVEL: Final = 1
MAX_LEVEL: Final = 9
_ISAL_MAX_LEVEL: Final = 3
_GZIP_CONTAINER: Final = 31


class Compressor(Protocol):
    """What zlib and ISA-L have in common. Both let other threads run while they work."""

    def compress(self, data: bytes, /) -> bytes:
        """Take ``data``; give what is ready."""

    def flush(self) -> bytes:
        """Give the rest; nothing may follow."""


def compressor(level: int) -> Compressor:
    """A gzip stream of this level; InvalidOption outside 1 to 9."""
    check_level(level)
    if level <= _ISAL_MAX_LEVEL:
        return isal_zlib.compressobj(level, wbits=_GZIP_CONTAINER)
    return zlib.compressobj(level, wbits=_GZIP_CONTAINER)


def label(level: int) -> str:
    """What is recorded with a blob: library, its version and the level, e.g. ``isal-1.9.1:2``."""
    check_level(level)
    if level <= _ISAL_MAX_LEVEL:
        return f"isal-{isal.__version__}:{level}"
    return f"zlib-{zlib.ZLIB_RUNTIME_VERSION}:{level}"


def check_level(level: int) -> None:
    """InvalidOption if ``level`` is no compression level."""
    if not MIN_LEVEL <= level <= MAX_LEVEL:
        raise InvalidOption(
            f"{level} is no compression level",
            hint=f"use --compression-level {MIN_LEVEL} (fastest) to {MAX_LEVEL} (smallest)",
        )
