"""List sessions that will not be used again, until they are deleted at their registries."""

from __future__ import annotations

from typing import Final

from pusher.store.connection import Connection
from pusher.store.engine import Database
from pusher.store.records import DeadSession

_MAX_TRIES: Final = 5
"""Tries to delete a session: registries expire old sessions, most within a week."""


class DeadSessions:
    """The sessions to delete at their registries, whatever job they were for."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[DeadSession]:
        """Return all of them, the oldest first."""
        with self._database.read() as connection:
            return [
                DeadSession(row["id"], row["host"], row["repository"], row["location"], row["tries"])
                for row in connection.rows("SELECT * FROM dead_sessions ORDER BY id")
            ]

    def remove(self, session: DeadSession) -> None:
        """Forget a session that is gone at its registry."""
        with self._database.write() as connection:
            connection.execute("DELETE FROM dead_sessions WHERE id = :id", id=session.id)

    def record_refusal(self, session: DeadSession) -> None:
        """Count a refusal to delete the session; forget it after the last try."""
        if session.tries + 1 >= _MAX_TRIES:
            self.remove(session)
            return
        with self._database.write() as connection:
            connection.execute(
                "UPDATE dead_sessions SET tries = :tries WHERE id = :id",
                tries=session.tries + 1,
                id=session.id,
            )


def record_dead(connection: Connection, host: str, repository: str, location: str) -> None:
    """Record a session to delete, in the transaction that gives it up."""
    connection.execute(
        """INSERT INTO dead_sessions (host, repository, location, tries)
        VALUES (:host, :repository, :location, 0)""",
        host=host,
        repository=repository,
        location=location,
    )
