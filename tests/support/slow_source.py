"""Layers that are read in small blocks, and not to their end before a test says so."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

import pytest

from pusher.spool import blocks, pipeline
from pusher.spool.blocks import Readable

BLOCK: Final = 4096
"""Bytes of a block: compressed, each can be read as soon as it is written."""


class SlowSource:
    """Reads layers in blocks of ``BLOCK`` bytes; before block ``at`` of each layer ``hold`` is called."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.at = 0
        self.hold: Callable[[], object] = lambda: None
        self._stream: Readable | None = None
        self._count = 0
        self._patch = patch
        patch.setattr(pipeline, "read_block", self._read)

    def write_at_once(self) -> None:
        """Have each block written before the next one is read."""

        def write(writer: Any, part: Future[bytes]) -> None:
            writer._take(part.result())

        self._patch.setattr(pipeline._Writer, "put", write)

    def hold_at(self, at: int, hold: Callable[[], object]) -> None:
        """Call ``hold`` in the thread that compresses, before it reads block ``at`` (from 1 on)."""
        self.at, self.hold = at, hold

    def _read(self, stream: Readable, size: int = BLOCK) -> bytes:
        if stream is not self._stream:
            self._stream, self._count = stream, 0
        self._count += 1
        if self._count == self.at:
            self.hold()
        return original(stream, size)


original = blocks.read_block
