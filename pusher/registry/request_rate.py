"""Limit the rate of requests to a registry, after refusals, until they end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from pusher.registry.answers import read_message, retry_after
from pusher.registry.http.answer import Answer
from pusher.retry import DEFAULT, RetryPolicy

_FASTER_AFTER: Final = 20
"""Accepted requests before a shorter pause is tried."""


def _reports_limit(answer: Answer) -> bool:
    return "Retry-After" in answer.headers or "TOOMANYREQUESTS" in read_message(answer).codes


class RequestRate:
    """A token bucket of one token, shared by all requests to a registry. Thread-safe.

    There is no pause until a request is refused: with 429, or with 503 if the request before was accepted, as
    by nginx's limit_req. Then the pause doubles with each refusal, and shrinks slowly.
    """

    def __init__(
        self,
        policy: RetryPolicy = DEFAULT,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``sleep`` may raise to stop."""
        self._policy = policy
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._pause = 0.0
        self._next = 0.0
        self._changed = 0.0
        self._accepted = 1

    def wait_for_turn(self) -> float:
        """Wait until the next request may be sent; return that time. Raises the errors of ``sleep``."""
        with self._lock:
            now = self._clock()
            turn = max(now, self._next)
            self._next = turn + self._pause
        if turn > now:
            self._sleep(turn - now)
        return turn

    def record_answer(self, answer: Answer, turn: float) -> None:
        """Record the answer to the request that was sent at ``turn``."""
        with self._lock:
            if answer.status == 429 or (answer.status == 503 and (self._accepted or _reports_limit(answer))):
                self._slow_down(retry_after(answer), turn)
            elif answer.status != 503:
                self._accepted += 1
                if self._pause and self._accepted > _FASTER_AFTER:
                    shorter = 0.8 * self._pause
                    self._pause = shorter if shorter >= self._policy.rate_least else 0.0
                    self._accepted = 1

    def _slow_down(self, asked: float | None, turn: float) -> None:
        now = self._clock()
        self._accepted = 0
        if turn >= self._changed:  # else it was sent before the rate changed
            self._pause = min(self._policy.rate_most, max(self._policy.rate_least, 2 * self._pause))
            self._changed = now
        hold = min(max(asked or 0.0, self._pause), self._policy.rate_hold)
        self._next = max(self._next, now + hold)
