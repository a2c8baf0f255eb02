"""Know which registries are away or silent: jobs for others go first, and users read what a job waits for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence

from pusher.errors import PusherError, RegistryStalled, Retry, SourceError
from pusher.reference import canonical_registry
from pusher.store.records import JobRecord, StoredError
from pusher.store.store import Store
from pusher.system import elapsed
from pusher.waiting import NOTICE_AFTER
from pusher.worker.control import Control
from pusher.worker.stall_notices import StallNotices


class RegistryTroubles:
    """The registries of one worker that are in trouble. Thread-safe.

    Each attempt at a job takes the worker's time until its requests have failed; with many jobs for a dead
    registry those for others would wait for all of them. ``last_for``: seconds after a failure in which jobs
    for its registry go last.
    """

    def __init__(self, stalls: StallNotices, last_for: float, clock: Callable[[], float] = elapsed) -> None:
        self._stalls = stalls
        self._last_for = last_for
        self._clock = clock
        self._lock = threading.Lock()
        self._failed_at: dict[str, float] = {}
        self._silent_jobs: set[int] = set()

    def record_failure(self, registry: str, error: PusherError) -> None:
        """Record how an attempt at a job failed: the registry was there, or not."""
        is_away = error.retry is Retry.OFFLINE and not isinstance(error, SourceError)
        with self._lock:
            if is_away or isinstance(error, RegistryStalled):
                self._failed_at[registry] = self._clock()
            else:
                self._failed_at.pop(registry, None)

    def record_success(self, registry: str) -> None:
        """Record that a registry has taken an image."""
        with self._lock:
            self._failed_at.pop(registry, None)

    def away(self) -> set[str]:
        """Return the registries that could not be reached not long ago."""
        now = self._clock()
        with self._lock:
            return {name for name, at in self._failed_at.items() if now - at < self._last_for}

    def silent(self, active: Collection[JobRecord]) -> set[str]:
        """Return the registries of ``active`` jobs that do not respond now."""
        return {job.registry for job in active} & self._silent_registries().keys()

    def record_silences(self, store: Store, active: Sequence[tuple[JobRecord, Control]]) -> None:
        """Record for each job when its registry ceases to respond, and when it responds again.

        Raises StoreError.
        """
        silent = self._silent_registries()
        self._silent_jobs &= {job.id for job, _ in active}
        for job, control in active:
            unanswered = silent.get(job.registry, 0.0)
            still = min(unanswered, control.seconds_still)
            if still >= NOTICE_AFTER and job.id not in self._silent_jobs:
                error = StoredError(
                    RegistryStalled.code, f"{job.registry} does not respond", RegistryStalled.advice
                )
                store.jobs.record_silence(job, error, still)
                self._silent_jobs.add(job.id)
            elif unanswered < NOTICE_AFTER and job.id in self._silent_jobs:
                store.jobs.end_silence(job, f"{job.registry} responds again")
                self._silent_jobs.discard(job.id)

    def _silent_registries(self) -> dict[str, float]:
        """Return for how many seconds the hosts have been silent, by the registries' names."""
        return {canonical_registry(host): seconds for host, seconds in self._stalls.silent.items()}
