"""Know how long a leased share of a budget may be used, whether or not the job store can be reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from pusher.dataclass import dataclass
from pusher.errors import PusherError
from pusher.store.share_leases import KEPT, LEASE
from pusher.system import elapsed

_SILENT: Final = 1.0
"""Seconds without a response to a renewal after which the job store counts as away."""


@dataclass(frozen=True)
class Renewal:
    """What a worker knows when it renews a share."""

    seconds: float | None
    """Since it last did; None: never."""
    is_new: bool
    """It has just started, or was cut off from the store."""


class ShareLease:
    """The lease of one share. ``clock`` returns seconds that pass during sleep as well."""

    def __init__(self, clock: Callable[[], float] = elapsed) -> None:
        self._clock = clock
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
        seconds = None if self._renewed_at is None else now - self._renewed_at
        if seconds is None or seconds > LEASE or self._new_until is None:
            self._new_until = now + LEASE
        try:
            yield Renewal(seconds, is_new=now < self._new_until)
        except PusherError:
            self._failed = True
            raise
        finally:
            self._asked_at = None
        self._failed, self._renewed_at = False, now

    def begin(self) -> None:
        """Begin a lease that the store could not record."""
        self._renewed_at = self._clock() if self._renewed_at is None else self._renewed_at

    def end(self) -> None:
        """End the lease, as the share was given back."""
        self._renewed_at = self._new_until = None
