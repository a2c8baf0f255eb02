"""Limit the bytes a second of all uploads of a worker together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

from pusher.config import Timetable
from pusher.progress.format import human_bytes

_TURN: Final = 0.05
"""Seconds of one upload's turn on the line."""
_QUEUE: Final = 0.5
"""Seconds within which each waiting upload gets a turn, and a new rate takes effect."""
_LEAST: Final = 64
"""Least bytes of a turn."""
_CREDIT: Final = 0.25
"""Seconds of unused bandwidth that may be used later."""
_EARLY: Final = 0.005
"""Seconds by which bytes may be sent early, rather than waking up for each block."""
_LOOK_EVERY: Final = 0.1
"""Seconds between two calls of ``check``."""
_CLOCK_EVERY: Final = 0.5
"""Seconds between checks of the timetable."""


class RateLimiter:
    """Gives uploads turns to send, in the order of their requests. Thread-safe.

    Each turn reserves the line for as long as its bytes take. So the total is exact, however late a thread
    wakes up, and uploads that ask equally often get the same share. ``now`` returns local times.
    """

    def __init__(
        self,
        timetable: Timetable,
        note: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = datetime.now,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._timetable = timetable
        self._note = note
        self._clock = clock
        self._now = now
        self._sleep = sleep
        self._lock = threading.Lock()
        self._free_at = clock()
        self._waiting = 0
        self._rate: int | None = None
        self._looked_at: float | None = None

    def take(self, wanted: int, check: Callable[[], None] = lambda: None) -> int:
        """Wait for the next turn; return how many of ``wanted`` bytes may be sent, at least one.

        ``check`` is called while it waits; an exception from it ends the wait.
        """
        with self._lock:
            now = self._clock()
            rate = self._look(now)
            if rate is None:
                return wanted
            turn = min(_TURN, _QUEUE / (self._waiting + 1))
            size = min(wanted, max(_LEAST, int(rate * turn)))
            start = max(self._free_at, now - _CREDIT)
            self._free_at = start + size / rate
            self._waiting += 1
        try:
            while (left := start - self._clock()) > _EARLY:
                check()
                self._sleep(min(left, _LOOK_EVERY))
        finally:
            with self._lock:
                self._waiting -= 1
        return size

    def _look(self, now: float) -> int | None:
        """Return the current rate; report it when it changes."""
        if self._looked_at is None or now - self._looked_at >= _CLOCK_EVERY:
            time_of_day = self._now()
            rate = self._timetable.rate_at(time_of_day)
            if rate != self._rate or self._looked_at is None:
                self._rate, self._free_at = rate, now
                self._note(_sentence(rate, self._timetable.next_change(time_of_day), time_of_day))
            self._looked_at = now
        return self._rate


def _sentence(rate: int | None, until: datetime | None, now: datetime) -> str:
    limit = "no limit" if rate is None else f"at most {human_bytes(rate)}/s for all uploads together"
    if until is None:
        return f"rate: {limit}"
    return f"rate: {limit}, until {until:%H:%M %Z}".rstrip() + (
        "" if until.date() == now.date() else f" on {until:%A}"
    )
