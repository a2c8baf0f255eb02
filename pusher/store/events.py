"""Record and read the history of jobs."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, insert, select

from pusher.store.engine import Database
from pusher.store.models import EventRow, JobRow
from pusher.store.records import EventRecord


def record(connection: Connection, job_id: int, at: datetime, kind: str, message: str) -> None:
    """Write an event in the transaction of the change that it describes."""
    connection.execute(insert(EventRow).values(job_id=job_id, at=at, kind=kind, message=message))


class Events:
    """The events of jobs, oldest first."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, job_id: int, *, limit: int | None = None) -> list[EventRecord]:
        """Return the events of a job; with ``limit`` the newest ones."""
        query = select(EventRow).where(EventRow.job_id == job_id).order_by(EventRow.id.desc()).limit(limit)
        with self._database.read() as connection:
            return [
                EventRecord(row.job_id, row.at, row.kind, row.message) for row in connection.execute(query)
            ][::-1]

    def add(self, job_id: int, kind: str, message: str) -> None:
        """Record an event; a job that was pruned meanwhile is ignored."""
        with self._database.write() as connection:
            if (
                connection.scalar(select(JobRow.id).where(JobRow.id == job_id).with_for_update(read=True))
                is not None
            ):
                record(connection, job_id, self._database.now(), kind, message)
