"""Find the schema revision of a job store, or the SQL of a new one.

Without SQLAlchemy and Alembic, whose imports take longer than most commands.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pusher.errors import StoreTooNew
from pusher.store.connection import Connection
from pusher.store.driver_errors import corrupt_error

REVISIONS: Final = (
    *("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010"),
    *("0011", "0012", "0013", "0014", "0015", "0016", "0017", "0018", "0019"),
)
"""Every revision in ``migrations/``, oldest first."""

_TABLES: Final = (
    "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite~_%' ESCAPE '~'"
)


def head() -> str:
    """Return the revision that this version of pusher reads and writes."""
    return REVISIONS[-1]


def creating_statements(connection: Connection) -> list[str]:
    """Return the statements that make an empty database a job store, from ``new_sqlite.sql`` or
    ``new_postgresql.sql``, which a test writes and compares with what the migrations lead to."""
    kind = "sqlite" if connection.is_sqlite else "postgresql"
    return Path(__file__).with_name(f"new_{kind}.sql").read_text(encoding="utf-8").split("\n\n")


def revision_of(connection: Connection, label: str) -> str | None:
    """Return the revision of a job store; None if it is empty.

    Raises StoreTooNew for an unknown revision, StoreCorrupt for tables that are not pusher's.
    """
    if not _has_revision(connection):
        if connection.is_sqlite and connection.column(_TABLES):
            raise corrupt_error(label, "is an SQLite database, but not a job store of pusher")
        return None
    revision: str | None = connection.value("SELECT version_num FROM alembic_version")
    if revision is not None and revision not in REVISIONS:
        raise StoreTooNew(
            f"the job store {label} was written by a newer pusher (schema {revision}, known: {head()})",
            hint="use the version of pusher that wrote it, or a newer one",
        )
    return revision


def _has_revision(connection: Connection) -> bool:
    if connection.is_sqlite:
        return "alembic_version" in connection.column(_TABLES)
    return connection.value("SELECT to_regclass('alembic_version')") is not None
