"""Stopping: one flag for the whole worker, one for each job."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from pusher.errors import LeaseLost, Stopped

_LOOK_EVERY: Final = 0.1
"""Seconds of sleep between looks at whether to leave."""


class Control:
    """Asked between requests whether to go on. Thread-safe, and safe to stop from a signal handler."""

    def __init__(self, parent: Control | None = None) -> None:
        self._parent = parent
        self._stopped = False
        self._lease_lost = False
        self._moved_at = self._source_moved_at = time.monotonic()
        self.on_source: Callable[[], None] = lambda: None

    def record_movement(self) -> None:
        """Something of what is controlled moved."""
        self._moved_at = time.monotonic()
        if self._parent is not None:
            self._parent.record_movement()

    def record_source_movement(self) -> None:
        """The source gave something."""
        self.record_movement()
        self._source_moved_at = time.monotonic()
        self.on_source()

    @property
    def seconds_still(self) -> float:
        """Seconds since anything moved."""
        return time.monotonic() - self._moved_at

    @property
    def source_seconds_still(self) -> float:
        """Seconds since the source gave anything, whatever is sent meanwhile."""
        return time.monotonic() - self._source_moved_at

    def stop(self) -> None:
        """Leave at the next chunk's end."""
        self._stopped = True

    def lose_lease(self) -> None:
        """The job is not ours any more."""
        self._lease_lost = True

    @property
    def stopping(self) -> bool:
        """Whether somebody asked this or the whole worker to stop."""
        return self._stopped or (self._parent is not None and self._parent.stopping)

    def check(self) -> None:
        """Raises LeaseLost or Stopped if it is time to leave."""
        self.check_lease()
        if self.stopping:
            raise Stopped

    def check_lease(self) -> None:
        """Raises LeaseLost if the job is not ours any more; asked while a chunk is sent, too."""
        if self._lease_lost:
            raise LeaseLost
        if self._parent is not None:
            self._parent.check_lease()

    def wait(self, seconds: float) -> None:
        """Sleep, but leave as ``check`` does as soon as somebody asks."""
        end = time.monotonic() + seconds
        self.check()
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK_EVERY))
            self.check()


class Activity:
    """When anything last moved forward, for a run that gives up after long silence. Thread-safe."""

    def __init__(self) -> None:
        self._progress_at = self._moved_at = time.monotonic()

    def record_progress(self) -> None:
        """Something was acknowledged, prepared or finished."""
        self._progress_at = self._moved_at = time.monotonic()

    def record_movement(self) -> None:
        """Bytes moved; whether that is of any use is not known yet."""
        self._moved_at = time.monotonic()

    @property
    def seconds_still(self) -> float:
        """Seconds since anything moved at all."""
        return time.monotonic() - self._moved_at

    @property
    def last_progress(self) -> float:
        """When that was, on the monotonic clock."""
        return self._progress_at

    @property
    def seconds_idle(self) -> float:
        """Seconds since then."""
        return time.monotonic() - self._progress_at
