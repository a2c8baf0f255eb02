"""Define kinds and levels of compression. The same tar, kind, level and library give the same bytes.

The libraries are imported once a layer is to be compressed: most pushes compress none.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from pusher.dataclass import dataclass
from pusher.errors import InvalidOption
from pusher.oci import media_types
from pusher.processors import count_processors

if TYPE_CHECKING:
    from pusher.spool.coders import Coder

_MAX_THREADS: Final = 16
"""Most threads: with more, hashing is the bottleneck, and each takes memory."""
_MAX_HUNGRY_THREADS: Final = 8
_HUNGRY_FROM: Final = 10
"""The level of gzip from which on a thread takes three times the memory, 6 MB."""


class Kind(StrEnum):
    """The compressions that registries and clients support."""

    GZIP = "gzip"
    ZSTD = "zstd"
    NONE = "none"


_LEVELS: Final[Mapping[Kind, tuple[int, int, int]]] = {
    Kind.GZIP: (1, 12, 2),
    Kind.ZSTD: (1, 19, 3),
    Kind.NONE: (0, 0, 0),
}
"""Lowest, highest and usual level."""


@dataclass(frozen=True)
class Compression:
    """A kind with its level (0 for ``none``). ``threads``: None for as many as there are processors; the
    bytes do not depend on it. InvalidOption if there is no such level."""

    kind: Kind
    level: int
    threads: int | None = None

    def __post_init__(self) -> None:
        lowest, highest, _ = _LEVELS[self.kind]
        if lowest <= self.level <= highest:
            return
        if self.kind is Kind.NONE:
            raise InvalidOption(
                f"compression none has no level {self.level}", hint="leave out --compression-level"
            )
        raise InvalidOption(
            f"{self.level} is not a compression level of {self.kind}",
            hint=f"use --compression-level {lowest} (fastest) to {highest} (smallest)",
        )

    @classmethod
    def of(cls, kind: Kind, level: int | None = None, threads: int | None = None) -> Compression:
        """Return the compression, at the kind's default level if none is given. Raises InvalidOption."""
        return cls(kind, _LEVELS[kind][2] if level is None else level, threads)

    @property
    def label(self) -> str:
        """The label stored with a blob: libraries, their versions and the level, e.g. ``isal-1.9.1:2``."""
        if self.kind is Kind.NONE:
            return str(self.kind)
        from pusher.spool.coders import gzip_library, zstd_library

        library = zstd_library() if self.kind is Kind.ZSTD else gzip_library(self.level)
        return f"{library}:{self.level}"

    @property
    def media_type(self) -> str:
        """The media type of layers compressed like this."""
        return {
            Kind.GZIP: media_types.DOCKER_LAYER_GZIP,
            Kind.ZSTD: media_types.OCI_LAYER_ZSTD,
            Kind.NONE: media_types.OCI_LAYER,
        }[self.kind]

    @property
    def workers(self) -> int:
        """Threads that work on one layer."""
        if self.kind is Kind.NONE:
            return 1
        is_hungry = self.kind is Kind.GZIP and self.level >= _HUNGRY_FROM
        return self.threads or min(count_processors(), _MAX_HUNGRY_THREADS if is_hungry else _MAX_THREADS)

    def coder(self) -> Coder:
        """Return a coder for a new stream."""
        from pusher.spool.coders import Gzip, Plain, Zstd

        if self.kind is Kind.NONE:
            return Plain()
        return Zstd(self.level) if self.kind is Kind.ZSTD else Gzip(self.level)

    def __str__(self) -> str:
        return f"{self.kind} {self.level}" if self.level else str(self.kind)


GZIP: Final = Compression.of(Kind.GZIP)
"""The default, which every registry and client accepts."""
