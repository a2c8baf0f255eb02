"""Know how long a leased share of a budget may be used, whether or not the job store can be reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from pusher.dataclass import dataclass
from pusher.errors import PusherError
from pusher.store.share_leases import KEPT, LEASE, TimeBetween
from pusher.system import elapsed

_SILENT: Final = 1.0
"""Seconds without a response to a renewal after which the job store counts as away."""


@dataclass(frozen=True)
class _ClockReading:
    """When the store read its clock for a renewal, by the worker's own."""

    at: float
    """No earlier than the store did."""
    waited: float
    """Seconds by which it may have been earlier."""


class Renewal:
    """One renewal of a share, from the request to the store on."""

    def __init__(self, clock: Callable[[], float], before: _ClockReading | None, *, is_new: bool) -> None:
        self._clock = clock
        self._asked_at = clock()
        self._before = before
        self.is_new = is_new
        """The worker has just started, or was cut off from the store."""
        self.reading = _ClockReading(self._asked_at, 0.0)

    def since(self) -> TimeBetween | None:
        """Return the time since the previous renewal, None for the first one. Call it in the transaction,
        once the store has read its clock."""
        now = self._clock()
        self.reading = _ClockReading(now, now - self._asked_at)
        if self._before is None:
            return None
        return TimeBetween(now - self._before.at, max(self._before.waited, self.reading.waited))


class ShareLease:
    """The lease of one share. ``clock`` returns seconds that pass during sleep as well."""

    def __init__(self, clock: Callable[[], float] = elapsed) -> None:
        self._clock = clock
        self._read: _ClockReading | None = None
        self._renewed_at: float | None = None
        self._new_until: float | None = None
        self._asked_at: float | None = None
        self._failed = False

    @property
    def is_current(self) -> bool:
        """Whether the share may be used: for a few seconds, or for a minute while the store is away."""
        if self._renewed_at is None:
            return False
        age = self._clock() - self._renewed_at
        return age < LEASE or (self.is_away and age < KEPT)

    @property
    def is_away(self) -> bool:
        """Whether the job store does not respond."""
        silent = self._asked_at is not None and self._clock() - self._asked_at > _SILENT
        return self._failed or silent

    @contextmanager
    def renewing(self) -> Iterator[Renewal]:
        """Renew the lease, from now on, if the block succeeds."""
        now = self._asked_at = self._clock()
        if self._renewed_at is None or now - self._renewed_at > LEASE or self._new_until is None:
            self._new_until = now + LEASE
        renewal = Renewal(self._clock, self._read, is_new=now < self._new_until)
        try:
            yield renewal
        except PusherError:
            self._failed = True
            raise
        finally:
            self._asked_at = None
        self._failed, self._renewed_at, self._read = False, now, renewal.reading

    def begin(self) -> None:
        """Begin a lease that the store could not record."""
        self._renewed_at = self._clock() if self._renewed_at is None else self._renewed_at

    def end(self) -> None:
        """End the lease, as the share was given back."""
        self._read = self._renewed_at = self._new_until = None
