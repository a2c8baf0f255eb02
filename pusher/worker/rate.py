"""Limit the bytes a second of all uploads of a worker together."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final, Protocol

from pusher.config import Timetable
from pusher.dataclass import dataclass
from pusher.units import human_bytes

_TURN: Final = 0.05
"""Seconds of one upload's turn on the line."""
_QUEUE: Final = 0.5
"""Seconds within which each waiting upload gets a turn, and a new rate takes effect."""
_LEAST: Final = 64
"""Least bytes of a turn."""
_CREDIT: Final = 0.25
"""Seconds of unused bandwidth that may be used later."""
_SHARED_CREDIT: Final = 0.1
"""The same of a share of the queue's rate, as the credits of all workers add up."""
_EARLY: Final = 0.005
"""Seconds by which bytes may be sent early, rather than waking up for each block."""
_IDLE_AFTER: Final = 0.3
"""Seconds without a turn after which a worker has nothing to send, rather than waiting for a response."""
_LOOK_EVERY: Final = 0.1
"""Seconds between two calls of ``check``."""
_CLOCK_EVERY: Final = 0.5
"""Seconds between checks of the timetables."""
_VARIES: Final = 60.0
"""Seconds for which a share that was too low makes the measured rate of a link too low."""
_NO_LIMIT: Final = "rate: no limit"


class QueueRate(Protocol):
    """What all workers of the queue may send, and this one of it."""

    timetable: Timetable | None

    def share(self) -> float | None:
        """Return the bytes a second that this worker may send at present; None without a limit."""

    def fair_share(self) -> float | None:
        """Return the same as soon as other workers have only their share."""


@dataclass
class RateTurn:
    """The turn of one upload."""

    start: float
    """Bytes that the line carries before it."""
    size: int


@dataclass(frozen=True)
class RateUse:
    """What was sent since the last update."""

    sent: int
    lacks: bool
    """Uploads had to wait until now, or a moment ago."""
    own: float | None
    """Bytes a second of the worker's own limit at present; None without one."""
    is_busy: bool = True
    """There is something to send."""


class RateLimiter:
    """Gives uploads turns to send, in the order of their requests. Thread-safe.

    Each turn reserves the line for its bytes. So the total is exact, however late a thread wakes up, and
    uploads that ask equally often get the same share.
    """

    def __init__(
        self,
        timetable: Timetable | None,
        note: Callable[[str], None],
        *,
        queue: QueueRate | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = datetime.now,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Limit to ``timetable`` and to this worker's share of the ``queue``: the lower one counts.

        ``now`` returns local times.
        """
        self._timetable = timetable
        self._queue = queue
        self._note = note
        self._clock = clock
        self._now = now
        self._sleep = sleep
        self._lock = threading.Lock()
        self._carried = 0.0  # bytes that the line has carried, or could have
        self._carried_at = clock()
        self._reserved = 0.0  # bytes of all turns
        self._turns: list[RateTurn] = []
        self._rate: float | None = None
        self._own: float | None = None
        self._expected: float | None = None
        self._is_shared = False
        self._held_back_at = -math.inf
        self._looked_at: float | None = None
        self._noted = "" if timetable is not None else _NO_LIMIT
        self._sent = 0
        self._lacks = False
        self._busy_at = -math.inf
        self.on_lack: Callable[[], None] = lambda: None
        """Called when an upload has to wait, for the first time since ``use`` was called."""

    def take(self, wanted: int, check: Callable[[], None] = lambda: None) -> int:
        """Wait for the next turn; return how many of ``wanted`` bytes may be sent, at least one.

        ``check`` is called while it waits; an exception from it ends the wait.
        """
        turn = self.begin_turn(wanted)
        try:
            while (pause := self.pause_before(turn)) > 0:
                check()
                self._sleep(pause)
        finally:
            self.end_turn(turn)
        return turn.size

    def begin_turn(self, wanted: int) -> RateTurn:
        """Reserve the line for the next turn, of at most ``wanted`` bytes."""
        with self._lock:
            rate = self._update()
            if rate is None:
                turn = RateTurn(self._carried, wanted)
                self._turns.append(turn)
                return turn
            turn = self._reserve(wanted, rate)
            lacks = self._wait_for(turn) > _EARLY
            begins_to_lack = lacks and not self._lacks
            self._lacks = self._lacks or lacks
            if lacks and self._is_shared:
                self._held_back_at = self._carried_at
        if begins_to_lack:
            self.on_lack()
        return turn

    def pause_before(self, turn: RateTurn) -> float:
        """Return the seconds to sleep before asking again; 0: the turn has come."""
        with self._lock:
            self._update()
            pause = self._wait_for(turn)
        return min(pause, _LOOK_EVERY) if pause > _EARLY else 0.0

    def end_turn(self, turn: RateTurn) -> None:
        """Count the bytes of a turn, which are sent now."""
        with self._lock:
            self._turns.remove(turn)
            self._sent += turn.size
            self._busy_at = self._clock()

    def rate(self) -> float | None:
        """Return the bytes a second that this worker may send, now or in a few seconds; None: no limit."""
        with self._lock:
            self._update()
            return self._expected

    def is_held_back(self) -> bool:
        """Return whether uploads had to wait, not long ago, for a share of the queue's rate, which varies."""
        with self._lock:
            return self._clock() - self._held_back_at < _VARIES

    def use(self) -> RateUse:
        """Return what was sent since the last call. It reports nothing: the job store may be locked."""
        with self._lock:
            self._advance()
            found = RateUse(self._sent, self._lacks and self._is_busy(), self._own, self._is_busy())
            self._sent, self._lacks = 0, bool(self._turns)
            if self._is_shared:  # the budget carries over what was not used
                self._reserved = max(self._reserved, self._carried)
        return found

    def is_busy(self) -> bool:
        """Return whether there is something to send."""
        with self._lock:
            return self._is_busy()

    def _is_busy(self) -> bool:
        return bool(self._turns) or self._clock() - self._busy_at < _IDLE_AFTER

    def refresh(self) -> None:
        """Look at the limits again at the next opportunity, as one has changed."""
        with self._lock:
            self._looked_at = None

    def _reserve(self, wanted: int, rate: float) -> RateTurn:
        seconds = min(_TURN, _QUEUE / (len(self._turns) + 1))
        size = min(wanted, max(_LEAST, int(rate * seconds)))
        credit = _SHARED_CREDIT if self._is_shared else _CREDIT
        turn = RateTurn(max(self._reserved, self._carried - credit * rate), size)
        self._reserved = turn.start + size
        self._turns.append(turn)
        return turn

    def _wait_for(self, turn: RateTurn) -> float:
        """Return the seconds until a turn at the current rate."""
        if self._rate is None:
            return 0.0
        left = turn.start - self._carried
        return left / self._rate if self._rate else _LOOK_EVERY if left > 0 else 0.0

    def _update(self) -> float | None:
        """Return the current rate; report it when it changes."""
        now = self._advance()
        if self._looked_at is None or now - self._looked_at >= _CLOCK_EVERY:
            self._looked_at = now
            rate, sentence = self._find_rate(self._now())
            if rate != self._rate:
                self._shorten_turns(rate)
                self._rate = rate
            if sentence != self._noted:
                self._noted = sentence
                self._note(sentence)
        return self._rate

    def _advance(self) -> float:
        """Let the line carry what it could until now; return the time."""
        now = self._clock()
        self._carried += (self._rate or 0.0) * (now - self._carried_at)
        self._carried_at = now
        return now

    def _shorten_turns(self, rate: float | None) -> None:
        """Let turns that were given at a higher rate begin at the same time, with fewer bytes."""
        if rate is None or not self._rate:
            self._reserved = self._carried  # nothing is carried over
            for turn in self._turns:
                turn.start = self._carried
        elif rate < self._rate:
            part = rate / self._rate
            for turn in self._turns:
                turn.start = self._carried + (turn.start - self._carried) * part
                turn.size = max(min(_LEAST, turn.size), int(turn.size * part))
            self._reserved = self._carried + (self._reserved - self._carried) * part

    def _find_rate(self, time_of_day: datetime) -> tuple[float | None, str]:
        """Return the rate at a local time, and how it is reported."""
        timetable = None if self._queue is None else self._queue.timetable
        total = None if timetable is None else timetable.rate_at(time_of_day)
        share = None if self._queue is None else self._queue.share()
        own = None if self._timetable is None else self._timetable.rate_at(time_of_day)
        self._own, self._is_shared = own, share is not None
        rate = _lower(own, share)
        fair = None if self._queue is None else self._queue.fair_share()
        self._expected = _lower(own, _lower(fair, total))  # a share has what is carried over as well
        if timetable is not None and total is not None:
            sentence = _sentence(total, timetable, time_of_day, "workers")
            if own is not None and own < total:
                sentence += f"; at most {human_bytes(own)}/s for this one"
            return rate, sentence
        if self._timetable is None:
            return rate, _NO_LIMIT
        return rate, _sentence(own, self._timetable, time_of_day, "uploads")


def _lower(left: float | None, right: float | None) -> float | None:
    """Return the lower one of two limits, None if there is none."""
    return min((limit for limit in (left, right) if limit is not None), default=None)


def _sentence(rate: int | None, timetable: Timetable, now: datetime, whose: str) -> str:
    until = timetable.next_change(now)
    limit = "no limit" if rate is None else f"at most {human_bytes(rate)}/s for all {whose} together"
    if until is None:
        return f"rate: {limit}"
    return f"rate: {limit}, until {until:%H:%M %Z}".rstrip() + (
        "" if until.date() == now.date() else f" on {until:%A}"
    )
