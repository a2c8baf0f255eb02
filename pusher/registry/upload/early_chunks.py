"""Begin chunks of a blob that is still being compressed before all of their bytes are there."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Final

from pusher.registry.http.body import BlobFile, Promise
from pusher.registry.upload import chunk_sizes
from pusher.registry.upload.profiles import MIB
from pusher.registry.upload.session import Journal

_CHUNK_SECONDS: Final = 0.5
"""Seconds that one more chunk costs: its response, and its part of the copy that the registry makes of them
all. Measured with serverless-registry at 5 and 10 MB/s and 50 ms."""
_PART: Final = 2 / 3
"""Part of the blob's least size that a chunk gets, as it may turn out smaller."""


def equal_size(size: int, blob: BlobFile) -> int:
    """Return the size of a blob's chunks where all have one size: ``size``, or less for a blob that is still
    being compressed, if its first chunk can then begin at once and that saves more than more chunks cost."""
    if blob.arrival is None or not blob.is_unfinished:
        return size
    expected, seconds = blob.arrival.forecast()
    smaller = max(chunk_sizes.DEFAULT_CHUNK, int(_PART * expected) // MIB * MIB)
    if not smaller <= expected < size:
        return size
    chunks = math.ceil(expected / smaller) + 1
    return smaller if chunks * _CHUNK_SECONDS < seconds else size


class EarlyChunks:
    """The chunks of one blob that are sent while they are made.

    What the registry may have of the blob is recorded before it is sent, as for any chunk, but part by part.
    """

    def __init__(self, blob: BlobFile, journal: Journal) -> None:
        self._arrival = blob.arrival
        self._journal = journal
        self._recorded = 0
        self._is_cut = False

    def promise(self, end: int) -> Promise | None:
        """Return the bytes up to ``end`` if a chunk that ends there can begin now, and not all are there."""
        if self._arrival is None or self._is_cut or self._arrival.held > end:
            return None
        return self._arrival.promise(end)

    def begin(self, promise: Promise, start: int) -> Callable[[int], int] | None:
        """Wait for the first byte after ``start``; return the ``supply`` of a body, None if none comes."""
        supply = partial(self._supply, promise)
        if supply(start) > start:
            return supply
        self.record_cut()
        return None

    def _supply(self, promise: Promise, start: int) -> int:
        """Wait for a byte after ``start``; return how many bytes may be sent, once that is recorded."""
        if start >= self._recorded:
            self._recorded = promise.wait_beyond(start)
            if self._recorded > start:
                self._journal.record_prefix(self._recorded)
        return self._recorded

    def record_cut(self) -> None:
        """Record that the bytes did not come: no more chunks begin before all of theirs are there."""
        self._is_cut = True

    def forget_session(self) -> None:
        """Record that the journal has lost the session, and with it what was recorded."""
        self._recorded = 0
