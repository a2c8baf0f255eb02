"""Everything that can be wrong with a job store is a sentence and a hint."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from pusher.config.load import sqlite_url
from pusher.errors import (
    DiskFull,
    ExitCode,
    InvalidOption,
    PusherError,
    StoreCorrupt,
    StoreError,
    StoreLocked,
    StoreOutdated,
    StoreReadOnly,
    StoreTooNew,
    StoreUnreachable,
)
from pusher.store import driver_errors, drivers, engine, migrate
from pusher.store.driver_errors import translate_errors
from pusher.store.engine import Database
from pusher.store.store import Store
from pusher.store.url import file_of, parse_url
from tests.store.privileges import like_any_user
from tests.support.databases import PostgresServer, new_job


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A job store with one job, closed."""
    path = tmp_path / "home" / "jobs.db"
    with Store.open(sqlite_url(path)) as store:
        store.jobs.add(new_job())
    return path


def told(error: PusherError) -> str:
    """What the user reads; every store error has both parts and the exit code of its kind."""
    assert error.message
    assert error.hint
    if isinstance(error, StoreError):
        assert error.exit_code == ExitCode.STORE
    assert "secret" not in error.message + error.hint
    return error.message


@contextmanager
def lock(url: str) -> Iterator[None]:
    """Hold what writers of the store need."""
    parsed = parse_url(url)
    if parsed.is_sqlite:
        with closing(sqlite3.connect(file_of(parsed), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
    else:
        with psycopg.connect(url) as other_session:
            other_session.execute("LOCK TABLE jobs")
            yield


def test_a_locked_store_is_waited_for_and_then_said_to_be_locked(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT", 0.05)
    with Store.open(url) as store:
        with lock(url), pytest.raises(StoreLocked) as caught:
            store.jobs.add(new_job())
        assert "locked by another" in told(caught.value)
        assert store.jobs.add(new_job()).id, "and it goes on once the lock is free"


def test_reading_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "jobs.db")
    with Store.open(url) as store, lock(url):
        assert store.jobs.list() == []


def test_a_writer_that_waits_gets_its_turn(url: str) -> None:
    with Store.open(url) as store:
        with lock(url):
            thread = threading.Thread(target=store.jobs.add, args=(new_job(),))
            thread.start()
        thread.join()
        assert len(store.jobs.list()) == 1


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    path.write_text("this is a letter to my aunt, and no database at all\n" * 100)
    with pytest.raises(StoreCorrupt, match="is not an SQLite database") as caught:
        Store.open(sqlite_url(path))
    assert str(path) in told(caught.value)
    assert path.read_text().startswith("this is a letter")


def test_a_database_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE recipes (name TEXT)")
    with pytest.raises(StoreCorrupt, match="not a job store of pusher"):
        Store.open(sqlite_url(path))
    with pytest.raises(StoreCorrupt, match="not a job store of pusher"):
        migrate.upgrade(sqlite_url(path))


def test_damaged_pages(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))
    with pytest.raises(StoreCorrupt) as caught, Store.open(sqlite_url(path)) as store:
        store.jobs.list()
    assert "is damaged" in told(caught.value)


def test_check_reports_damage_that_no_query_met(path: Path) -> None:
    assert migrate.check(sqlite_url(path)).problems == ()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "INSERT INTO events (job_id, at, kind, message) VALUES (99, '2026-01-01', 'note', '')"
        )
        connection.commit()
    (problem,) = migrate.check(sqlite_url(path)).problems
    assert "events" in problem
    assert "jobs" in problem


def test_a_missing_table_is_damage(url: str, kind: str) -> None:
    with Store.open(url) as store:
        with store._database.write() as connection:
            connection.execute("DROP TABLE registries")
        with pytest.raises(StoreCorrupt, match="lacks a part of its schema"):
            store.facts.get("registry.example.com")


def test_a_store_of_a_newer_pusher(url: str) -> None:
    with Store.open(url) as store, store._database.write() as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.execute("UPDATE schema_support SET oldest = '9998'")
    for use in (Store.open, migrate.upgrade, migrate.check):
        with pytest.raises(StoreTooNew, match="newer pusher") as caught:
            use(url)
        assert "9999" in told(caught.value)


def test_postgresql_is_not_upgraded_by_itself(postgres: PostgresServer) -> None:
    url = postgres.create()
    with pytest.raises(StoreOutdated) as caught:
        Store.open(url)
    told(caught.value)
    assert "pusher db upgrade" in caught.value.hint
    migrate.upgrade(url)
    Store.open(url).close()
    postgres.drop(url)


def test_missing_folders_are_made_for_the_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "jobs.db"
    Store.open(sqlite_url(path)).close()
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}


@pytest.mark.parametrize("name", ["a b", "100%", "ques?tion", "h#sh", "ü"])
def test_any_path_will_do(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "jobs.db"
    with Store.open(sqlite_url(path)) as store:
        store.jobs.add(new_job())
    assert path.is_file()


def test_a_path_that_cannot_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnreachable, match="cannot be created") as caught:
        Store.open(sqlite_url(tmp_path / "file" / "jobs.db"))
    told(caught.value)
    with pytest.raises(StoreUnreachable, match="cannot be opened") as caught:
        Store.open(sqlite_url(tmp_path))
    told(caught.value)
    with pytest.raises(StoreUnreachable):
        migrate.check(sqlite_url(tmp_path / "nothing.db"))


def test_a_folder_in_which_nothing_can_be_made(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with like_any_user(), pytest.raises(StoreUnreachable, match="Permission denied") as caught:
        Store.open(sqlite_url(tmp_path / "home" / "jobs.db"))
    assert "PUSHER_HOME" in caught.value.hint


@pytest.mark.parametrize(("folder_mode", "file_mode"), [(0o700, 0o400), (0o500, 0o400), (0o500, 0o600)])
def test_a_store_that_cannot_be_written_is_read(path: Path, folder_mode: int, file_mode: int) -> None:
    path.chmod(file_mode)
    path.parent.chmod(folder_mode)
    with like_any_user(), Store.open(sqlite_url(path)) as store:
        (job,) = store.jobs.list()
        assert store.blobs.of_job(job.id)
        with pytest.raises(StoreReadOnly) as caught:
            store.jobs.cancel(job.id)
        assert "cannot be written" in told(caught.value)
    path.parent.chmod(0o700)


def test_a_full_disk_is_not_a_missing_permission(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite reports the first as the second, where it has no room for its shared memory."""
    path.chmod(0o400)
    usage = shutil.disk_usage(path.parent)._replace(free=4096)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    for may_write, expected in ((False, StoreReadOnly), (True, DiskFull)):
        monkeypatch.setattr(os, "access", lambda *_, found=may_write: found)
        with like_any_user(), Store.open(sqlite_url(path)) as store:
            (job,) = store.jobs.list()
            with pytest.raises(expected) as caught:
                store.jobs.cancel(job.id)
            told(caught.value)


def test_a_store_that_is_in_use_and_cannot_be_written_is_read(path: Path) -> None:
    """The worker's newest pages lie in the log, and a reader without rights sees them too."""
    with Store.open(sqlite_url(path)) as worker:
        worker.jobs.add(new_job())
        for file in path.parent.iterdir():
            file.chmod(0o400)
        path.parent.chmod(0o500)
        with like_any_user(), Store.open(sqlite_url(path)) as store:
            assert len(store.jobs.list()) == 2
        path.parent.chmod(0o700)


def test_a_store_that_may_not_be_read(path: Path) -> None:
    path.chmod(0)
    with like_any_user(), pytest.raises(StoreUnreachable) as caught:
        Store.open(sqlite_url(path))
    told(caught.value)
    path.chmod(0o600)
    path.parent.chmod(0)
    with like_any_user(), pytest.raises(StoreUnreachable) as caught:
        Store.open(sqlite_url(path))
    told(caught.value)
    path.parent.chmod(0o700)


def test_a_read_only_server(postgres: PostgresServer) -> None:
    url = postgres.create("head")
    with Store.open(url + "&options=-cdefault_transaction_read_only%3Don") as store:
        assert store.jobs.list() == []
        with pytest.raises(StoreReadOnly):
            store.jobs.add(new_job())
    postgres.drop(url)


def test_a_full_disk() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("PRAGMA max_page_count = 2")
        connection.execute("CREATE TABLE t (x)")
        with pytest.raises(DiskFull) as caught, translate_errors("/home/me/jobs.db"):
            connection.execute("INSERT INTO t VALUES (zeroblob(100000))")
    assert "/home/me/jobs.db" in told(caught.value)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("jobs.db", "is not a database URL"),
        ("mysql://me:secret@host/db", "of the kind mysql"),
        ("postgresql+asyncpg://me:secret@host/db", "of the kind postgresql.asyncpg"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("postgresql://me:secret@host:port/db", "is not a database URL"),
    ],
)
def test_a_url_that_names_no_job_store(url: str, why: str) -> None:
    with pytest.raises(InvalidOption, match=why) as caught:
        Store.open(url)
    told(caught.value)


def test_a_server_that_does_not_answer(postgres: PostgresServer, tmp_path: Path) -> None:
    for url in (
        f"postgresql://me:secret@/db?host={tmp_path}",
        f"postgres://me@/db?password=secret&host={tmp_path}",
    ):
        with pytest.raises(StoreUnreachable, match="does not respond") as caught:
            Store.open(url)
        told(caught.value)
        assert "PUSHER_DATABASE_URL" in caught.value.hint


def test_a_server_that_accepts_no_connection_in_time_does_not_respond() -> None:
    """As one that is frozen; psycopg has an error of its own for it."""
    import psycopg

    for kind in (
        psycopg.OperationalError,
        getattr(psycopg.errors, "ConnectionTimeout", psycopg.OperationalError),
    ):
        with (
            pytest.raises(StoreUnreachable, match="does not respond: connection timeout expired"),
            translate_errors("postgresql://db"),
        ):
            raise kind("connection timeout expired")


def test_a_wrong_password_is_not_repeated(postgres: PostgresServer) -> None:
    postgres.execute("CREATE ROLE guarded LOGIN PASSWORD 'right'")
    url = postgres.url("head", "guarded:secret")
    with pytest.raises(StoreUnreachable) as caught:
        Store.open(url)
    assert told(caught.value).endswith('refuses the login: password authentication failed for user "guarded"')
    assert "PUSHER_DATABASE_URL" in caught.value.hint
    postgres.execute("DROP ROLE guarded")


def test_a_server_without_the_database_has_responded(postgres: PostgresServer) -> None:
    for open_store in (Store.open, migrate.upgrade):
        with pytest.raises(StoreUnreachable, match="does not exist: its server has no database") as caught:
            open_store(postgres.url("no such"))
        told(caught.value)
        assert (
            caught.value.hint == "create it on the server with `createdb 'no such'`, then: pusher db upgrade"
        )


def test_a_server_that_does_not_let_the_role_in_has_responded(postgres: PostgresServer) -> None:
    postgres.execute("CREATE ROLE stranger NOLOGIN")
    try:
        for user, reason in (
            ("nobody_of_this_name", 'role "nobody_of_this_name" does not exist'),
            ("stranger", 'role "stranger" is not permitted to log in'),
        ):
            with pytest.raises(StoreUnreachable) as caught:
                Store.open(postgres.url("head", user))
            assert told(caught.value).endswith(f"refuses the login: {reason}")
    finally:
        postgres.execute("DROP ROLE stranger")


def test_a_role_without_rights_is_told_whom_to_ask(postgres: PostgresServer) -> None:
    url = postgres.create("head")
    postgres.execute("CREATE ROLE guest LOGIN")
    try:
        with pytest.raises(StoreReadOnly, match="cannot be used by this role: permission denied") as caught:
            Store.open(url.replace("postgres@", "guest@")).jobs.list()
        assert "owner of the database" in caught.value.hint
    finally:
        postgres.execute("DROP ROLE guest")
        postgres.drop(url)


def test_a_server_that_ended_the_connection_is_asked_again(postgres: PostgresServer) -> None:
    url = postgres.create("head")
    with Store.open(url) as store:
        store.jobs.add(new_job())
        postgres.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pusher'"
        )
        assert len(store.jobs.list()) == 1
    postgres.drop(url)


def test_postgresql_without_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(InvalidOption) as caught:
        Store.open("postgresql://me@host/db")
    assert "pip install 'psycopg[binary]'" in caught.value.hint


def test_hosts_that_share_a_server_agree_on_the_time(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = engine.utc_now
    monkeypatch.setattr(engine, "utc_now", lambda: right() + timedelta(hours=3))
    with Store.open(postgres.url("head")) as store:
        assert abs(store.now() - right()) < timedelta(seconds=5)


def test_sqlite_survives_power_cuts(path: Path) -> None:
    database = Database(parse_url(sqlite_url(path)))
    pragmas = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    with database.write() as connection:
        found = {name: connection.value(f"PRAGMA {name}") for name in pragmas}
    database.close()
    assert found == pragmas


def test_damage_whose_description_is_damaged(tmp_path: Path) -> None:
    """SQLite quotes what it found, and Python cannot decode that."""
    url = sqlite_url(tmp_path / "jobs.db")
    migrate.upgrade(url)
    path = tmp_path / "jobs.db"
    content = path.read_bytes()
    assert b"CREATE INDEX ix_jobs_claim" in content
    content = content.replace(b"CREATE INDEX ix_jobs_claim", b"CREATE INDXX ix_jobs_claim")
    path.write_bytes(content.replace(b"ix_jobs_claim", b"ix_jobs_cl\xcbim"))
    with pytest.raises(StoreCorrupt):
        Store.open(url)
    assert not driver_errors._is_whole(str(path))


class _Session:
    """A connection to PostgreSQL that is open until it is closed."""

    def __init__(self) -> None:
        self.works = True
        self.closed = False

    def execute(self, _: str) -> None:
        if not self.works:
            raise psycopg.OperationalError("the server is starting up")

    def commit(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def test_a_connection_on_which_nothing_can_begin_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[_Session] = []

    def connect(_: object) -> _Session:
        opened.append(_Session())
        opened[-1].works = len(opened) == 1
        return opened[-1]

    monkeypatch.setattr(drivers, "connect_postgresql", connect)
    connector = drivers.PostgresqlConnector(parse_url("postgresql://localhost/pusher"), lock_timeout=1)
    connector.finish(connector.begin(writes=True), commit=True)
    opened[0].works = False
    with pytest.raises(psycopg.OperationalError):
        connector.begin(writes=True)
    assert [session.closed for session in opened] == [True, True], "the one that was kept, and the new one"
