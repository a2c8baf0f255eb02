"""Waiting for a job store that is locked, restarts or cannot be reached for a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import wraps
from typing import Any, Final, TypeVar

from pusher.errors import PusherError, StoreError
from pusher.retry import DEFAULT, Attempts, RetryPolicy, retrying

T = TypeVar("T")

_LOOK_EVERY: Final = 0.1
"""Seconds of sleep between looks at whether to leave."""


class Patience:
    """Shared by the threads of a worker: one outage, told once. Thread-safe.

    ``limit``: seconds that an outage may last, None for ever. ``stopping``: whether the run is to end.
    ``only``: the kind of outage that is worth waiting for.
    """

    def __init__(
        self,
        note: Callable[[str], None],
        *,
        limit: float | None,
        only: type[StoreError] = StoreError,
        stopping: Callable[[], bool] = lambda: False,
        back: Callable[[], None] = lambda: None,
        policy: RetryPolicy = DEFAULT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._note = note
        self._limit = limit
        self._only = only
        self._stopping = stopping
        self._back = back
        self._policy = policy
        self._clock = clock
        self._lock = threading.Lock()
        self._since: float | None = None

    def call(self, method: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call ``method``, again and again while the store is away; what it held in its hands it still holds.

        Raises its StoreError where waiting does not help or took too long.
        """
        began = 0.0

        def step() -> T:
            nonlocal began
            began = self._clock()
            return method(*args, **kwargs)

        result = retrying(
            step, Attempts(self._policy.store), lambda pause, error: self._wait(error, began, pause)
        )
        if self._since is not None:
            self._is_back()
        return result

    def _wait(self, error: PusherError, began: float, pause: float) -> None:
        if not isinstance(error, self._only):
            raise error
        with self._lock:
            if self._since is None:
                self._since = began
                self._note(f"{error.message}: waiting for it, and nothing is lost")
            since = self._since
        until = self._clock() + pause
        stop_at: float | None = None
        while (now := self._clock()) < until:
            if self._limit is not None and now - since >= self._limit:
                raise error
            if self._stopping():
                stop_at = stop_at or max(now, since + self._policy.store_stopping)
                if now >= stop_at:
                    raise error
            time.sleep(_LOOK_EVERY)

    def _is_back(self) -> None:
        with self._lock:
            since, self._since = self._since, None
        if since is not None:
            self._back()
            self._note(f"the job store is back after {self._clock() - since:.0f} s; going on")


class Patient:
    """A part of the job store each of whose methods, which are one transaction, waits for the store."""

    def __init__(self, part: object, patience: Patience) -> None:
        self._part = part
        self._patience = patience

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._part, name)

        @wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            return self._patience.call(method, *args, **kwargs)

        return call
