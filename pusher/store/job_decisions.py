"""Carry out a user's commands: pause, resume, cancel or retry a job."""

from __future__ import annotations

from typing import Any

from pusher.errors import JobStateConflict
from pusher.store import decisions, destinations
from pusher.store.engine import Database
from pusher.store.events import record
from pusher.store.job_changes import change_job, read_job
from pusher.store.job_rows import NO_ERROR
from pusher.store.leases import NO_WAIT, NOT_RUNNING
from pusher.store.records import FINAL_STATES, JobRecord, JobState


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
