"""Decide which job a worker claims next, and whether waiting for one is worth it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from pusher.store.records import JobRecord, JobState
from pusher.units import human_seconds
from pusher.worker.job_attempts import JobAttempts
from pusher.worker.worker import Worker

_SOON: Final = 3.0
"""Seconds of a wait that are not worth a word."""


class JobClaims:
    """Claims jobs for one worker: those in ``only``, or any that may run on its machine.

    ``waits_for_others``: whether it waits for jobs that other workers push. ``attempts`` has the pauses of
    this worker's jobs.
    """

    def __init__(
        self,
        worker: Worker,
        attempts: JobAttempts,
        *,
        only: Collection[int] | None,
        waits_for_others: bool,
    ) -> None:
        self._store = worker.store
        self._identity = worker.identity
        self._troubles = worker.registries.troubles
        self._activity = worker.activity
        self._attempts = attempts
        self._only = only
        self._waits_for_others = waits_for_others
        self._expired: set[str] = set()
        """Owners whose expired leases the last claim could take over."""

    def claim(self, at_work: Collection[JobRecord]) -> JobRecord | None:
        """Claim a job besides those ``at_work`` in this worker; None if none may run now."""
        dead, self._expired = self._ended_owners()
        return self._store.jobs.claim(
            self._identity.owner,
            lease=self._identity.lease,
            dead_owners=dead,
            expired_owners=self._expired,
            only=self._only,
            at_work=[job.id for job in at_work],
            skipped=self._troubles.silent(at_work),
            last=self._troubles.away(),
            waited=self._attempts.due(),
            machine=self._identity.machine,
        )

    def is_near(self) -> bool:
        """Return whether a job can be claimed by now or soon, or another worker pushes one of this run's."""
        if self._waits_for_others and self._running_jobs():
            self._activity.record_progress()
            return True
        if self._is_doubtful():
            return True
        dead, expired = self._ended_owners()
        machine = self._identity.machine
        return self._store.jobs.has_runnable(dead, expired, only=self._only, machine=machine)

    def has_waiting(self) -> bool:
        """Return whether a job that waits now becomes runnable without the user."""
        dead, expired = self._ended_owners()
        return self._store.jobs.has_waiting(
            dead,
            expired,
            only=self._only,
            put_off=self._attempts.put_off,
            machine=self._identity.machine,
        )

    def describe_wait(self, touched: Collection[int]) -> str:
        """Return which job a run without others waits for, and why; "" if it is soon tried, or one of those
        ``touched`` by the run, of which that was reported."""
        machine, waiting = self._identity.machine, self._store.jobs.list(states=[JobState.WAITING])
        jobs = [
            job
            for job in waiting
            if (self._only is None or job.id in self._only)
            and (machine is None or job.is_for(machine))
            and job.id not in self._attempts.put_off
        ]
        if not jobs or any(job.id in touched for job in jobs):
            return ""
        now = self._store.now()
        first = min(jobs, key=lambda job: job.next_try_at or now)
        left = ((first.next_try_at or now) - now).total_seconds()
        if left < _SOON:
            return ""
        others = f", and {len(jobs) - 1} more after it" if len(jobs) > 1 else ""
        why = f": {first.error.message}" if first.error else ""
        return f"job {first.id} is tried again in {human_seconds(left)}{others}{why}"

    def _ended_owners(self) -> tuple[set[str], set[str]]:
        """Return the owners that have ended, and those whose leases have expired."""
        return self._identity.find_dead_owners(self._store), self._identity.find_expired_owners(self._store)

    def _running_jobs(self) -> list[JobRecord]:
        """Return the running jobs that this run is for, of any worker; of another machine's, those whose
        worker lives."""
        running, now = self._store.jobs.list(states=[JobState.RUNNING]), self._store.now()
        machine = self._identity.machine
        return [
            job
            for job in running
            if (self._only is None or job.id in self._only)
            and (machine is None or job.is_for(machine) or not job.has_lapsed(now))
        ]

    def _is_doubtful(self) -> bool:
        """Return whether a job's lease has just expired: soon it is renewed, or the job can be claimed.

        It may be that only now; the last claim still left the job alone.
        """
        others = self._identity.find_late_owners(self._store) - self._expired
        return bool(others) and any(job.lease_owner in others for job in self._running_jobs())
