"""Follow the settings of the queue: those that ``pusher limit`` and ``pusher parallel`` store."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from pusher.config import Settings
from pusher.config.settings import BY_NAME
from pusher.errors import InvalidOption, PusherError
from pusher.store.queue_settings import LIMIT_RATE, OFF, PARALLEL, QueueSetting
from pusher.store.store import Store
from pusher.worker.periodic import calling_every
from pusher.worker.rate import RateLimiter
from pusher.worker.rate_lease import RateLease
from pusher.worker.upload_turns import UploadTurns

_SOON: Final = 0.25
"""Part of the usual pause after which a worker renews its share if it has to change."""
_SLOW: Final = 0.05
"""Seconds that a renewal takes from which on a worker does not renew more often to use what is left: the
job store, or its disk, is busy enough."""


class QueueLimits:
    """What the queue's settings and a worker's own say together. Thread-safe."""

    def __init__(self, settings: Settings, note: Callable[[str], None]) -> None:
        self._own = settings
        self._note = note
        self._notes: list[str] = []  # not written inside a transaction: a terminal may be stopped
        self._texts: dict[str, str | None] = {LIMIT_RATE: None, PARALLEL: None}
        self._lease = RateLease()
        self._wake = threading.Event()
        self._is_slow = False
        self.limiter = RateLimiter(settings.limit_rate, note, queue=self._lease)
        self.limiter.on_lack = self._renew_soon
        self.turns = UploadTurns(lambda registry: settings.at(registry).uploads_per_registry)
        self.turns.on_lack = self._wake.set
        self.parallel = settings.parallel
        """Uploads at a time: as the queue says, or else as this run was started."""

    def update(self, store: Store, owner: str) -> bool:
        """Read the queue's settings and renew the owner's shares; return whether the number of uploads
        changed. Raises StoreError."""
        before = self.parallel
        try:
            if self._lease.timetable is None:
                self._take_up(store.settings.all())
            if self._lease.timetable is not None:  # both are read in one transaction
                self._lease.renew(store.budgets, owner, self.limiter.use, self._take_up)
            self.turns.renew(store.budgets, owner)
        finally:
            self.limiter.refresh()
            notes, self._notes = self._notes, []
            for note in notes:
                self._note(note)
        return self.parallel != before

    def _take_up(self, found: Mapping[str, QueueSetting]) -> None:
        """Take up the queue's settings."""
        before = self.parallel
        if self._is_new(PARALLEL, found):
            given = self._parse(PARALLEL, found)
            self.parallel = self._own.parallel if given is None else given
            if self.parallel != before:
                why = "pusher parallel" if given else "as this run was started"
                self._notes.append(f"uploads at a time: {self.parallel} ({why})")
        if self._is_new(LIMIT_RATE, found):
            self._lease.timetable = self._parse(LIMIT_RATE, found)

    def _is_new(self, name: str, found: Mapping[str, QueueSetting]) -> bool:
        text = found[name].value if name in found else None
        before, self._texts[name] = self._texts[name], text
        return text != before

    def _parse(self, name: str, found: Mapping[str, QueueSetting]) -> Any:
        """Return the value of a setting; None without one, or if another version of pusher stored it."""
        if name not in found or found[name].value == OFF:
            return None
        try:
            return BY_NAME[name].convert(found[name].value, f"{name} of the queue")
        except InvalidOption as error:
            self._notes.append(f"{error.message}; it has no effect here")
            return None

    @contextlib.contextmanager
    def follow(self, store: Store, owner: str, change: Callable[[], None]) -> Iterator[None]:
        """Update every second until the context ends; call ``change`` when the number of uploads changed.

        While the store is away the last settings hold.
        """
        usual = self._own.retry.queue_limits

        def follow() -> None:
            deadline = time.monotonic() + (1 - _SOON) * usual
            while not self._must_renew() and time.monotonic() < deadline:
                self._wake.wait(_SOON * usual)
            self._wake.clear()
            began = time.monotonic()
            changed = self.update(store, owner)
            self._is_slow = time.monotonic() - began > _SLOW
            if changed:
                change()

        try:
            with calling_every(_SOON * usual, follow, name="queue-limits"):
                try:
                    yield
                finally:
                    self._wake.set()
        finally:
            for release in (self._lease.release, self.turns.release):
                with contextlib.suppress(PusherError):  # the leases end by themselves
                    release(store.budgets, owner)

    def _must_renew(self) -> bool:
        """Return whether the shares of the rate and of uploads should be renewed earlier than usual."""
        lease = self._lease
        is_done = lease.is_outdated(lacks=False) and not self.limiter.is_busy()
        gets_more = lease.is_unfair or (lease.is_more_left and not self._is_slow)
        return self._wake.is_set() or is_done or gets_more

    def _renew_soon(self) -> None:
        if self._lease.is_outdated(lacks=True):
            self._wake.set()
