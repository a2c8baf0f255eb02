"""Threads that write at the same time share a transaction, and each of them knows how it ended."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from pusher.store.drivers import SqliteConnector
from pusher.store.group_commit import GroupCommit
from pusher.store.write_turn import WriteTurn
from tests.support.waiting import wait_until


class Transactions(SqliteConnector):
    """Those of a file, counted."""

    def __init__(self, path: Path) -> None:
        sqlite3.connect(path).execute("CREATE TABLE t (n INTEGER PRIMARY KEY)").connection.close()
        path.chmod(0o600)
        super().__init__(path, busy_timeout=10, immutable=False)
        self.commits = 0
        self.fault: Exception | None = None

    def finish(self, raw: sqlite3.Connection, *, commit: bool) -> None:
        if commit and self.fault is not None:
            fault, self.fault = self.fault, None
            super().finish(raw, commit=False)
            raise fault
        super().finish(raw, commit=commit)
        self.commits += commit

    def numbers(self) -> list[int]:
        raw = self.take()
        try:
            return [row[0] for row in raw.execute("SELECT n FROM t ORDER BY n")]
        finally:
            self.give_back(raw)


@pytest.fixture
def transactions(tmp_path: Path) -> Iterator[Transactions]:
    tmp_path.chmod(0o700)
    opened = Transactions(tmp_path / "jobs.db")
    yield opened
    opened.close()


class Writers:
    """Threads that insert a number each while the first one is in its transaction."""

    def __init__(self, transactions: Transactions, patience: float = 60.0) -> None:
        self.groups = GroupCommit(transactions, WriteTurn(), patience=patience)
        self._pool = ThreadPoolExecutor(8)

    @contextmanager
    def together(
        self, numbers: list[int], then: Callable[[int], None] = lambda n: None
    ) -> Iterator[list[Future[None]]]:
        """Yield, while the first of ``numbers`` is in its transaction and the others wait, their futures."""
        inside, go_on = threading.Event(), threading.Event()

        def write(number: int) -> None:
            with self.groups.transaction() as raw:
                raw.execute("INSERT INTO t VALUES (?)", (number,))
                if number == numbers[0]:
                    inside.set()
                    assert go_on.wait(60)
                then(number)

        with self._pool:
            futures = [self._pool.submit(write, numbers[0])]
            assert inside.wait(60)
            futures += [self._pool.submit(write, number) for number in numbers[1:]]
            wait_until(lambda: self.groups._waiting == len(numbers) - 1)
            try:
                yield futures
            finally:
                go_on.set()


def test_threads_that_wait_share_a_commit(transactions: Transactions) -> None:
    with Writers(transactions).together([1, 2, 3, 4]) as futures:
        assert transactions.numbers() == []
    assert [future.exception() for future in futures] == [None] * 4
    assert transactions.numbers() == [1, 2, 3, 4]
    assert transactions.commits == 1


def test_no_thread_returns_before_the_commit(transactions: Transactions) -> None:
    seen: list[list[int]] = []
    with Writers(transactions).together([1, 2, 3]) as futures:
        for future in futures:
            future.add_done_callback(lambda _: seen.append(transactions.numbers()))
    assert seen == [[1, 2, 3]] * 3


@pytest.mark.parametrize("faulty", [1, 2, 3])
def test_one_that_fails_loses_its_own_changes_alone(transactions: Transactions, faulty: int) -> None:
    def fail(number: int) -> None:
        if number == faulty:
            raise LookupError(number)

    with Writers(transactions).together([1, 2, 3], fail) as futures:
        pass
    errors = [future.exception() for future in futures]
    assert [type(error) for error in errors] == [
        LookupError if n == faulty else type(None) for n in (1, 2, 3)
    ]
    assert transactions.numbers() == [n for n in (1, 2, 3) if n != faulty]


def test_all_learn_that_the_commit_failed(transactions: Transactions) -> None:
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL
    transactions.fault = full
    writers = Writers(transactions)
    with writers.together([1, 2, 3]) as futures:
        pass
    errors = [future.exception() for future in futures]
    assert all(isinstance(error, sqlite3.OperationalError) for error in errors)
    assert {getattr(error, "sqlite_errorcode", None) for error in errors} == {sqlite3.SQLITE_FULL}
    assert transactions.numbers() == []
    with writers.groups.transaction() as raw:
        raw.execute("INSERT INTO t VALUES (4)")
    assert transactions.numbers() == [4]


def test_all_learn_that_sqlite_has_rolled_back(transactions: Transactions) -> None:
    """As it does for some errors of the disk."""

    def roll_back(number: int) -> None:
        if number == 2:
            raw = writers.groups._open
            assert raw is not None
            raw.raw.rollback()
            raise sqlite3.OperationalError("disk I/O error")

    writers = Writers(transactions)
    with writers.together([1, 2], roll_back) as futures:
        pass
    assert all(isinstance(future.exception(), sqlite3.OperationalError) for future in futures)
    assert transactions.numbers() == []


def test_an_exclusive_thread_finds_the_others_committed(transactions: Transactions) -> None:
    writers = Writers(transactions)
    found: list[list[int]] = []

    def look() -> None:
        with writers.groups.exclusive():
            found.append(transactions.numbers())

    with writers.together([1]) as futures:
        futures.append(writers._pool.submit(look))
        wait_until(lambda: writers.groups._waiting == 1)
    assert [future.exception() for future in futures] == [None, None]
    assert found == [[1]]


def test_one_that_was_to_follow_and_is_interrupted_leaves_the_commit_to_the_first(
    transactions: Transactions,
) -> None:
    writers = Writers(transactions, patience=0.01)
    with writers.together([1]) as futures:
        writers.groups._waiting += 1  # it ends without taking the lock
    assert [future.exception() for future in futures] == [None]
    assert transactions.numbers() == [1]
