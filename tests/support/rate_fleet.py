"""Workers that share one rate, in a simulated time: the real budget, leases and limiters, without threads.

The uploads, the renewals and their delays are events in the order of their times; nothing sleeps.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import json
import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from pusher.config import Timetable
from pusher.errors import StoreError
from pusher.store.budgets import BudgetState, Change
from pusher.worker.rate import RateLimiter
from pusher.worker.rate_lease import RateLease

WINDOW: Final = 10.0
"""Seconds in each of which the rate is kept."""
_START: Final = datetime(2026, 1, 2, 3)  # noqa: DTZ001 - a local time, as the limiter reads it
_SAMPLE: Final = 0.1

Upload = Iterator[tuple[int, float]]
"""Chunks, and the seconds without demand before each: until the registry has answered, or the next job."""


class SimulatedFleet:
    """``run`` it; then ``windows`` are what was sent."""

    def __init__(self, rate: int | None, *, seed: int = 1) -> None:
        self.now = 0.0
        self.random = random.Random(seed)
        self.limit = None if rate is None else Timetable(rate)
        self.store_is_away = False
        self.store_clock = 1_000_000.0
        """Its difference from the time that passes."""
        self.store_delay: Callable[[], float] = lambda: 0.0
        """Seconds that a renewal waits for the others'."""
        self.lateness: Callable[[], float] = lambda: 0.0
        """Seconds by which a thread wakes up too late."""
        self.workers: list[SimulatedWorker] = []
        self._content: str = "{}"
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._sent = 0
        self._samples: list[int] = []

    def add_worker(self, *uploads: Upload, starts: float = 0.0, own: int | None = None) -> None:
        """A worker that begins with these uploads at a time."""
        worker = SimulatedWorker(self, f"worker{len(self.workers)}", own)
        self.workers.append(worker)
        self.at(starts, worker.ask)
        for upload in uploads:
            self.at(starts, partial(worker.begin_chunk, upload))

    def at(self, time: float, call: Callable[[], None]) -> None:
        """Call it then."""
        heapq.heappush(self._events, (time, next(self._numbers), call))

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call it so much later, or later than that."""
        self.at(self.now + seconds + self.lateness(), call)

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        until = self.now + seconds
        while self._events and self._events[0][0] <= until:
            time, _, call = heapq.heappop(self._events)
            while len(self._samples) * _SAMPLE <= time:
                self._samples.append(self._sent)
            self.now = time
            call()
        self.now = until

    def count(self, sent: int) -> None:
        self._sent += sent

    def windows(self, since: float, until: float) -> list[float]:
        """The bytes a second of each 10 s within these times."""
        width, first, last = round(WINDOW / _SAMPLE), round(since / _SAMPLE), round(until / _SAMPLE)
        counts = self._samples[first : last + 1]
        return [(counts[at + width] - counts[at]) / WINDOW for at in range(len(counts) - width)]

    def change(self, name: str, change: Change[Any]) -> Any:
        """What Budgets does."""
        if self.store_is_away:
            raise StoreError("the job store is away")
        content, result = change(BudgetState(json.loads(self._content), self.now + self.store_clock, {}))
        self._content = json.dumps(content)
        return result


class SimulatedWorker:
    """Renews its share as QueueLimits does, and sends chunk after chunk of each upload."""

    def __init__(self, fleet: SimulatedFleet, name: str, own: int | None) -> None:
        self.fleet = fleet
        self.name = name
        self.sent = 0
        self._asked_at: float | None = None
        self._asks = itertools.count()
        self._last = 0.0
        self.lease = RateLease(lambda: fleet.now if self._asked_at is None else self._asked_at)
        self.lease.timetable = fleet.limit
        self.limiter = RateLimiter(
            None if own is None else Timetable(own),
            lambda text: None,
            queue=self.lease,
            clock=lambda: fleet.now,
            now=lambda: _START + timedelta(seconds=fleet.now),
        )
        self.limiter.on_lack = self._renew_soon

    # --- renewals -----------------------------------------------------------------------------------------

    def ask(self) -> None:
        """Ask the store for a share; it responds later."""
        asked_at, number = self.fleet.now, next(self._asks)
        self._number = number
        self.fleet.after(self.fleet.store_delay(), lambda: self._renew(asked_at))

    def _renew(self, asked_at: float) -> None:
        def change(name: str, change: Change[Any]) -> Any:
            self._asked_at = None  # the time that passed meanwhile
            return self.fleet.change(name, change)

        self.lease.timetable = self.fleet.limit
        self._asked_at = asked_at
        with contextlib.suppress(StoreError):
            self.lease.renew(_Budgets(change), self.name, self.limiter.use)  # type: ignore[arg-type]
        self._asked_at = None
        self.limiter.refresh()
        self._last = self.fleet.now
        if self.lease.is_unfair or self.lease.is_more_left:
            self._ask_after(0.25)
        else:
            self._ask_after(1.0)
            self._look_for_idle(3, self._number)

    def _renew_soon(self) -> None:
        if self.lease.is_outdated(lacks=True):
            self._ask_after(max(0.0, self._last + 0.25 - self.fleet.now))

    def _ask_after(self, seconds: float) -> None:
        number = self._number = next(self._asks)

        def ask() -> None:
            if self._number == number:
                self.ask()

        self.fleet.after(seconds, ask)

    def _look_for_idle(self, times: int, number: int) -> None:
        def look() -> None:
            if self._number != number:
                return
            if self.lease.is_outdated(lacks=False) and not self.limiter.is_busy():
                self.ask()
            elif times > 1:
                self._look_for_idle(times - 1, number)

        self.fleet.after(0.25, look)

    # --- uploads ------------------------------------------------------------------------------------------

    def begin_chunk(self, upload: Upload) -> None:
        """Send the next chunk once its pause is over."""
        chunk = next(upload, None)
        if chunk is not None:
            size, pause = chunk
            self.fleet.after(pause, lambda: self._send(upload, size))

    def _send(self, upload: Upload, left: int) -> None:
        if not left:
            self.begin_chunk(upload)
            return
        turn = self.limiter.begin_turn(min(left, 65536))

        def wait() -> None:
            pause = self.limiter.pause_before(turn)
            if pause:
                self.fleet.after(pause, wait)
                return
            self.limiter.end_turn(turn)
            self.sent += turn.size
            self.fleet.count(turn.size)
            self._send(upload, left - turn.size)

        wait()


class _Budgets:
    def __init__(self, change: Callable[[str, Change[Any]], Any]) -> None:
        self.change = change
