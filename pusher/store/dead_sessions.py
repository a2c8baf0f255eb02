"""Sessions at registries that nobody will use again, until they are deleted there."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, delete, insert, select, update

from pusher.store import models
from pusher.store.engine import Database
from pusher.store.records import DeadSession

_MOST_TRIES: Final = 5
"""Times that deleting one is tried: registries forget old sessions by themselves, most within a week."""


class DeadSessions:
    """What is left to be deleted at registries; which job it was for does not matter any more."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[DeadSession]:
        """The oldest first."""
        query = select(models.DeadSessionRow).order_by(models.DeadSessionRow.id)
        with self._database.read() as connection:
            return [
                DeadSession(row.id, row.host, row.repository, row.location, row.tries)
                for row in connection.execute(query)
            ]

    def remove(self, session: DeadSession) -> None:
        """It is gone at the registry."""
        with self._database.write() as connection:
            connection.execute(delete(models.DeadSessionRow).where(models.DeadSessionRow.id == session.id))

    def record_refusal(self, session: DeadSession) -> None:
        """The registry did not delete it: kept for another try, unless there were enough."""
        if session.tries + 1 >= _MOST_TRIES:
            self.remove(session)
            return
        with self._database.write() as connection:
            this = update(models.DeadSessionRow).where(models.DeadSessionRow.id == session.id)
            connection.execute(this.values(tries=session.tries + 1))


def record_dead(connection: Connection, host: str, repository: str, location: str) -> None:
    """Keep a session for deletion, in the transaction that gives it up."""
    row = {"host": host, "repository": repository, "location": location, "tries": 0}
    connection.execute(insert(models.DeadSessionRow).values(row))
