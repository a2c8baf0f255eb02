"""When to try again: the only place that knows pauses."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from pusher.errors import PusherError, Retry
from pusher.store.leases import LONGEST_WAIT

_LATER: Final = timedelta(minutes=5)
OFFLINE_PAUSE: Final = 30.0
"""Seconds after which a registry that cannot be reached is looked for again, at most."""


class Backoff:
    """Pauses that double up to ``cap`` seconds, with full jitter; progress starts again at ``first``.

    After ``tries`` pauses in a row it is the turn of somebody with more patience. Offline gets fewer: they
    bridge a changed address, after that all of a job's blobs wait together.
    """

    def __init__(
        self,
        *,
        first: float = 0.5,
        cap: float = 15.0,
        tries: int = 6,
        offline_tries: int = 3,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._first = first
        self._cap = cap
        self._tries = tries
        self._offline_tries = offline_tries
        self._draw = draw
        self._failures = 0

    def reset(self) -> None:
        """Progress was made."""
        self._failures = 0

    def pause(self, error: PusherError) -> float | None:
        """Seconds to wait before the next try after ``error``; None if it is not for us to try again."""
        if error.retry not in (Retry.BACKOFF, Retry.OFFLINE):
            return None
        tries = self._offline_tries if error.retry is Retry.OFFLINE else self._tries
        if self._failures >= tries:
            return None
        ceiling: float = min(self._cap, self._first * 2**self._failures)
        self._failures += 1
        if error.retry_after is not None:
            return error.retry_after if error.retry_after <= self._cap else None
        return ceiling * self._draw()


def job_pause(error: PusherError, failures: int, draw: Callable[[], float] = random.random) -> timedelta:
    """How long a job waits after ``error``, its ``failures``-th in a row without progress.

    Half of it is fixed so that a dead registry is not asked all the time, half is jitter so that jobs do not
    come back together. The network is looked for at least every ``OFFLINE_PAUSE``, a failing registry every 2
    minutes.
    """
    if error.retry is Retry.LATER:
        return _LATER
    cap = OFFLINE_PAUSE if error.retry is Retry.OFFLINE else 120.0
    pause: float = min(cap, 2.0 * 2 ** min(failures, 10))
    wanted = min(error.retry_after or 0.0, LONGEST_WAIT.total_seconds())
    return timedelta(seconds=max(wanted, pause * (0.5 + 0.5 * draw())))
