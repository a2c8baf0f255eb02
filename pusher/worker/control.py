"""Stop jobs or the whole worker by flags, and measure how long nothing has moved."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from pusher.errors import LeaseLost, Stopped

_LOOK_EVERY: Final = 0.1
"""Seconds between two checks whether to stop."""


class Control:
    """Whether a job, or the whole worker, is to stop. Thread-safe; a signal handler may call ``stop``."""

    def __init__(self, parent: Control | None = None) -> None:
        self._parent = parent
        self._stopped = False
        self._lease_lost = False
        self.reason = ""
        """Why the job alone is to stop, in a sentence; "" for no reason of its own."""
        self._moved_at = self._source_moved_at = time.monotonic()
        self.on_source: Callable[[], None] = lambda: None

    def record_movement(self) -> None:
        """Record that a byte of the job, or of any job of the worker, moved."""
        self._moved_at = time.monotonic()
        if self._parent is not None:
            self._parent.record_movement()

    def record_source_movement(self) -> None:
        """Record that the source delivered data."""
        self.record_movement()
        self._source_moved_at = time.monotonic()
        self.on_source()

    @property
    def seconds_still(self) -> float:
        """Seconds since the last movement."""
        return time.monotonic() - self._moved_at

    @property
    def source_seconds_still(self) -> float:
        """Seconds since the source delivered data, whatever is sent meanwhile."""
        return time.monotonic() - self._source_moved_at

    def stop(self, reason: str = "") -> None:
        """Stop at the end of the chunk; ``reason``: as in the attribute."""
        self.reason = reason or self.reason
        self._stopped = True

    def lose_lease(self) -> None:
        """Record that the job's lease is lost."""
        self._lease_lost = True

    @property
    def stopping(self) -> bool:
        """Whether this or the whole worker is to stop."""
        return self._stopped or (self._parent is not None and self._parent.stopping)

    def check(self) -> None:
        """Raise LeaseLost or Stopped if the caller is to stop."""
        self.check_lease()
        if self.stopping:
            raise Stopped

    def check_lease(self) -> None:
        """Raise LeaseLost if the lease is lost; this is checked inside a chunk, too."""
        if self._lease_lost:
            raise LeaseLost
        if self._parent is not None:
            self._parent.check_lease()

    def wait(self, seconds: float) -> None:
        """Sleep; raise the errors of ``check`` as soon as they occur."""
        end = time.monotonic() + seconds
        self.check()
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK_EVERY))
            self.check()


class Activity:
    """When a worker last made progress: a run without any gives up. Thread-safe."""

    def __init__(self) -> None:
        self._progress_at = self._moved_at = time.monotonic()

    def record_progress(self) -> None:
        """Record that something was acknowledged, prepared or finished."""
        self._progress_at = self._moved_at = time.monotonic()

    def record_movement(self) -> None:
        """Record that bytes moved, whether or not that is progress."""
        self._moved_at = time.monotonic()

    @property
    def seconds_still(self) -> float:
        """Seconds since the last movement."""
        return time.monotonic() - self._moved_at

    @property
    def last_progress(self) -> float:
        """When the last progress was made, by the monotonic clock."""
        return self._progress_at

    @property
    def seconds_idle(self) -> float:
        """Seconds since the last progress."""
        return time.monotonic() - self._progress_at
