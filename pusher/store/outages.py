"""Wait for a job store that is temporarily locked, restarting, unreachable or out of room."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from functools import partial, wraps
from typing import Any, Final, Protocol, TypeVar

from pusher.errors import DiskFull, LeaseLost, PusherError, StoreError
from pusher.retry import DEFAULT, Attempts, RetryPolicy, retrying
from pusher.store.records import UploadRecord

T = TypeVar("T")

_LOOK_EVERY: Final = 0.1
"""Seconds of sleep between checks whether to stop."""
LATER_CHANGES: Final = ("record_session", "record_offset", "record_present")
"""The methods of ``Uploads`` that record what a registry acknowledged."""


class ChangeJournal(Protocol):
    """Keeps changes on disk that wait for the job store."""

    def add(self, change: str, upload: UploadRecord, values: Mapping[str, Any], /) -> int | None:
        """Write a call of one of LATER_CHANGES durably; return its number, None if that is not possible."""

    def settle(self, number: int | None, /) -> None:
        """Record that the change was made, or cannot be made any more."""


class StoreOutages:
    """Waits of a worker's threads for the job store; an outage is reported once. Thread-safe.

    An outage ends when a call succeeds and no other waits: a store whose disk is full can still be read.
    ``limit``: seconds that an outage may last, None without limit. ``stopping``: whether the run is to end.
    ``only``: the errors that are worth waiting for.
    """

    def __init__(
        self,
        note: Callable[[str], None],
        *,
        limit: float | None,
        only: type[PusherError] | tuple[type[PusherError], ...] = (StoreError, DiskFull),
        stopping: Callable[[], bool] = lambda: False,
        back: Callable[[], None] = lambda: None,
        policy: RetryPolicy = DEFAULT,
    ) -> None:
        self._note = note
        self._limit = limit
        self._only = only
        self._stopping = stopping
        self._back = back
        self._policy = policy
        self._lock = threading.Lock()
        self._since: float | None = None
        self._waiting = 0

    def call(self, method: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call ``method``, and repeat the call while the store is unavailable.

        Raises the method's error if waiting does not help or took too long.
        """
        return self.repeat(partial(method, *args, **kwargs))

    def repeat(self, call: Callable[[], T], on_wait: Callable[[], object] = lambda: None) -> T:
        """Run ``call`` until the store is available; before the first wait also run ``on_wait``."""
        began, waits = 0.0, False

        def step() -> T:
            nonlocal began
            began = time.monotonic()
            return call()

        def wait(pause: float, error: PusherError) -> None:
            nonlocal waits
            if not isinstance(error, self._only):
                raise error
            if not waits:
                on_wait()
            since = self._begin_wait(error, began, first=not waits)
            waits = True
            self._sleep(error, since, pause)

        try:
            result = retrying(step, Attempts(self._policy.store), wait)
        except BaseException:
            self._end_wait(waits, succeeded=False)
            raise
        if waits or (self._since is not None and not self._stopping()):
            self._end_wait(waits, succeeded=True)
        return result

    def _begin_wait(self, error: PusherError, began: float, *, first: bool) -> float:
        """Return when the outage began; report it if it is new."""
        with self._lock:
            self._waiting += first
            if self._since is None:
                self._since = began
                self._note(f"{error.message}: waiting for it; nothing is lost")
            return self._since

    def _sleep(self, error: PusherError, since: float, pause: float) -> None:
        until = time.monotonic() + pause
        stop_at: float | None = None
        while (now := time.monotonic()) < until:
            if self._limit is not None and now - since >= self._limit:
                raise error
            if self._stopping():
                stop_at = stop_at or max(now, since + self._policy.store_stopping)
                if now >= stop_at:
                    raise error
            time.sleep(_LOOK_EVERY)

    def _end_wait(self, waits: bool, *, succeeded: bool) -> None:
        with self._lock:
            self._waiting -= waits
            if not succeeded or self._waiting:
                return
            since, self._since = self._since, None
        if since is not None:
            self._back()
            self._note(f"the job store is back after {time.monotonic() - since:.0f} s; continuing")


class OutageProxy:
    """A part of the job store whose methods, each one transaction, wait while the store is unavailable."""

    def __init__(self, part: object, outages: StoreOutages) -> None:
        self._part = part
        self._outages = outages

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._part, name)

        @wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            return self._outages.call(method, *args, **kwargs)

        return call


class UploadsProxy(OutageProxy):
    """The same for uploads: what a registry acknowledged is in ``journal`` while it waits."""

    def __init__(self, part: object, outages: StoreOutages, journal: ChangeJournal) -> None:
        super().__init__(part, outages)
        self._journal = journal

    def __getattr__(self, name: str) -> Any:
        if name not in LATER_CHANGES:
            return super().__getattr__(name)
        method = getattr(self._part, name)

        @wraps(method)
        def call(upload: UploadRecord, **values: Any) -> Any:
            number: int | None = None

            def keep() -> None:
                nonlocal number
                number = self._journal.add(name, upload, values)

            try:
                result = self._outages.repeat(partial(method, upload, **values), keep)
            except LeaseLost:
                self._journal.settle(number)
                raise
            if number is not None:
                self._journal.settle(number)
            return result

        return call
