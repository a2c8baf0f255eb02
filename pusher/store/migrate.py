"""Create or upgrade a job store's schema; SQLAlchemy and Alembic are imported only for an upgrade."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pusher
from pusher.config.private import check_private_file, make_private_folder
from pusher.dataclass import dataclass
from pusher.errors import DiskFull, StoreLocked, StoreUnreachable
from pusher.store import engine, schema
from pusher.store.connection import Connection, postgresql
from pusher.store.driver_errors import translate_errors
from pusher.store.drivers import connect_postgresql, connect_sqlite
from pusher.store.engine import Database
from pusher.store.url import DatabaseUrl, file_of, label_of, parse_url
from pusher.text import printable

if TYPE_CHECKING:
    import sqlalchemy

LOCK_TIMEOUT = 60.0
"""Seconds to wait for another process that upgrades the same store."""

_ADVISORY_LOCK = 0x707573686572  # "pusher"
_WORKERS_SINCE: Final = "0015"
_AT_WORK: Final = {
    "workers": "SELECT id FROM workers WHERE expires_at > :now ORDER BY id",
    "jobs": """SELECT DISTINCT lease_owner FROM jobs
        WHERE finished_at IS NULL AND lease_expires_at > :now ORDER BY lease_owner""",
}
"""The queries for workers, before and since there is a table of them."""
_MAX_NAMED: Final = 5


@dataclass(frozen=True)
class SchemaReport:
    """The result of ``pusher db check``."""

    current: str | None
    """Revision of the job store; None if it is empty."""
    head: str
    """Revision that this version of pusher works with."""
    problems: tuple[str, ...]
    """Damage found, in SQLite's words."""

    @property
    def is_current(self) -> bool:
        """Whether this version of pusher uses the job store as it is."""
        return schema.is_current(self.current)


def upgrade(url: str, *, stops_workers: bool = True) -> tuple[str | None, str]:
    """Create or upgrade the schema; return the revisions before and after. Safe to run concurrently.

    Workers of an older version stay at work, or end before their next job if they cannot use the new schema.
    Raises StoreLocked in that case, and changes nothing, unless the upgrade ``stops_workers``.
    """
    parsed = parse_url(url)
    if not stops_workers and (not parsed.is_sqlite or file_of(parsed).exists()):
        _check_stops_none(parsed)
    return _upgrade_file(parsed) if parsed.is_sqlite else _upgrade_server(parsed)


def check(url: str) -> SchemaReport:
    """Read the revision and, on SQLite, every page. StoreUnreachable if there is no job store."""
    database = Database(parse_url(url))
    try:
        with database.read() as connection:
            current = schema.revision_of(connection, database.label)
            problems = tuple(_problems(connection)) if database.is_sqlite else ()
    finally:
        database.close()
    return SchemaReport(current, schema.head(), problems)


def folder() -> Path:
    """Return the folder of the migrations: in the installed wheel, else in the checkout."""
    packaged = Path(str(pusher.__file__)).parent / "_migrations"
    if packaged.is_dir():
        return packaged
    return Path(str(pusher.__file__)).parent.parent / "migrations"


def _upgrade_file(url: DatabaseUrl) -> tuple[str | None, str]:
    with _lock_file(url) as path:
        before = _revision(url)
        if before is not None and schema.is_current(before):
            return before, before
        copy = path.with_name(f"{path.name}.before-{schema.head()}")
        if before is not None:
            with translate_errors(label_of(url)):
                _copy(path, copy)
        if before is None:
            _create(url)
        if _revision(url) != schema.head():
            with connect_sqlalchemy(url) as connection:
                _run(connection)
        _remove_copies(path, lambda found: found != copy)  # those of earlier upgrades
    return before, schema.head()


def remove_old_copies(url: str, age: float) -> None:
    """Delete copies of a SQLite job store that were made before upgrades more than ``age`` seconds ago."""
    parsed = parse_url(url)
    if parsed.is_sqlite:
        _remove_copies(file_of(parsed), lambda found: time.time() - found.stat().st_mtime > age)


def _remove_copies(path: Path, unwanted: Callable[[Path], bool]) -> None:
    for found in path.parent.glob(f"{escape(path.name)}.before-*"):
        with suppress(OSError):  # another process has deleted it, or it is not ours
            if unwanted(found):
                found.unlink()


def _revision(url: DatabaseUrl) -> str | None:
    database = Database(url)
    try:
        with database.read() as connection:
            return schema.revision_of(connection, database.label)
    finally:
        database.close()


@contextmanager
def connect_sqlalchemy(url: DatabaseUrl) -> Iterator[sqlalchemy.Connection]:
    """Begin a transaction in which SQLAlchemy and Alembic can change the schema."""
    from sqlalchemy import NullPool, create_engine, event, exc

    def connect() -> Any:
        if url.is_sqlite:
            return connect_sqlite(file_of(url), engine.BUSY_TIMEOUT, foreign_keys=False)
        raw = connect_postgresql(url)
        raw.autocommit = False
        return raw

    kind = "sqlite" if url.is_sqlite else "postgresql+psycopg"
    changing = create_engine(f"{kind}://", creator=connect, poolclass=NullPool)
    if url.is_sqlite:
        event.listen(changing, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    with translate_errors(label_of(url)):
        try:
            with changing.begin() as connection:
                yield connection
        except exc.DBAPIError as error:
            raise error.orig or error from error


def _create(url: DatabaseUrl) -> None:
    """Create the tables in an empty database, with the revision that their SQL file contains."""
    database = Database(url)
    try:
        with database.write() as connection:
            if not database.is_sqlite:
                _lock_server(connection)
            if schema.revision_of(connection, database.label) is None:
                for statement in schema.creating_statements(connection):
                    connection.execute(statement)
    finally:
        database.close()


@contextmanager
def _lock_file(url: DatabaseUrl) -> Iterator[Path]:
    """Create the file if needed, and keep other processes from creating or upgrading it."""
    from filelock import FileLock, Timeout

    path, label = file_of(url), label_of(url)
    try:
        make_private_folder(path.parent)
        check_private_file(path.with_name(f"{path.name}.lock"))
        check_private_file(path)
        with FileLock(f"{path}.lock", timeout=LOCK_TIMEOUT, mode=0o600):
            # Upload locations may carry secrets: the file is private from its first byte.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            yield path
    except Timeout as error:
        raise StoreLocked(
            f"another process upgrades the job store {label} since {LOCK_TIMEOUT:.0f} seconds",
            hint="try again later",
        ) from error
    except OSError as error:
        raise StoreUnreachable(
            f"the job store {label} cannot be created or upgraded: {error.strerror}",
            hint="choose a folder that you may write to: export PUSHER_HOME=FOLDER",
        ) from error


def _copy(path: Path, to: Path) -> None:
    """Copy the file atomically: the copy is complete or missing."""
    part = to.with_name(to.name + ".part")
    part.unlink(missing_ok=True)
    size, free = path.stat().st_size, shutil.disk_usage(path.parent).free
    if free < 2 * size:  # the upgrade may write every table anew
        raise DiskFull(
            f"the job store {path} is to be upgraded, and its disk has no room for that: {free >> 20} MiB",
            hint=f"free {2 * size >> 20} MiB there; nothing was changed",
        )
    try:
        os.close(os.open(part, os.O_RDWR | os.O_CREAT, 0o600))
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(part)) as target:
            source.backup(target)
        part.replace(to)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _upgrade_server(url: DatabaseUrl) -> tuple[str | None, str]:
    before = _revision(url)
    if before is None:
        _create(url)
    if not schema.is_current(after := _revision(url)):
        after = schema.head()
        with connect_sqlalchemy(url) as connection:
            raw = Connection(connection.connection.driver_connection, postgresql())
            _lock_server(raw)
            if not schema.is_current(schema.revision_of(raw, label_of(url))):
                _run(connection)
    return before, after or schema.head()


def _check_stops_none(url: DatabaseUrl) -> None:
    """Raise StoreLocked if workers are at work that cannot use the schema after an upgrade."""
    database = Database(url)
    try:
        with database.read() as connection:
            before = schema.revision_of(connection, database.label)
            if before is None or schema.is_current(before) or schema.can_use(before):
                return
            table = "workers" if before >= _WORKERS_SINCE else "jobs"
            workers = connection.column(_AT_WORK[table], now=database.now(connection))
    finally:
        database.close()
    if workers:
        names = ", ".join(printable(worker.partition("-")[0]) for worker in workers[:_MAX_NAMED])
        more = f" and {len(workers) - _MAX_NAMED} more" if len(workers) > _MAX_NAMED else ""
        raise StoreLocked(
            f"the job store {database.label} is used by workers of an older pusher, which could not use it "
            f"after this upgrade (host/process): {names}{more}",
            hint="stop them (Ctrl-C, or pusher stop there), then: pusher db upgrade\n"
            "or have them end before their next jobs: pusher db upgrade --force",
        )


def _lock_server(connection: Connection) -> None:
    """Keep other processes from creating or upgrading the schema until the end of the transaction."""
    connection.execute("SET LOCAL lock_timeout = 0")
    connection.execute("SELECT pg_advisory_xact_lock(:key)", key=_ADVISORY_LOCK)
    # all other sessions wait behind this one if it waits for a table
    connection.execute(f"SET LOCAL lock_timeout = {int(engine.BUSY_TIMEOUT * 1000)}")


def _run(connection: sqlalchemy.Connection) -> None:
    """Run all missing revisions inside the connection's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(folder()).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    connection.exec_driver_sql(f"UPDATE schema_support SET oldest = '{schema.OLDEST}'")


def _problems(connection: Connection) -> Iterator[str]:
    yield from (str(line) for line in connection.column("PRAGMA integrity_check") if line != "ok")
    for row in connection.rows("PRAGMA foreign_key_check"):
        yield f"row {row['rowid']} of {row['table']} refers to a row of {row['parent']} that is not there"
