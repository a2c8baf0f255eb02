"""Run transactions on the job store: a SQLite file or a PostgreSQL server."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from typing import Any

from pusher.errors import StoreCorrupt, StoreTooNew
from pusher.store.connection import SQLITE, Connection
from pusher.store.driver_errors import read_only_error, translate_errors
from pusher.store.drivers import Connector, PostgresqlConnector, SqliteConnector, connect_postgresql
from pusher.store.group_commit import GroupCommit
from pusher.store.schema import check_support
from pusher.store.url import DatabaseUrl, file_of, label_of
from pusher.store.write_turn import WriteTurn

Clock = Callable[[], datetime]

BUSY_TIMEOUT = 10.0
"""Seconds to wait for another process's transaction."""

_WORTH_COMPACTING = 1024 * 1024
"""Free bytes below which a file is not rewritten."""


def utc_now() -> datetime:
    """Return this machine's time."""
    return datetime.now(UTC)


class Database:
    """Hands out connections inside a transaction, and has a clock.

    Thread-safe. Every driver error is raised as a StoreError.
    """

    def __init__(
        self,
        url: DatabaseUrl,
        *,
        clock: Clock | None = None,
        immutable: bool = False,
    ) -> None:
        """Open the database; ``immutable`` reads a SQLite file without a lock, as it cannot have a writer."""
        self.label = label_of(url)
        self.writable = not immutable
        self._url = url
        self._clock = clock
        self._connector: Connector
        if url.is_sqlite:
            self._connector = SqliteConnector(file_of(url), busy_timeout=BUSY_TIMEOUT, immutable=immutable)
            # Threads queue here instead of sleeping in SQLite's busy handler, which is not fair.
            self._writes: GroupCommit | None = GroupCommit(self._connector, WriteTurn())
        else:
            self._connector = PostgresqlConnector(url, lock_timeout=BUSY_TIMEOUT)
            self._writes = None

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite."""
        return self._connector.driver is SQLITE

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
        server: datetime = connection.value("SELECT clock_timestamp()")
        return server

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a connection that sees one state of the store (SQLite) and changes nothing."""
        with self._explained(), self._transaction(writes=False) as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Begin a transaction: committed at the end of the block, rolled back if it raises."""
        if not self.writable:
            raise read_only_error(self.label)
        with self._explained():
            if self._writes is None:
                with self._transaction(writes=True) as connection:
                    yield connection
            else:
                with self._writes.transaction() as raw:
                    yield Connection(raw, SQLITE)

    @contextmanager
    def dry_run(self) -> Iterator[Connection]:
        """Begin a transaction that is rolled back at the end of the block, to count what it would change."""
        with (
            translate_errors(self.label),
            nullcontext() if self._writes is None else self._writes.exclusive(),
            self._transaction(writes=True, commit=False) as connection,
        ):
            yield connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Translate errors. A part of the schema that is missing was perhaps removed by a newer version."""
        try:
            with translate_errors(self.label):
                yield
        except StoreCorrupt as error:
            raise self._find_newer() or error from error

    def _find_newer(self) -> StoreTooNew | None:
        """Return the error of a store that this version of pusher cannot use any more; None if it can."""
        with suppress(Exception), self._transaction(writes=False) as connection:
            try:
                check_support(connection, self.label)
            except StoreTooNew as error:
                return error
        return None

    @contextmanager
    def _transaction(self, *, writes: bool, commit: bool | None = None) -> Iterator[Connection]:
        raw = self._connector.begin(writes=writes)
        try:
            yield Connection(raw, self._connector.driver)
        except BaseException:
            with suppress(Exception):  # the first error counts
                self._connector.finish(raw, commit=False)
            raise
        self._connector.finish(raw, commit=writes if commit is None else commit)

    def compact(self) -> int:
        """Rewrite a SQLite file that is large and a fourth empty; return the bytes freed.

        Does nothing if it is in use or the disk has no room for the copy.
        """
        if not isinstance(self._connector, SqliteConnector) or not self.writable:
            return 0
        raw = self._connector.take()
        try:

            def figure(name: str) -> int:
                return int(raw.execute(f"PRAGMA {name}").fetchone()[0])

            before, free = figure("page_count"), figure("freelist_count")
            if free * 4 < before or free * figure("page_size") < _WORTH_COMPACTING:
                return 0
            with suppress(sqlite3.OperationalError):
                raw.execute("VACUUM")
                raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            return (before - figure("page_count")) * figure("page_size")
        finally:
            self._connector.give_back(raw)

    def lock(self, connection: Connection, name: str) -> None:
        """Hold a lock with this name until the end of the transaction.

        For objects that have no row yet. SQLite needs none: it has one writing transaction at a time.
        """
        if not self.is_sqlite:
            connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))", name=name)

    def connect(self) -> Any:
        """Return a new connection of the driver to a server, outside of a transaction."""
        return connect_postgresql(self._url)

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._connector.close()
