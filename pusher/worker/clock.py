"""Time that passes, by a clock that nobody can set."""

from __future__ import annotations

import sys
import time


def elapsed() -> float:
    """Seconds since some moment in the past, those included in which the machine slept.

    Linux's monotonic clock stands still meanwhile; that of macOS and Windows does not.
    """
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    if sys.platform == "darwin":  # time.monotonic() is the clock that stands still
        return time.clock_gettime(time.CLOCK_MONOTONIC)
    return time.monotonic()
