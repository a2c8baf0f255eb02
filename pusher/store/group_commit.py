"""Let threads that write at the same time share one transaction of SQLite.

A commit waits for the disk, and SQLite has one writer at a time. Threads that would queue for transactions of
their own run one after the other in the same one, and the last of them commits it for all.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Final, Protocol

from pusher.store.write_turn import WriteTurn

_MAX_THREADS: Final = 32
"""Threads that share a transaction: the first one waits for the last."""
_PATIENCE: Final = 0.1
"""Seconds without a commit after which the thread that was to make it was interrupted."""


class Transactions(Protocol):
    """A source of connections inside a new transaction."""

    def begin(self, *, writes: bool) -> sqlite3.Connection:
        """Return a connection that has begun a transaction."""

    def finish(self, raw: sqlite3.Connection, *, commit: bool) -> None:
        """End the transaction of a connection that ``begin`` returned."""


class _Group:
    """The threads of one transaction."""

    def __init__(self, raw: sqlite3.Connection) -> None:
        self.raw = raw
        self.members = 0
        """The threads whose changes are in it."""
        self.has_ended = False
        self.error: BaseException | None = None
        """Why it was rolled back."""


class GroupCommit:
    """Transactions that write to one SQLite file. Thread-safe."""

    def __init__(self, transactions: Transactions, turn: WriteTurn, *, patience: float = _PATIENCE) -> None:
        self._transactions = transactions
        self._turn = turn
        self._patience = patience
        self._lock = threading.Lock()
        """Held by the thread that uses the connection."""
        self._state = threading.Condition()
        self._waiting = 0
        """Threads that are about to take the lock, to write."""
        self._open: _Group | None = None

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run the block in a transaction, which is committed when the context ends.

        Only the changes of this block are rolled back if it raises. Raises sqlite3.Error in each thread of a
        transaction that could not be committed.
        """
        self._take_lock()
        try:
            group = self._join()
            try:
                yield group.raw
            except BaseException as error:
                self._withdraw(group, error)
                raise
            self._leave(group)
        finally:
            self._lock.release()
        self._wait_for_commit(group)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep all other threads from writing meanwhile."""
        self._take_lock()
        try:
            if self._open is not None:
                self._end(self._open)
            with self._turn:
                yield
        finally:
            self._lock.release()

    def _take_lock(self) -> None:
        with self._state:
            self._waiting += 1
        try:
            self._lock.acquire()
        finally:
            with self._state:
                self._waiting -= 1

    def _join(self) -> _Group:
        """Return the open group, or a new one."""
        if self._open is None:
            self._turn.take()
            try:
                self._open = _Group(self._transactions.begin(writes=True))
            except BaseException:
                self._turn.give_back()
                raise
        else:
            self._open.raw.execute("SAVEPOINT member")
        return self._open

    def _leave(self, group: _Group) -> None:
        """Commit the changes of this thread, unless another one is going to."""
        if group.members:
            group.raw.execute("RELEASE member")
        group.members += 1
        if not self._waiting or group.members >= _MAX_THREADS:
            self._end(group)

    def _withdraw(self, group: _Group, error: BaseException) -> None:
        """Roll back the changes of this thread alone; those of all if SQLite has done that already."""
        if not group.members or not group.raw.in_transaction:
            self._end(group, error)
            return
        try:
            group.raw.execute("ROLLBACK TO member")
            group.raw.execute("RELEASE member")
        except sqlite3.Error as fault:
            self._end(group, fault)
            return
        if not self._waiting:
            self._end(group)

    def _end(self, group: _Group, error: BaseException | None = None) -> None:
        """Commit; roll back if there is an error."""
        self._open = None
        try:
            self._transactions.finish(group.raw, commit=error is None)
        except BaseException as fault:
            error = error or fault
        finally:
            self._turn.give_back()
        with self._state:
            group.error, group.has_ended = error, True
            self._state.notify_all()

    def _wait_for_commit(self, group: _Group) -> None:
        while not group.has_ended:
            with self._state:
                if self._state.wait_for(lambda: group.has_ended, self._patience):
                    break
            with self._lock:
                if self._open is group:
                    self._end(group)
        if group.error is not None:
            raise copy(group.error)
