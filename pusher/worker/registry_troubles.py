"""Know which registries are away or silent: jobs for others go first, and users read what a job waits for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from pusher.dataclass import dataclass
from pusher.errors import PusherError, RegistryStalled, Retry, SourceError
from pusher.reference import canonical_registry
from pusher.registry.http.answer import Answer
from pusher.registry.http.redaction import host_of
from pusher.store.records import JobRecord, StoredError
from pusher.store.store import Store
from pusher.system import elapsed
from pusher.units import human_seconds
from pusher.waiting import NOTICE_AFTER
from pusher.worker.control import Control
from pusher.worker.stall_notices import StallNotices, StallReportingTransport

_REPORT_EVERY: Final = 30.0
"""Seconds between two lines about a registry that cannot be reached."""
_SERVER_ERROR: Final = 500
_JUST_NOW: Final = 5.0
"""Seconds after the first response in which a failure may be that of an older request."""
_FORGET_AFTER: Final = 120.0
"""Seconds after a try was due, and longer than any takes, when no job is left that would try."""


@dataclass
class _Outage:
    """A registry that cannot be reached; times are those of the clock."""

    since: float
    error: PusherError
    next_try: float
    reported_at: float
    is_reported: bool = False


class RegistryTroubles:
    """The registries of one worker that are in trouble. Thread-safe.

    Each attempt at a job takes the worker's time until its requests have failed; with many jobs for a dead
    registry those for others would wait for all of them. ``last_for``: seconds after a failure in which jobs
    for its registry go last.
    """

    def __init__(
        self,
        stalls: StallNotices,
        last_for: float,
        clock: Callable[[], float] = elapsed,
        note: Callable[[str], None] = lambda text: None,  # noqa: ARG005
    ) -> None:
        self._stalls = stalls
        stalls.is_reported_away = self._is_reported_away
        self._last_for = last_for
        self._clock = clock
        self._note = note
        self._lock = threading.Lock()
        self._failed_at: dict[str, float] = {}
        self._outages: dict[str, _Outage] = {}
        self._returned_at: dict[str, float] = {}
        self._silent_jobs: set[tuple[int, int]] = set()
        self.on_return: Callable[[str], None] = lambda registry: None  # noqa: ARG005
        """Called with a registry that could not be reached once it has responded."""

    def record_failure(self, registry: str, error: PusherError, pause: float = 0.0) -> None:
        """Record how an attempt at a job failed: the registry was there, or not. It is tried again after
        ``pause`` seconds."""
        is_away = is_registry_away(error)
        with self._lock:
            if is_away or isinstance(error, RegistryStalled):
                self._failed_at[registry] = self._clock()
            else:
                self._failed_at.pop(registry, None)
        if is_away:
            self.record_pause(registry, error, pause, is_reported=not self.has_just_returned(registry))

    def record_pause(
        self, registry: str, error: PusherError, pause: float, *, is_reported: bool = False
    ) -> None:
        """Record that a request is tried again after ``pause`` seconds; ``is_reported``: the user has read
        that the registry cannot be reached."""
        if not is_registry_away(error):
            return
        with self._lock:
            now = self._clock()
            outage = self._outages.setdefault(registry, _Outage(now, error, now + pause, now))
            outage.error = error
            if outage.next_try <= now or now + pause < outage.next_try:
                outage.next_try = now + pause
            outage.is_reported |= is_reported

    def record_response(self, registry: str) -> None:
        """Record that a registry has responded: an outage is over."""
        if registry not in self._outages:
            return
        with self._lock:
            outage = self._outages.pop(registry, None)
            if outage is None:
                return
            self._failed_at.pop(registry, None)
            self._returned_at[registry] = self._clock()
            seconds = self._clock() - outage.since
        if outage.is_reported:
            self._note(f"{registry} is back after {human_seconds(seconds)}; continuing")
        self.on_return(registry)

    def has_just_returned(self, registry: str) -> bool:
        """Return whether a registry responded a moment ago for the first time after an outage."""
        with self._lock:
            at = self._returned_at.get(registry)
            return at is not None and self._clock() - at < _JUST_NOW

    def _is_reported_away(self, host: str) -> bool:
        with self._lock:
            outage = self._outages.get(canonical_registry(host))
            return outage is not None and outage.is_reported

    def report_outages(self) -> None:
        """Report at intervals the registries that cannot be reached, and when they are tried next; forget
        those that no job tries any more."""
        lines = []
        with self._lock:
            now = self._clock()
            for registry, outage in list(self._outages.items()):
                if now - outage.next_try >= _FORGET_AFTER:
                    del self._outages[registry]
                elif now - outage.reported_at >= _REPORT_EVERY:
                    outage.reported_at, outage.is_reported = now, True
                    left = outage.next_try - now
                    next_try = f"next try in {human_seconds(left)}" if left >= 1 else "trying again now"
                    lines.append(
                        f"no connection to {registry} for {human_seconds(now - outage.since)} "
                        f"({outage.error.message}): {next_try}"
                    )
        for line in lines:
            self._note(line)

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
        silent, away = self._silent_registries(), self._find_outages()
        # one that was claimed again meanwhile has another lease, and nothing is recorded of it yet
        self._silent_jobs &= {(job.id, job.lease_token) for job, _ in active}
        for job, control in active:
            seconds, error = away.get(job.registry, (0.0, None))
            still = seconds
            if error is None:
                seconds = silent.get(job.registry, 0.0)
                still = min(seconds, control.seconds_still)
                error = StoredError(
                    RegistryStalled.code, f"{job.registry} does not respond", RegistryStalled.advice
                )
            key = job.id, job.lease_token
            if still >= NOTICE_AFTER and key not in self._silent_jobs:
                store.jobs.record_silence(job, error, still)
                self._silent_jobs.add(key)
            elif seconds < NOTICE_AFTER and key in self._silent_jobs:
                store.jobs.end_silence(job, f"{job.registry} responds again")
                self._silent_jobs.discard(key)

    def _find_outages(self) -> dict[str, tuple[float, StoredError]]:
        """Return for how many seconds registries could not be reached, and why."""
        with self._lock:
            now = self._clock()
            return {
                registry: (
                    now - outage.since,
                    StoredError(outage.error.code, outage.error.message, outage.error.hint),
                )
                for registry, outage in self._outages.items()
            }

    def _silent_registries(self) -> dict[str, float]:
        """Return for how many seconds the hosts have been silent, by the registries' names."""
        return {canonical_registry(host): seconds for host, seconds in self._stalls.silent.items()}


class OutageEndingTransport(StallReportingTransport):
    """A transport that records which registries respond."""

    def __init__(self, troubles: RegistryTroubles, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._troubles = troubles

    def send(self, method: str, url: str, **options: Any) -> Answer:
        answer = super().send(method, url, **options)
        if answer.status < _SERVER_ERROR:  # a proxy in front of it answers with others
            self._troubles.record_response(canonical_registry(host_of(url)))
        return answer


def is_registry_away(error: PusherError) -> bool:
    """Return whether an attempt at a job failed because a registry cannot be reached."""
    return error.retry is Retry.OFFLINE and not isinstance(error, SourceError)
