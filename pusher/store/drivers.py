"""Open and keep the drivers' connections: sqlite3's and psycopg's."""

from __future__ import annotations

import sqlite3
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote

from pusher.config.private import check_private_file, check_private_folder
from pusher.errors import InvalidOption, StoreRemoved
from pusher.store.connection import SQLITE, Driver, postgresql
from pusher.store.url import DatabaseUrl

_KEPT: Final = 5
"""Idle connections that stay open."""
_CONNECTION: Final[dict[str, Any]] = {
    "autocommit": True,
    "application_name": "pusher",
    # statements prepared before another version changed a table fail, and so they do in a pooled session
    "prepare_threshold": None,
    "connect_timeout": 10,
    # seconds and, the last, milliseconds, after which a server that does not respond any more counts as away
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""libpq's and psycopg's settings of each connection; the URL may have others."""
_BUSY_PAUSE: Final = 0.01
"""Seconds between two tries to switch to the write-ahead log."""
_LONGEST_PAUSE: Final = 30.0
"""Seconds after which a server ends a transaction whose process is stopped: no other process can change
what it has locked, and a machine that sleeps may not wake up for days."""


class Connector(Protocol):
    """A source of connections inside a new transaction."""

    driver: Driver

    def begin(self, *, writes: bool) -> Any:
        """Return a connection that has begun a transaction."""

    def finish(self, raw: Any, *, commit: bool) -> None:
        """End the transaction of a connection that ``begin`` returned."""

    def close(self) -> None:
        """Close the connections that are not in use."""


class _Pool:
    """Connections that are not in use, the last used one first. Thread-safe, as operations of lists are."""

    def __init__(self) -> None:
        self._idle: list[Any] = []
        self._kept = _KEPT

    def take(self) -> Any | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def give_back(self, raw: Any) -> None:
        if len(self._idle) < self._kept:
            self._idle.append(raw)
        else:
            raw.close()

    def clear(self) -> None:
        while (raw := self.take()) is not None:
            self.discard(raw)

    @staticmethod
    def discard(raw: Any) -> None:
        """Close a connection that cannot be used any more."""
        with suppress(Exception):  # the server is gone
            raw.close()

    def close(self) -> None:
        self._kept = 0
        self.clear()


class SqliteConnector:
    """Connections to a SQLite file."""

    driver = SQLITE

    def __init__(self, path: Path, *, busy_timeout: float, immutable: bool) -> None:
        _check_private(path)
        self._path = path
        self._opened = _identity(path)
        self._connect = partial(connect_sqlite, path, busy_timeout, immutable=immutable)
        self._pool = _Pool()

    def begin(self, *, writes: bool) -> sqlite3.Connection:
        raw = self.take()
        try:
            if self._opened is not None and _identity(self._path) != self._opened:
                # writes to it now are lost with its last connection
                raise StoreRemoved(f"the job store {self._path} was removed or replaced while it was in use")
            # A transaction that writes takes its lock at once: one that upgrades later can fail without
            # waiting.
            raw.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
        except BaseException:
            self.give_back(raw)
            raise
        return raw

    def finish(self, raw: sqlite3.Connection, *, commit: bool) -> None:
        try:
            if commit:
                raw.commit()
        finally:
            raw.rollback()  # no effect after a commit
            self.give_back(raw)

    def take(self) -> sqlite3.Connection:
        """Return a connection outside of a transaction, for ``give_back``."""
        raw: sqlite3.Connection = self._pool.take() or self._connect()
        return raw

    def give_back(self, raw: sqlite3.Connection) -> None:
        """Keep a connection for later."""
        self._pool.give_back(raw)

    def close(self) -> None:
        self._pool.close()


class PostgresqlConnector:
    """Connections to a PostgreSQL server."""

    def __init__(self, url: DatabaseUrl, *, lock_timeout: float) -> None:
        self._connect = partial(connect_postgresql, url)
        _import_psycopg()
        # not SET: the next transaction may run in another session, where the server pools them (PgBouncer)
        self._begin = (
            f"BEGIN; SET LOCAL lock_timeout = {int(lock_timeout * 1000)};"
            f" SET LOCAL idle_in_transaction_session_timeout = {int(_LONGEST_PAUSE * 1000)}"
        )
        self.driver = postgresql()
        self._pool = _Pool()

    def begin(self, *, writes: bool) -> Any:  # noqa: ARG002 - a transaction of PostgreSQL can do both
        kept = self._pool.take()
        if kept is not None:
            try:
                kept.execute(self._begin)
            except Exception:
                self._pool.discard(kept)
                self._pool.clear()
            else:
                return kept
        raw = self._connect()
        try:
            raw.execute(self._begin)
        except BaseException:
            self._pool.discard(raw)
            raise
        return raw

    def finish(self, raw: Any, *, commit: bool) -> None:
        try:
            if commit:
                raw.commit()
            else:
                raw.rollback()
        except BaseException:
            raw.close()
            raise
        self._pool.give_back(raw)

    def close(self) -> None:
        self._pool.close()


def connect_sqlite(
    path: Path, busy_timeout: float, *, immutable: bool = False, foreign_keys: bool = True
) -> sqlite3.Connection:
    """Open a SQLite file that exists, with a transaction only where a statement begins one.

    ``busy_timeout``: seconds to wait for another process's transaction. ``foreign_keys``: False for
    migrations, which build tables again.
    """
    # mode=rw: a file that vanished is an error and not an empty job store.
    mode = "mode=ro&immutable=1" if immutable else "mode=rw"
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?{mode}",
        uri=True,
        timeout=busy_timeout,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute(f"PRAGMA foreign_keys = {int(foreign_keys)}")
        if not immutable:
            _use_wal(connection, busy_timeout)
            connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def _use_wal(connection: sqlite3.Connection, timeout: float) -> None:
    """Switch to the write-ahead log, unless that is done. SQLite itself does not wait where several switch
    at the same time."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(_BUSY_PAUSE)


def connect_postgresql(url: DatabaseUrl) -> Any:
    """Open a connection to a server, in a transaction only where a statement begins one."""
    return _import_psycopg().connect(**{**_CONNECTION, **url.connect_arguments()})


def _import_psycopg() -> Any:
    try:
        import psycopg
    except ImportError as error:
        raise InvalidOption(
            "PostgreSQL is asked for and its driver is not installed", hint="pip install 'psycopg[binary]'"
        ) from error
    return psycopg


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
