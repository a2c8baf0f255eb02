"""Read and change one job within a transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pusher.errors import JobUnknown, StoreLocked
from pusher.store.connection import Connection
from pusher.store.job_rows import IS_UNCHANGED, job_of, unchanged
from pusher.store.records import JobRecord
from pusher.store.writes import assignments


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
