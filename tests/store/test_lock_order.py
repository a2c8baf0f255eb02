"""PostgreSQL: transactions that lock several rows never wait for each other, and claims wait for nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import psycopg
import pytest

from pusher.errors import StoreUnreachable
from pusher.store import drivers, engine
from pusher.store.records import JobRecord, UploadRecord
from pusher.store.store import Store
from tests.support.databases import REGISTRY, REPOSITORY, PostgresServer, digest, new_job
from tests.support.waiting import wait_until


@pytest.fixture
def server_url(postgres: PostgresServer) -> Iterator[str]:
    url = postgres.create("head")
    yield url
    postgres.drop(url)


@contextmanager
def _row_locked(url: str, table: str, row: int) -> Iterator[Callable[[int], None]]:
    """Another session holds the lock of a row; yields how to wait until so many sessions wait for a lock."""
    with psycopg.connect(url) as holder, psycopg.connect(url, autocommit=True) as looking:
        holder.execute(f"SELECT id FROM {table} WHERE id = %s FOR UPDATE", [row])

        def wait_for(count: int) -> None:
            query = "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted"
            deadline = time.monotonic() + 60
            while (row := looking.execute(query).fetchone()) is None or row[0] < count:
                assert time.monotonic() < deadline
                time.sleep(0.01)

        yield wait_for


def _deadlocks(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
    return int(row[0]) if row else -1


def _both(url: str, table: str, row: int, first: Callable[[], object], then: Callable[[], object]) -> None:
    """Run ``first``, and ``then`` once it waits for a row that another session gives free after that."""
    with ThreadPoolExecutor(2) as threads:
        calls: list[Future[object]] = []
        with _row_locked(url, table, row) as wait_for:
            for call in (first, then):
                calls.append(threads.submit(call))
                wait_for(len(calls))
        for each in calls:
            each.result(60)
    assert _deadlocks(url) == 0


def _claim(store: Store) -> JobRecord:
    job = store.jobs.claim("w", lease=30)
    assert job is not None
    return job


def _acquire(store: Store, name: str) -> UploadRecord:
    upload = store.uploads.acquire(REGISTRY, REPOSITORY, digest(name), owner="w", lease=30)
    assert upload is not None
    return upload


def test_leases_are_renewed_while_a_session_moves(server_url: str) -> None:
    with Store.open(server_url) as store:
        complete, unfinished = _acquire(store, "a"), _acquire(store, "b")
        session = {"chunk_size": 1, "min_chunk": 1, "max_chunk": None, "profile": None}
        unfinished = store.uploads.record_session(unfinished, location="/there", **session)  # type: ignore[arg-type]
        _both(
            server_url,
            "uploads",
            complete.id,
            lambda: store.jobs.renew("w", 30),
            lambda: store.uploads.take_session(complete, unfinished),
        )


def test_leases_are_renewed_while_a_tag_is_taken(server_url: str) -> None:
    """Both jobs of one worker; the older one is superseded."""
    with Store.open(server_url) as store:
        store.jobs.add(new_job(tag="1"))
        older = _claim(store)
        store.jobs.add(new_job(tag="1", keeps_older=True))
        newer = _claim(store)
        with psycopg.connect(server_url) as connection:
            connection.execute("UPDATE jobs SET keeps_older = FALSE WHERE id = %s", [newer.id])
        _both(
            server_url,
            "jobs",
            older.id,
            lambda: store.jobs.renew("w", 30),
            lambda: store.jobs.take_tag(newer),
        )


def test_retention_deletes_no_row_that_another_worker_deletes(server_url: str) -> None:
    with Store.open(server_url) as store:
        for _ in range(2):
            store.jobs.add(new_job())
            store.jobs.succeed(_claim(store), digest("f"))
        with _row_locked(server_url, "jobs", 1):
            assert store.retention.prune(store.now()).jobs == 1


def test_a_claim_waits_for_no_other(server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT", 0.2)
    with Store.open(server_url) as store:
        ids = [store.jobs.add(new_job()).id for _ in range(3)]
        with _row_locked(server_url, "jobs", ids[0]):
            assert [_claim(store).id, _claim(store).id] == ids[1:]
            assert store.jobs.claim("w", lease=30) is None
            assert store.jobs.has_runnable(), "it may be free in a moment"
        assert not store.jobs.has_runnable(only=ids[1:])
        assert _claim(store).id == ids[0]
        assert not store.jobs.has_runnable()


def test_a_lease_that_has_expired_in_a_locked_row_may_be_free_in_a_moment(server_url: str) -> None:
    with Store.open(server_url) as store:
        job = store.jobs.add(new_job())
        assert store.jobs.claim("frozen", lease=0.001) is not None
        expired = ["frozen"]
        with _row_locked(server_url, "jobs", job.id):
            assert store.jobs.claim("w", lease=30, expired_owners=expired) is None
            assert store.jobs.has_runnable(expired_owners=expired)
            assert not store.jobs.has_runnable()
        assert store.jobs.claim("w", lease=30, expired_owners=expired) is not None
        assert not store.jobs.has_runnable(expired_owners=expired)


def test_a_process_that_stands_still_in_a_transaction_locks_nothing_for_long(
    server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(server_url) as store, ExitStack() as stack:
        job = store.jobs.add(new_job())
        monkeypatch.setattr(drivers, "_LONGEST_PAUSE", 0.5)
        frozen = stack.enter_context(Store.open(server_url))

        def stand_still() -> None:
            with frozen._database.write() as connection:
                connection.execute("UPDATE jobs SET priority = 7")
                wait_until(lambda: store.jobs.claim("w", lease=30))
                connection.execute("SELECT 1")

        with pytest.raises(StoreUnreachable):
            stand_still()
        after = store.jobs.get(job.id)
        assert (after.priority, after.lease_owner) == (0, "w")


def test_twenty_workers_claim_without_waiting_for_locks(server_url: str) -> None:
    workers, jobs = 20, 60
    begin = threading.Barrier(workers)
    with Store.open(server_url) as store:
        ids = [store.jobs.add(new_job()).id for _ in range(jobs)]

    def work(name: str) -> list[int]:
        claimed = list[int]()
        with Store.open(server_url) as store:
            begin.wait()
            while store.jobs.has_runnable():
                if (job := store.jobs.claim(name, lease=30)) is not None:
                    claimed.append(job.id)
                    store.jobs.renew(name, 30)
        return claimed

    with ThreadPoolExecutor(workers) as threads:
        claimed = [each for some in threads.map(work, map(str, range(workers))) for each in some]
    assert sorted(claimed) == ids
    assert _deadlocks(server_url) == 0
