"""Add, read and change one job within a transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from pusher.errors import JobUnknown, StoreLocked
from pusher.store import destinations
from pusher.store.connection import Connection
from pusher.store.events import record
from pusher.store.job_rows import IS_UNCHANGED, blob_rows, job_of, new_job_columns, unchanged
from pusher.store.records import JobRecord, JobState, NewJob
from pusher.store.writes import assignments, insert_sql

NEW_JOB: Final = {"attempts": 0, "bytes_sent": 0, "lease_token": 0}
"""The columns of a job that nothing has been done for."""


def read_job(connection: Connection, job_id: int, *, lock: bool = False) -> JobRecord:
    """Return a job, with its row locked if asked for. Raises JobUnknown."""
    row = connection.row(f"SELECT * FROM jobs WHERE id = :id{' FOR UPDATE' if lock else ''}", id=job_id)
    if row is None:
        raise JobUnknown(f"there is no job {job_id}", hint="pusher status --all lists the jobs")
    return job_of(row)


def change_job(connection: Connection, before: JobRecord, values: Mapping[str, Any]) -> JobRecord:
    """Change a job that is still as it was read, and return the new record (RETURNING needs SQLite 3.35).

    Raises StoreLocked if another process was faster.
    """
    change = f"UPDATE jobs SET {assignments(values)} WHERE {IS_UNCHANGED}"
    if connection.execute(change, **values, **unchanged(before)) != 1:
        raise StoreLocked(
            f"job {before.id} was changed by another process at the same time", hint="try again"
        )
    return read_job(connection, before.id)


def add_job(connection: Connection, new: NewJob, now: datetime) -> JobRecord:
    """Queue a job; unless it ``keeps_older``, unfinished older ones of its tag are superseded."""
    values = {**new_job_columns(new), **NEW_JOB, "state": JobState.QUEUED, "created_at": now}
    job = read_job(connection, connection.insert(insert_sql("jobs", values), **values))
    insert_blobs(connection, blob_rows(job.id, new))
    record(connection, job.id, now, JobState.QUEUED, f"push {new.image} to {job.destination}")
    destinations.supersede_older(connection, job, now)
    return job


def insert_blobs(connection: Connection, rows: Iterable[dict[str, Any]]) -> None:
    """Insert rows of ``job_blobs``; at least one."""
    rows = list(rows)
    connection.execute_many(insert_sql("job_blobs", rows[0]), rows)
