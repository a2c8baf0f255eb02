"""Measure how many bytes a second a link takes from all uploads together."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

_CHUNKS: Final = 16
"""Latest chunks that count: the link may have become slower."""
_MEASURABLE: Final = 1 << 20
"""Bytes of a chunk that shows the rate; smaller ones show the response time, unless they take a second."""
_EMPTY: Final = 64 * 1024
"""Bytes of a body, such as a config, whose time is the response time alone."""


class LinkRate:
    """The rate over the latest chunks, without what a response takes anyway. Uploads share the link, so the
    bytes of all count for the time in which at least one of them was sending. Thread-safe."""

    def __init__(self, known: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._known = known
        self._clock = clock
        self._lock = threading.Lock()
        self._response = float("inf")
        self._chunks: deque[tuple[float, float, int]] = deque(maxlen=_CHUNKS)

    def record_chunk(self, size: int, seconds: float) -> None:
        """Record that a chunk of ``size`` bytes was acknowledged just now, after so many seconds."""
        with self._lock:
            if size < _EMPTY:
                self._response = min(seconds, self._response)
            if size >= _MEASURABLE or seconds >= 1:
                self._chunks.append((self._clock(), max(seconds, 0.001), size))

    @property
    def bytes_per_second(self) -> float | None:
        """The measured rate, else the one known from before; None if nothing is known."""
        with self._lock:
            if not self._chunks:
                return self._known
            return sum(size for _, _, size in self._chunks) / self._busy_seconds()

    def _busy_seconds(self) -> float:
        response = 0.0 if self._response == float("inf") else self._response
        # at most half of a chunk's time: the response to a config may have taken long for another reason
        spans = [(at - seconds + min(response, seconds / 2), at) for at, seconds, _ in self._chunks]
        busy, end = 0.0, float("-inf")
        for begin, acknowledged in sorted(spans):
            busy += max(0.0, acknowledged - max(begin, end))
            end = max(end, acknowledged)
        return busy
