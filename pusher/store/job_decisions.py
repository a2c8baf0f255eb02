"""Carry out a user's commands: pause, resume, cancel or retry a job."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from pusher.errors import JobStateConflict
from pusher.store import decisions, destinations
from pusher.store.engine import Database
from pusher.store.events import record
from pusher.store.job_changes import change_job, read_job
from pusher.store.job_rows import NO_ERROR
from pusher.store.leases import NO_WAIT, NOT_RUNNING
from pusher.store.records import FINAL_STATES, JobRecord, JobState, Machine


class JobDecisions:
    """Applies the decisions of ``store.decisions``. Raises JobUnknown, JobStateConflict."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def pause(self, job_id: int) -> JobRecord:
        """Pause the job; a worker that has it stops at its next step."""
        return self._decide(job_id, decisions.PAUSE)

    def resume(self, job_id: int) -> JobRecord:
        """Queue a paused job again."""
        return self._decide(job_id, decisions.RESUME)

    def cancel(self, job_id: int) -> JobRecord:
        """End the job for good; its upload sessions are deleted once no other job needs them."""
        return self._decide(job_id, decisions.CANCEL)

    def expire(self, job_id: int) -> JobRecord:
        """End a job whose manifest did not come, as ``cancel`` does."""
        return self._decide(job_id, decisions.EXPIRE)

    def retry(self, job_id: int) -> JobRecord:
        """Requeue a failed or cancelled job, or make a waiting one due."""
        return self._decide(job_id, decisions.RETRY)

    def retry_by_itself(self, job_id: int) -> JobRecord:
        """Make a job due that waits for the user, who may have acted."""
        return self._decide(job_id, decisions.RETRY_BY_ITSELF)

    def set_priority(self, job_id: int, priority: int) -> JobRecord:
        """Change when the job's turn comes. Raises JobUnknown, JobStateConflict if it has ended."""
        now = self._database.now()
        with self._database.write() as connection:
            before = read_job(connection, job_id, lock=True)
            if before.state in FINAL_STATES:
                raise JobStateConflict(
                    f"job {job_id} has ended ({before.state}), and its priority has no effect",
                    hint=f"pusher status {job_id} shows how it ended",
                )
            job = change_job(connection, before, {"priority": priority})
            record(connection, job_id, now, "priority", f"{before.priority} -> {priority}")
        return job

    def check_movable(self, job_id: int, dead_owners: Collection[str] = ()) -> None:
        """Raise JobStateConflict if ``move`` would; raises JobUnknown."""
        with self._database.read() as connection:
            now = self._database.now(connection)
            _require_movable(read_job(connection, job_id), now, dead_owners)

    def move(
        self, job_id: int, machine: Machine, source: Mapping[str, Any], dead_owners: Collection[str] = ()
    ) -> JobRecord:
        """Make the job one of another machine, where ``source`` is the pin of its image.

        A job whose worker is gone is queued; ``dead_owners`` as for ``claim``. Raises JobUnknown,
        JobStateConflict if the job has ended, or a worker has it.
        """
        with self._database.write() as connection:
            now = self._database.now(connection)
            before = read_job(connection, job_id, lock=True)
            _require_movable(before, now, dead_owners)
            values: dict[str, Any] = {
                "machine": machine.id,
                "source": json.dumps(dict(source)),
                "spool": None,
            }
            if before.state == JobState.RUNNING:
                lost = {"state": JobState.QUEUED, "lease_token": before.lease_token + 1}
                values = {**values, **NOT_RUNNING, **lost}
            job = change_job(connection, before, values)
            namesakes = connection.value(
                "SELECT count(*) FROM machines WHERE name = :name", name=machine.name
            )
            label = f"{machine.name} {machine.home}" if namesakes > 1 else machine.name
            record(connection, job_id, now, "moved", f"moved by the user to {label}")
        return job

    def _decide(self, job_id: int, decision: decisions.Decision) -> JobRecord:
        now = self._database.now()
        with self._database.write() as connection:
            destinations.lock_destination(self._database, connection, read_job(connection, job_id))
            before = read_job(connection, job_id, lock=True)
            if not decision.changes(job_id, before.state):
                return before
            if decision.to == JobState.QUEUED:
                newer = destinations.newer_job(connection, before)
                if newer is not None:
                    raise decisions.overtaken_error(before, newer)
            values: dict[str, Any] = {
                **NOT_RUNNING,
                "state": decision.to,
                "lease_token": before.lease_token + 1,
                "next_try_at": None,
                "finished_at": now if decision.to == JobState.CANCELLED else None,
                "superseded_by": None,
            }
            if decision.to != JobState.QUEUED:
                values |= NO_WAIT
            if decision.clears_error:
                values |= NO_ERROR
            job = change_job(connection, before, values)
            record(connection, job_id, now, decision.to, decision.said)
        return job


def _require_movable(job: JobRecord, now: datetime, dead_owners: Collection[str]) -> None:
    if job.state in (JobState.SUCCEEDED, JobState.SUPERSEDED) or (
        job.state in FINAL_STATES and job.machine is None
    ):
        raise JobStateConflict(
            f"job {job.id} has ended ({job.state}) and cannot be moved",
            hint=f"pusher status {job.id} shows how it ended",
        )
    if job.state == JobState.RUNNING and not job.has_lapsed(now) and job.lease_owner not in dead_owners:
        raise JobStateConflict(
            f"job {job.id} is being pushed by a worker ({job.lease_owner}) and cannot be moved",
            hint=f"stop it there first: pusher pause {job.id}; once it is moved: pusher resume {job.id}",
        )
