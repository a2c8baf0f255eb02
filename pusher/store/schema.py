"""Find the schema revision of a job store, or the SQL of a new one.

Without SQLAlchemy and Alembic, whose imports take longer than most commands.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pusher import __version__
from pusher.errors import StoreTooNew
from pusher.store.connection import Connection
from pusher.store.driver_errors import corrupt_error

REVISIONS: Final = (
    *("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010"),
    *("0011", "0012", "0013", "0014", "0015", "0016", "0017", "0018", "0019", "0020"),
    "0021",
    "0022",
)
"""Every revision in ``migrations/``, oldest first."""
OLDEST: Final = "0020"
"""The oldest revision whose version of pusher can use a store of the newest one.

A migration that such a version cannot live with, or must not ignore, raises it to its own revision. New
tables and indexes, and columns that are null or have a default, do not.
"""

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
    """Return the revision of a job store; None if it is empty. It may be unknown, if this version can use it.

    Raises StoreTooNew if it cannot, StoreCorrupt for tables that are not pusher's.
    """
    if not _has_revision(connection):
        if connection.is_sqlite and connection.column(_TABLES):
            raise corrupt_error(label, "is an SQLite database, but not a job store of pusher")
        return None
    revision: str | None = connection.value("SELECT version_num FROM alembic_version")
    if revision is not None and revision not in REVISIONS:
        check_support(connection, label)
    return revision


def is_current(revision: str | None) -> bool:
    """Return whether a store whose revision was read is used as it is: the newest, or that of a newer
    version."""
    return revision is not None and (revision == head() or revision not in REVISIONS)


def can_use(revision: str) -> bool:
    """Return whether the version of pusher of a known revision can use a store of the newest one."""
    return REVISIONS.index(revision) >= REVISIONS.index(OLDEST)


def check_support(connection: Connection, label: str) -> None:
    """Raise StoreTooNew if a newer version of pusher has upgraded the store to what this one cannot use."""
    if connection.value("SELECT oldest FROM schema_support") not in REVISIONS:
        revision = connection.value("SELECT version_num FROM alembic_version")
        raise StoreTooNew(
            f"the job store {label} was upgraded by a newer pusher to a schema that this one, version "
            f"{__version__}, cannot use ({revision}, known: {head()})",
            hint="install that version here as well; jobs and uploads continue with it",
        )


def _has_revision(connection: Connection) -> bool:
    if connection.is_sqlite:
        return "alembic_version" in connection.column(_TABLES)
    return connection.value("SELECT to_regclass('alembic_version')") is not None
