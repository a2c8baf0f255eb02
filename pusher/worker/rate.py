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
NO_LIMIT: Final = "rate: no limit"
_CLOCK_EVERY: Final = 0.5
"""Seconds between checks of the timetable."""


class RateLimiter:
    """Gives uploads turns to send, in the order of their requests. Thread-safe.

    Each turn reserves the line for as long as its bytes take. So the total is exact, however late a thread
    wakes up, and uploads that ask equally often get the same share.
    """

    def __init__(
        self,
        timetable: Timetable | None,
        note: Callable[[str], None],
        *,
        queue: Callable[[], Timetable | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = datetime.now,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Limit to ``timetable``, and to that of the ``queue``, which may change: the lower one counts.

        ``now`` returns local times.
        """
        self._timetable = timetable
        self._queue = queue
        self._note = note
        self._clock = clock
        self._now = now
        self._sleep = sleep
        self._lock = threading.Lock()
        self._free_at = clock()
        self._waiting = 0
        self._rate: float | None = None
        self._looked_at: float | None = None
        self._noted = "" if timetable is not None else NO_LIMIT

    def take(self, wanted: int, check: Callable[[], None] = lambda: None) -> int:
        """Wait for the next turn; return how many of ``wanted`` bytes may be sent, at least one.

        ``check`` is called while it waits; an exception from it ends the wait.
        """
        with self._lock:
            now = self._clock()
            rate = self._update(now)
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

    def rate(self) -> float | None:
        """Return the bytes a second that this worker may send at present; None without a limit."""
        with self._lock:
            return self._update(self._clock())

    def _update(self, now: float) -> float | None:
        """Return the current rate; report it when it changes."""
        if self._looked_at is None or now - self._looked_at >= _CLOCK_EVERY:
            rate, sentence = self._find_rate(self._now())
            if rate != self._rate:
                # turns that were given already keep the line until they end
                self._free_at = now if self._rate is None else max(self._free_at, now)
                self._rate = rate
            if sentence != self._noted:
                self._noted = sentence
                self._note(sentence)
            self._looked_at = now
        return self._rate

    def _find_rate(self, time_of_day: datetime) -> tuple[float | None, str]:
        """Return the rate at a local time, and how it is reported."""
        queue, own = self._queue(), self._timetable
        total = None if queue is None else queue.rate_at(time_of_day)
        rate = None if own is None else own.rate_at(time_of_day)
        if queue is not None and total is not None and (rate is None or total < rate):
            return total, _sentence(total, queue, time_of_day, "workers")
        return rate, NO_LIMIT if own is None else _sentence(rate, own, time_of_day, "uploads")


def _sentence(rate: int | None, timetable: Timetable, now: datetime, whose: str) -> str:
    until = timetable.next_change(now)
    limit = "no limit" if rate is None else f"at most {human_bytes(rate)}/s for all {whose} together"
    if until is None:
        return f"rate: {limit}"
    return f"rate: {limit}, until {until:%H:%M %Z}".rstrip() + (
        "" if until.date() == now.date() else f" on {until:%A}"
    )
