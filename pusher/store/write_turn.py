"""Take turns with other processes that write to the same SQLite file.

A process that waits for SQLite's lock sleeps between its attempts, up to 100 ms. One whose threads write one
after the other would never be seen without the lock, and keep all other processes waiting.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final

LONGEST_RUN: Final = 0.5
"""Seconds that one process writes while others may be waiting."""
GAP: Final = 0.11
"""Seconds without the lock after that: more than SQLite's longest sleep (sqliteDefaultBusyCallback)."""


class WriteTurn:
    """A lock for the writing threads of this process, which are slowed down where they leave no gaps."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._sleep = sleep
        self._run_began = self._ended = clock()
        self._idle = 0.0
        """Seconds without the lock since the run began."""

    def take(self) -> None:
        """Wait for the lock, and leave a gap before if that is due."""
        self._lock.acquire()
        try:
            now = self._clock()
            self._idle += now - self._ended
            if self._idle < GAP and now - self._run_began >= LONGEST_RUN:
                self._sleep(GAP)
                self._idle += GAP
            if self._idle >= GAP:
                self._run_began, self._idle = self._clock(), 0.0
        except BaseException:  # Ctrl-C
            self._lock.release()
            raise

    def give_back(self) -> None:
        """Release the lock, from any thread."""
        self._ended = self._clock()
        self._lock.release()

    def __enter__(self) -> None:
        self.take()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_back()
