"""Tell workers on other machines at once that a job changed: NOTIFY and LISTEN of PostgreSQL.

Polling stays behind it: nothing depends on a notification. Through a pooler that hands out a session for one
transaction, such as PgBouncer in transaction mode, none arrives, and a listener finds that out.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections.abc import Callable
from typing import Any, Final

from pusher.errors import DiskFull, PusherError, StoreError
from pusher.store.connection import Connection
from pusher.store.driver_errors import translate_errors
from pusher.store.engine import Database
from pusher.store.records import JobState
from pusher.system import elapsed

_CHANNEL: Final = "pusher_jobs"
_TEST: Final = "test"
_MAX_PAYLOAD: Final = 100
"""Bytes of a notification that are read: any user of the database can send one."""
_NOTIFIED: Final = frozenset(JobState) - {JobState.RUNNING}
"""States after which another worker may have something to do."""
_TEST_EVERY: Final = 30.0
"""Seconds without a notification after which the listener sends one to itself."""
_TEST_LIMIT: Final = 5.0
"""Seconds within which it must arrive."""
_RECONNECT_AFTER: Final = 5.0
"""Seconds until the next try after a connection ended."""
_RETEST_AFTER: Final = 300.0
"""The same after a test failed."""
_CLOSE_LIMIT: Final = 0.5
"""Seconds for which closing waits for a server that does not respond."""


def notify(connection: Connection, kind: str, job_id: int) -> None:
    """Notify the listeners, once the transaction is committed, of a job's new state; no effect with
    SQLite."""
    if kind in _NOTIFIED and not connection.is_sqlite:
        _send(connection, f"{kind} {job_id}")


def _send(connection: Connection, text: str) -> None:
    connection.execute("SELECT pg_notify(:channel, :text)", channel=_CHANNEL, text=text)


class JobListener:
    """Calls ``on_change`` with the id of each job that changes state, in a thread with its own connection.

    It is called with None when notifications may have been missed.
    """

    def __init__(self, database: Database, on_change: Callable[[int | None], None]) -> None:
        self._database = database
        self._on_change = on_change
        self._test = f"{_TEST} {os.urandom(8).hex()}"
        self._heard_at: float | None = None
        self._closed = threading.Event()
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="job-listener", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether notifications arrive, as the last test showed."""
        heard = self._heard_at
        return heard is not None and elapsed() - heard < _TEST_EVERY + _TEST_LIMIT

    def close(self) -> None:
        """Close the connection."""
        self._closed.set()
        self._wake.close()
        self._thread.join(_CLOSE_LIMIT)

    def _run(self) -> None:
        with self._woken:
            while not self._closed.is_set():
                pause = _RECONNECT_AFTER
                with contextlib.suppress(StoreError, DiskFull):
                    self._listen()
                    pause = _RETEST_AFTER
                self._heard_at = None
                self._closed.wait(pause)

    def _listen(self) -> None:
        """Receive notifications until the connection ends, a test fails, or the listener is closed."""
        with translate_errors(self._database.label), contextlib.closing(self._database.connect()) as raw:
            raw.execute(f"LISTEN {_CHANNEL}")
            arrivals = select.poll()  # select takes no descriptor above 1023
            for descriptor in (raw.fileno(), self._woken.fileno()):
                arrivals.register(descriptor, select.POLLIN)
            tested_at = self._send_test()
            while not self._closed.is_set():
                arrivals.poll(1000 * _TEST_LIMIT)
                raw.pgconn.consume_input()
                self._handle_all(raw)
                heard_at = self._heard_at or 0.0
                if elapsed() - max(heard_at, tested_at) >= _TEST_EVERY:
                    tested_at = self._send_test()
                elif heard_at < tested_at <= elapsed() - _TEST_LIMIT:
                    return  # a pooler keeps them, or the connection ended without a word

    def _handle_all(self, raw: Any) -> None:
        while (notification := raw.pgconn.notifies()) is not None:
            text = notification.extra[:_MAX_PAYLOAD].decode(errors="replace")
            if text == self._test and self._heard_at is None:  # from here on they arrive
                self._on_change(None)
            if text == self._test or not text.startswith(_TEST):
                self._heard_at = elapsed()
            kind, _, job_id = text.partition(" ")
            if kind in _NOTIFIED and job_id.isascii() and job_id.isdigit():
                self._on_change(int(job_id))

    def _send_test(self) -> float:
        """Send a notification over another connection, which a pooler would not deliver to this one."""
        sent_at = elapsed()
        with self._database.write() as connection:
            _send(connection, self._test)
        return sent_at


def listen(database: Database, on_change: Callable[[int | None], None]) -> JobListener | None:
    """Return a listener that calls ``on_change``; None with SQLite, which has no notifications."""
    if database.is_sqlite:
        return None
    try:
        return JobListener(database, on_change)
    except (OSError, RuntimeError, PusherError):  # no socket or thread left: polling is enough
        return None
