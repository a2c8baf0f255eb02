"""Decide what a failed task of a job means for the job's other tasks."""

from __future__ import annotations

import time
from concurrent.futures import Future

from pusher.errors import PusherError, Retry
from pusher.retry import RetryPolicy
from pusher.worker.control import Control


class JobFailures:
    """Stops a job's tasks after a final failure, and while its registry cannot be reached fails the next ones
    at once, so that they do not all wait for time-outs.

    Futures keep their callbacks. If these led to the object that has the futures, every finished job would
    stay in memory until the garbage collector's next full run, which comes only after hundreds of jobs.
    """

    def __init__(self, control: Control, policy: RetryPolicy) -> None:
        self._control = control
        self._policy = policy
        self._offline: tuple[float, PusherError] | None = None

    def watch(self, future: Future[str | None]) -> None:
        """Consider how a task ends, once it does."""
        future.add_done_callback(self._record)

    def raise_if_offline(self) -> None:
        """Raise the error of a task that has just found no connection."""
        if (error := self._offline_error()) is not None:
            raise error

    def _record(self, future: Future[str | None]) -> None:
        error = future.exception()
        if isinstance(error, PusherError) and error.retry is Retry.NEVER:
            self._control.stop()
        elif isinstance(error, PusherError) and error.retry is Retry.OFFLINE and not self._offline_error():
            self._offline = (time.monotonic(), error)

    def _offline_error(self) -> PusherError | None:
        if self._offline is None:
            return None
        began, error = self._offline
        return error if time.monotonic() - began < self._policy.offline_blobs else None
