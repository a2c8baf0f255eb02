"""How fast one registry lets us ask: learned from its refusals, forgotten while it takes everything."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from pusher.registry.answers import read_message, retry_after
from pusher.registry.http.answer import Answer
from pusher.retry import DEFAULT, RetryPolicy

_ENOUGH: Final = 20
"""Requests that get through before a shorter pause is tried."""


def _names_limit(answer: Answer) -> bool:
    return "Retry-After" in answer.headers or "TOOMANYREQUESTS" in read_message(answer).codes


class Pace:
    """A token bucket of one token, shared by all requests to a registry. Thread-safe.

    No pause until something is refused (429; 503 from one that answered otherwise just before, as nginx's
    limit_req says it); then it doubles with each refusal, and shrinks slowly.
    """

    def __init__(
        self,
        policy: RetryPolicy = DEFAULT,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._pause = 0.0
        self._next = 0.0
        self._changed = 0.0
        self._passed = 1

    def wait(self) -> float:
        """Wait for one's turn; returns the time at which it came."""
        with self._lock:
            now = self._clock()
            turn = max(now, self._next)
            self._next = turn + self._pause
        if turn > now:
            self._sleep(turn - now)
        return turn

    def see(self, answer: Answer, turn: float) -> None:
        """What a request was answered whose turn came then."""
        with self._lock:
            if answer.status == 429 or (answer.status == 503 and (self._passed or _names_limit(answer))):
                self._slow_down(retry_after(answer), turn)
            elif answer.status != 503:
                self._passed += 1
                if self._pause and self._passed > _ENOUGH:
                    shorter = 0.8 * self._pause
                    self._pause = shorter if shorter >= self._policy.rate_least else 0.0
                    self._passed = 1

    def _slow_down(self, asked: float | None, turn: float) -> None:
        now = self._clock()
        self._passed = 0
        if turn >= self._changed:  # else it was on its way before the pace changed
            self._pause = min(self._policy.rate_most, max(self._policy.rate_least, 2 * self._pause))
            self._changed = now
        hold = min(max(asked or 0.0, self._pause), self._policy.rate_hold)
        self._next = max(self._next, now + hold)
