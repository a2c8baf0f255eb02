"""Measure what all workers of a fleet send together under one limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.support.link import ShakyLink

WINDOW: Final = 10.0
"""Seconds in each of which the rate is kept."""
EXACT_WITHIN: Final = 0.05
_EVERY: Final = 0.1
_GAP: Final = 0.3
"""Seconds between two samples from which on the machine was too busy: nobody sent or passed on in time."""
_SETTLED: Final = 2.0
"""Seconds until every worker has a share, from the first byte on."""
_SATURATED: Final = 0.9
"""Part of the bytes after which a worker may have nothing left to send."""


class RateSamples:
    """How many bytes a link has carried, again and again, while ``total`` bytes are being sent."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._samples: list[tuple[float, int]] = []

    @contextmanager
    def taking(self, link: ShakyLink) -> Iterator[None]:
        """Take samples until the context ends."""
        done = threading.Event()
        before = link.bytes_sent

        def sample() -> None:
            while not done.wait(_EVERY):
                self.add(time.monotonic(), link.bytes_sent - before)

        thread = threading.Thread(target=sample, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def add(self, at: float, count: int) -> None:
        """Add a sample: ``count`` bytes were carried until then."""
        self._samples.append((at, count))

    def rates(self) -> list[float]:
        """Return the bytes a second of each window in which there was always something left to send, and a
        processor for it."""
        began = next((at for at, count in self._samples if count > 0), 0.0)
        busy = [
            (at, count)
            for at, count in self._samples
            if at >= began + _SETTLED and count <= self._total * _SATURATED
        ]
        found, last, late = [], 0, 0
        for first, (at, count) in enumerate(busy):
            last = max(last, first)
            while last < len(busy) and busy[last][0] < at + WINDOW:
                last += 1
                if last < len(busy) and busy[last][0] - busy[last - 1][0] > _GAP:
                    late = last
            if last == len(busy):
                break
            if late <= first:
                found.append((busy[last][1] - count) / (busy[last][0] - at))
        return found
