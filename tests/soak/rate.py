"""Measure what all workers of a fleet send together under one limit."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from tests.soak.processor_waits import ProcessorWaits
from tests.support.link import ShakyLink

WINDOW: Final = 10.0
"""Seconds in each of which the rate is kept."""
EXACT_WITHIN: Final = 0.05
_EVERY: Final = 0.1
_GAP: Final = 0.3
"""Seconds between two samples from which on the machine was too busy: nobody sent or passed on in time."""
_STARVED: Final = 0.1
"""Part of the time that the workers' threads wait for a processor, per worker, from which on it is not pusher
that decides what they send."""
_WAITS_EVERY: Final = 10
"""Samples between two measurements of it."""
_SETTLED: Final = 2.0
"""Seconds until every worker has a share, from the first byte on."""
_SATURATED: Final = 0.9
"""Part of the bytes after which a worker may have nothing left to send."""


class _Sample(NamedTuple):
    at: float
    sent: int
    waited: float


class RateSamples:
    """How many bytes a link has carried, again and again, while ``total`` bytes are being sent."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._samples: list[_Sample] = []

    @contextmanager
    def taking(self, link: ShakyLink, workers: Callable[[], Sequence[int]]) -> Iterator[None]:
        """Take samples until the context ends; ``workers`` returns the processes of the workers."""
        done = threading.Event()
        before = link.bytes_sent

        def sample() -> None:
            waits, waited = ProcessorWaits(), 0.0
            for number in itertools.count():
                if done.wait(_EVERY):
                    return
                processes = workers()
                if number % _WAITS_EVERY == 0 and processes:
                    waits.add(processes)
                    waited = waits.seconds / len(processes)
                self.add(time.monotonic(), link.bytes_sent - before, waited)

        thread = threading.Thread(target=sample, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def add(self, at: float, count: int, waited: float = 0.0) -> None:
        """Add a sample: ``count`` bytes were carried until then, and a worker ``waited`` so many seconds for
        a processor."""
        self._samples.append(_Sample(at, count, waited))

    def rates(self) -> list[float]:
        """Return the bytes a second of each window in which there was always something left to send, and a
        processor for it."""
        began = next((each.at for each in self._samples if each.sent > 0), 0.0)
        used = [
            each
            for each in self._samples
            if each.at >= began + _SETTLED and each.sent <= self._total * _SATURATED
        ]
        found, last, late = [], 0, 0
        for first, begin in enumerate(used):
            last = max(last, first)
            while last < len(used) and used[last].at < begin.at + WINDOW:
                last += 1
                if last < len(used) and used[last].at - used[last - 1].at > _GAP:
                    late = last
            if last == len(used):
                break
            end = used[last]
            seconds = end.at - begin.at
            if late <= first and end.waited - begin.waited < _STARVED * seconds:
                found.append((end.sent - begin.sent) / seconds)
        return found
