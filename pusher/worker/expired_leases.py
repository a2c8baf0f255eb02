"""Find out for how long other workers' leases have been expired, by this process's own clock.

The store's clock says that a lease has expired; that clock may just have been set, and a machine that slept
finds every lease expired. So a lease is taken over only from an owner whose leases this process has seen
expired, and not renewed, for longer than a living owner takes to notice and renew them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import datetime

from pusher.store.leases import OwnerLeases


class ExpiredLeases:
    """The owners of expired leases, and since when they have been seen so."""

    def __init__(self, grace: float) -> None:
        """``grace``: seconds for which an expired lease is still respected."""
        self._grace = grace
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[datetime, float]] = {}
        self._looked_at = 0.0

    def update(self, leases: Iterable[OwnerLeases], began: float, ended: float) -> None:
        """Record leases that were read between two times, in seconds by a clock that cannot be set."""
        with self._lock:
            if ended - self._looked_at > self._grace:
                # this machine slept, or the store did not answer: their owners could not renew them either
                self._seen.clear()
            self._looked_at = began
            seen = {}
            for each in leases:
                if each.have_ended:
                    latest, since = self._seen.get(each.owner, (each.latest, ended))
                    # another time: they were renewed meanwhile, and the store's clock was set again
                    seen[each.owner] = (each.latest, since if latest == each.latest else ended)
            self._seen = seen

    def owners(self) -> set[str]:
        """Return the owners whose expired leases can be taken over."""
        with self._lock:
            return {
                owner for owner, (_, since) in self._seen.items() if self._looked_at - since >= self._grace
            }

    def late_owners(self) -> set[str]:
        """Return the owners of all expired leases."""
        with self._lock:
            return set(self._seen)
