"""Open the job store; its parts are the interface for the rest of pusher."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Self, cast

from pusher.errors import DiskFull, StoreOutdated, StoreReadOnly, StoreUnreachable
from pusher.store import migrate, schema
from pusher.store.abandoned_sessions import AbandonedSessions
from pusher.store.blob_waits import BlobWaits
from pusher.store.budgets import Budgets
from pusher.store.dead_sessions import DeadSessions
from pusher.store.documents import Documents
from pusher.store.driver_errors import read_only_error
from pusher.store.engine import Clock, Database
from pusher.store.events import Events
from pusher.store.facts import Facts
from pusher.store.job_blobs import JobBlobs
from pusher.store.jobs import Jobs
from pusher.store.known_blobs import KnownBlobs
from pusher.store.notifications import JobListener, listen
from pusher.store.outages import ChangeJournal, OutageProxy, StoreOutages, UploadsProxy
from pusher.store.queue_settings import QueueSettings
from pusher.store.received_jobs import ReceivedJobs
from pusher.store.retention import Retention
from pusher.store.uploads import Uploads
from pusher.store.url import DatabaseUrl, file_of, label_of, parse_url
from pusher.store.workers import Workers


class Store:
    """An open job store. Thread-safe.

    Every method of its parts is one transaction and raises StoreError if the database fails.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._plain: Store | None = None
        self.jobs = Jobs(database)
        self.received_jobs = ReceivedJobs(database)
        self.blobs = JobBlobs(database)
        self.uploads = Uploads(database)
        self.abandoned = AbandonedSessions(database)
        self.known_blobs = KnownBlobs(database)
        self.blob_waits = BlobWaits(database)
        self.documents = Documents(database)
        self.dead_sessions = DeadSessions(database)
        self.facts = Facts(database)
        self.events = Events(database)
        self.retention = Retention(database)
        self.settings = QueueSettings(database)
        self.workers = Workers(database)
        self.budgets = Budgets(database)

    @classmethod
    def open(cls, url: str, *, clock: Clock | None = None) -> Store:
        """Open the job store at a database URL (``sqlite:///PATH`` or ``postgresql://...``).

        A SQLite file is created, or copied and upgraded, if needed; one that cannot be written is
        opened for reading. ``clock`` gives aware times and replaces the database's (tests). Raises
        StoreOutdated (PostgreSQL is upgraded with ``pusher db upgrade``), StoreTooNew, StoreCorrupt,
        StoreUnreachable, StoreLocked, InvalidOption.
        """
        parsed = parse_url(url)
        if parsed.is_sqlite:
            return cls(_open_file(url, parsed, clock))
        database = Database(parsed, clock=clock)
        if not schema.is_current(_revision(database)):
            database.close()
            raise StoreOutdated(
                f"the job store {database.label} needs the schema {schema.head()}",
                hint="run: pusher db upgrade",
            )
        return cls(database)

    @property
    def label(self) -> str:
        """The name of the job store in messages: a path, or a URL without a password."""
        return self._database.label

    def waiting_out(self, outages: StoreOutages, journal: ChangeJournal | None = None) -> Store:
        """Return the same store with methods that wait while it is unavailable, as ``outages`` allows.

        ``journal`` keeps what registries acknowledged meanwhile.
        """
        plain, store = self.direct(), Store(self._database)
        store._plain = plain
        store.now = partial(outages.call, plain.now)  # type: ignore[method-assign]
        for name, part in vars(plain).items():
            if not name.startswith("_"):
                setattr(store, name, OutageProxy(part, outages))
        if journal is not None:
            store.uploads = cast("Uploads", UploadsProxy(plain.uploads, outages, journal))
        return store

    def direct(self) -> Store:
        """Return the same store with methods that do not wait."""
        return self._plain or self

    @property
    def may_lose_writes(self) -> bool:
        """Whether the last changes may be missing later: a server's replica that takes over may lag."""
        return not self._database.is_sqlite

    @property
    def writable(self) -> bool:
        """False if not even a lock can be written; every change then raises StoreReadOnly or DiskFull."""
        return self._database.writable

    @property
    def is_shared(self) -> bool:
        """Whether machines may share it; a SQLite file belongs to the one that it is on."""
        return not self._database.is_sqlite

    def check_writable(self) -> None:
        """Try a write without effect; raises the error that a change would raise now."""
        with self._database.write() as connection:
            connection.execute("UPDATE jobs SET priority = priority WHERE 1 = 0")

    def listen(self, on_change: Callable[[int | None], None]) -> JobListener | None:
        """Call ``on_change``, in another thread, with the id of each job that changes state, or with None
        when that may have been missed. Return None, and never call it, with SQLite."""
        return listen(self._database, on_change)

    def now(self) -> datetime:
        """Return the store's time, to which leases and next tries refer."""
        return self._database.now()

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open_file(url: str, parsed: DatabaseUrl, clock: Clock | None) -> Database:
    try:
        exists = file_of(parsed).exists()
    except OSError as error:
        raise StoreUnreachable(
            f"the job store {label_of(parsed)} cannot be opened: {error.strerror}",
            hint="check the permissions of its folder",
        ) from error
    if not exists:
        migrate.upgrade(url)
    database = Database(parsed, clock=clock)
    try:
        revision = _revision(database)
    except (DiskFull, StoreUnreachable, StoreReadOnly) as error:
        database = _for_reading(parsed, clock, error)
        revision = _revision(database)
    if not schema.is_current(revision):
        database.close()
        if not database.writable:
            if isinstance(unwritable := read_only_error(database.label), DiskFull):
                raise unwritable
            raise StoreReadOnly(
                f"the job store {database.label} cannot be written and needs the schema {schema.head()}",
                hint="make its folder writable, then: pusher db upgrade",
            )
        migrate.upgrade(url)
        database = Database(parsed, clock=clock)
    return database


def _for_reading(url: DatabaseUrl, clock: Clock | None, error: Exception) -> Database:
    """Open the file read-only if no log next to it has newer pages; else raise ``error``.

    SQLite can read a database in WAL mode without writing its shared-memory file only if the file is declared
    immutable: https://sqlite.org/wal.html#read_only_databases.
    """
    path = file_of(url)
    log = path.with_name(path.name + "-wal")
    try:
        if log.exists() and log.stat().st_size > 0:
            raise error
        path.open("rb").close()
    except OSError:
        raise error from None
    return Database(url, clock=clock, immutable=True)


def _revision(database: Database) -> str | None:
    try:
        with database.read() as connection:
            return schema.revision_of(connection, database.label)
    except BaseException:
        database.close()
        raise
