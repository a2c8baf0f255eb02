"""Decide how long a worker that found nothing to claim waits before it looks again."""

from __future__ import annotations

from collections.abc import Callable

from pusher.retry import RetryPolicy
from pusher.store.notifications import JobListener
from pusher.store.store import Store


class Wakeups:
    """The waits of a worker's loop, longer where the job store notifies it of changes.

    ``on_change`` is that of ``Store.listen``.
    """

    def __init__(self, store: Store, policy: RetryPolicy, on_change: Callable[[int | None], None]) -> None:
        self._store = store
        self._policy = policy
        self._on_change = on_change
        self._listener: JobListener | None = None
        self._listens = False
        self.came = False
        """A notification came since ``expect``, so that there is no need to wait."""

    def expect(self) -> None:
        """Count notifications from now on; call this before looking for a job."""
        self.came = False

    def seconds_to_wait(self, *, idle: bool, forever: bool) -> float:
        """Return how long to wait for a notification. An ``idle`` worker that runs ``forever`` listens."""
        if not (idle and forever):
            return self._policy.poll
        if not self._listens:
            self._listens = True
            self._listener = self._store.listen(self._on_change)
        if self._listener is None or not self._listener.is_alive:
            return self._policy.poll
        due = self._store.jobs.seconds_to_next()
        longest = self._policy.poll_notified
        return longest if due is None else min(longest, max(due, self._policy.poll))

    def close(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.close()
