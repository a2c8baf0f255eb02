"""Open connections to the job store: a SQLite file or a PostgreSQL server."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event, exc, func, make_url, select, text
from sqlalchemy.engine import URL

from pusher.config import values
from pusher.config.private import check_private_file, check_private_folder
from pusher.errors import InvalidOption, StoreRemoved
from pusher.store.driver_errors import read_only_error, translate_errors

Clock = Callable[[], datetime]

BUSY_TIMEOUT = 10.0
"""Seconds to wait for another process's transaction."""

_READS = "pusher_reads"
_WORTH_COMPACTING = 1024 * 1024
"""Free bytes below which a file is not rewritten."""


def utc_now() -> datetime:
    """Return this machine's time."""
    return datetime.now(UTC)


def parse_url(url: str) -> URL:
    """Read a database URL; InvalidOption if it names no database that pusher can use."""
    try:
        parsed = make_url(url)
    except (exc.ArgumentError, ValueError):  # ValueError: a port that is not a number
        raise _bad_url("is not a database URL") from None
    if parsed.drivername in ("postgres", "postgresql", "postgresql+psycopg"):
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise _bad_url(f"names a database of the kind {parsed.drivername}, which pusher does not use")
    if parsed.database in (None, "", ":memory:"):
        raise _bad_url("names no file")
    return parsed


def sqlite_url(path: Path) -> str:
    """Return the URL of a job store in a file."""
    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


def label_of(url: URL) -> str:
    """Return the name of the job store in messages: without password and query."""
    if is_sqlite(url):
        return str(url.database)
    where = str(url.host or url.query.get("host") or "localhost").rpartition("@")[2]  # "@" in a password
    port = f":{url.port}" if url.port else ""
    return f"postgresql://{where}{port}/{url.database or ''}"


def is_sqlite(url: URL) -> bool:
    """Return whether the job store is a file."""
    return url.drivername.startswith("sqlite")


def file_of(url: URL) -> Path:
    """Return the file of a SQLite job store."""
    return values.parse_path(str(url.database), "PUSHER_DATABASE_URL").absolute()


class Database:
    """An engine with its clock; hands out connections inside a transaction.

    Thread-safe. Every driver error is raised as a StoreError.
    """

    def __init__(
        self, url: URL, *, clock: Clock | None = None, immutable: bool = False, foreign_keys: bool = True
    ) -> None:
        """Open the database; ``immutable`` reads a SQLite file without a lock, as it cannot have a writer.

        ``foreign_keys`` off is for migrations, which rebuild tables.
        """
        self.label = label_of(url)
        self.writable = not immutable
        self._clock = clock
        if is_sqlite(url):
            self.engine = _sqlite(file_of(url), immutable=immutable, foreign_keys=foreign_keys)
            # Threads queue here instead of sleeping in SQLite's busy handler, which is not fair.
            self._turn: Any = threading.Lock()
        else:
            self.engine = _postgresql(url)
            self._turn = nullcontext()

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite."""
        return self.engine.dialect.name == "sqlite"

    def now(self, connection: Connection | None = None) -> datetime:
        """Return the store's time. A server is asked each time, over ``connection`` if given, so that hosts
        agree and a change of a host's clock does not expire leases."""
        if self._clock is not None:
            return self._clock()
        if self.is_sqlite:
            return utc_now()
        if connection is None:
            with self.read() as own:
                return self.now(own)
        server: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
        return server

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a connection that sees one state of the store (SQLite) and changes nothing."""
        with translate_errors(self.label), self.engine.connect() as connection:
            yield connection.execution_options(**{_READS: True})

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Begin a transaction: committed at the end of the block, rolled back if it raises."""
        if not self.writable:
            raise read_only_error(self.label)
        with translate_errors(self.label), self._turn, self.engine.begin() as connection:
            yield connection

    @contextmanager
    def dry_run(self) -> Iterator[Connection]:
        """Begin a transaction that is rolled back at the end of the block, to count what it would change."""
        with translate_errors(self.label), self._turn, self.engine.connect() as connection:
            yield connection  # closing it rolls back

    def compact(self) -> int:
        """Rewrite a SQLite file that is large and a fourth empty; return the bytes freed.

        Does nothing if it is in use or the disk has no room for the copy.
        """
        if not self.is_sqlite or not self.writable:
            return 0
        raw = self.engine.raw_connection()
        try:
            cursor = raw.cursor()

            def figure(name: str) -> int:
                return int(cursor.execute(f"PRAGMA {name}").fetchone()[0])

            before, free = figure("page_count"), figure("freelist_count")
            if free * 4 < before or free * figure("page_size") < _WORTH_COMPACTING:
                return 0
            with suppress(sqlite3.OperationalError):
                cursor.execute("VACUUM")
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            return (before - figure("page_count")) * figure("page_size")
        finally:
            raw.close()

    def lock(self, connection: Connection, name: str) -> None:
        """Hold a lock with this name until the end of the transaction.

        For objects that have no row yet. SQLite needs none: it has one writing transaction at a time.
        """
        if not self.is_sqlite:
            wait = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
            connection.execute(wait, {"name": name})

    def close(self) -> None:
        """Close the connections that are not in use."""
        self.engine.dispose()


def _check_private(path: Path) -> None:
    """Raise HomeUnusable if another user may have created the file, or SQLite's files beside it."""
    with suppress(OSError):  # what cannot be examined cannot be opened either, which is reported then
        check_private_folder(path.parent)
        for end in ("", "-wal", "-shm", "-journal"):
            check_private_file(path.with_name(path.name + end))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _sqlite(path: Path, *, immutable: bool, foreign_keys: bool) -> Engine:
    _check_private(path)
    # mode=rw: a file that vanished is an error and not an empty job store.
    uri = f"file:{quote(str(path))}?" + ("mode=ro&immutable=1" if immutable else "mode=rw")

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            uri, uri=True, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute(f"PRAGMA foreign_keys = {int(foreign_keys)}")
            if not immutable:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        return connection

    engine = create_engine(
        "sqlite://", creator=connect, poolclass=QueuePool, max_overflow=-1, hide_parameters=True
    )
    opened = _identity(path)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if opened is not None and _identity(path) != opened:
            # writes to it now are lost with its last connection
            raise StoreRemoved(f"the job store {path} was removed or replaced while it was in use")
        reads = connection.get_execution_options().get(_READS)
        # A transaction that writes takes its lock at once: one that upgrades later can fail without waiting.
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _postgresql(url: URL) -> Engine:
    connect: dict[str, Any] = {"application_name": "pusher", "connect_timeout": 10}
    try:
        engine = create_engine(
            url,
            connect_args={key: value for key, value in connect.items() if key not in url.query},
            max_overflow=-1,
            pool_pre_ping=True,
            hide_parameters=True,  # locations may carry secrets
        )
    except ImportError as error:
        raise InvalidOption(
            "PostgreSQL is asked for and its driver is not installed", hint="pip install 'psycopg[binary]'"
        ) from error

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: object) -> None:
        connection.execute(f"SET lock_timeout = {int(BUSY_TIMEOUT * 1000)}")
        connection.commit()

    return engine


def _bad_url(what: str) -> InvalidOption:
    # The value itself may hold a password.
    return InvalidOption(
        f"PUSHER_DATABASE_URL {what}",
        hint="use sqlite:////path/to/jobs.db or postgresql://user@host/database, or unset it",
    )
