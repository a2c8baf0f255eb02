"""Read and change one job within a transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    Connection,
    and_,
    select,
    update,
)

from pusher.errors import JobUnknown, StoreLocked
from pusher.store.job_rows import job_of
from pusher.store.models import JobRow
from pusher.store.records import JobRecord


def read_job(connection: Connection, job_id: int, *, lock: bool = False) -> JobRecord:
    """Return a job, with its row locked if asked for. Raises JobUnknown."""
    query = select(JobRow).where(JobRow.id == job_id)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise JobUnknown(f"there is no job {job_id}", hint="pusher status --all lists the jobs")
    return job_of(row)


def change_job(connection: Connection, before: JobRecord, values: Mapping[str, Any]) -> JobRecord:
    """Change a job that is still as it was read, and return the new record (RETURNING needs SQLite 3.35).

    Raises StoreLocked if another process was faster.
    """
    unchanged = and_(
        JobRow.id == before.id, JobRow.state == before.state, JobRow.lease_token == before.lease_token
    )
    if connection.execute(update(JobRow).where(unchanged).values(values)).rowcount != 1:
        raise StoreLocked(
            f"job {before.id} was changed by another process at the same time", hint="try again"
        )
    return read_job(connection, before.id)
