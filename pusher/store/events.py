"""Record and read the history of jobs."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Final

from pusher.store.connection import Connection, time_of
from pusher.store.engine import Database
from pusher.store.notifications import notify
from pusher.store.records import EventRecord

MAX_EVENTS: Final = 1000
"""Events of one job that are kept when it is trimmed."""


def record(connection: Connection, job_id: int, at: datetime, kind: str, message: str) -> None:
    """Write an event in the transaction of the change that it describes, and notify listeners of it."""
    connection.execute(
        "INSERT INTO events (job_id, at, kind, message) VALUES (:job_id, :at, :kind, :message)",
        job_id=job_id,
        at=at,
        kind=kind,
        message=message,
    )
    notify(connection, kind, job_id)


class Events:
    """The events of jobs, oldest first."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, job_id: int, *, limit: int | None = None) -> list[EventRecord]:
        """Return the events of a job; with ``limit`` the newest ones."""
        query = "SELECT * FROM events WHERE job_id = :job_id ORDER BY id DESC"
        if limit is not None:
            query += " LIMIT :limit"
        with self._database.read() as connection:
            found = connection.rows(query, job_id=job_id, limit=limit)
            return [
                EventRecord(row["job_id"], time_of(row["at"]), row["kind"], row["message"])
                for row in reversed(found)
            ]

    def trim(self, job_ids: Collection[int]) -> None:
        """Delete the oldest events of those jobs that have very many, as after weeks without a network."""
        many = "SELECT job_id FROM events WHERE job_id IN :ids GROUP BY job_id HAVING count(*) > :most"
        delete = "DELETE FROM events WHERE job_id = :id AND id < :kept"
        oldest = "SELECT id FROM events WHERE job_id = :id ORDER BY id DESC LIMIT 1 OFFSET :before"
        with self._database.read() as connection:
            found = connection.column(many, ids=sorted(job_ids), most=MAX_EVENTS)
        for job_id in found:
            with self._database.write() as connection:
                kept = connection.value(oldest, id=job_id, before=MAX_EVENTS - 1)
                connection.execute(delete, id=job_id, kept=kept)

    def add(self, job_id: int, kind: str, message: str) -> None:
        """Record an event; a job that was pruned meanwhile is ignored."""
        with self._database.write() as connection:
            if connection.value("SELECT id FROM jobs WHERE id = :id FOR SHARE", id=job_id) is not None:
                record(connection, job_id, self._database.now(), kind, message)
