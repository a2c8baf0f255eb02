"""A server is replaced by a replica that lacks the last changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pusher.errors import ExitCode
from pusher.store.records import JobState
from tests.support.databases import PostgresServer, postgres
from tests.support.fakeregistry import DISTRIBUTION_3, FakeRegistry, Fault, On, Stall
from tests.support.home import CHUNK, Background, Home, blob_bytes, cut_off, pushed
from tests.support.images import Image

__all__ = ["postgres"]

_TABLES = ("jobs", "uploads")


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry(DISTRIBUTION_3) as registry:
        yield registry


@pytest.fixture
def server_home(tmp_path: Path, postgres: PostgresServer) -> Iterator[Home]:
    url = postgres.create("head")
    with Home(tmp_path / "home", database_url=url, profile="distribution-3") as home:
        yield home
    postgres.drop(url)


def _replicate(home: Home) -> None:
    """What the replica has from now on."""
    with psycopg.connect(home.settings.database_url, autocommit=True) as connection:
        for table in _TABLES:
            connection.execute(f"DROP TABLE IF EXISTS replica_{table}")
            connection.execute(f"CREATE TABLE replica_{table} AS SELECT * FROM {table}")


def _fail_over(home: Home) -> None:
    """The replica takes over: rows are as they were, or missing."""
    with psycopg.connect(home.settings.database_url) as connection:
        for table in _TABLES:
            columns = [
                row[0]
                for row in connection.execute(
                    "SELECT column_name FROM information_schema.columns WHERE table_name = %s", [table]
                )
            ]
            values = ", ".join(f'"{each}" = replica."{each}"' for each in columns)
            connection.execute(
                f"UPDATE {table} SET {values} FROM replica_{table} AS replica WHERE {table}.id = replica.id"
            )
            connection.execute(f"DELETE FROM {table} WHERE id NOT IN (SELECT id FROM replica_{table})")


def _replicate_at(home: Home, offset: int) -> None:
    """Replicate when so much of a blob was acknowledged."""

    def look(_job: int, _digest: str, acknowledged: int) -> None:
        if acknowledged == offset:
            _replicate(home)

    home.progress.hooks["blob_acknowledged"] = look


def test_a_registry_that_has_more_than_the_replica_is_believed(
    server_home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    """The worker ended, too: only the registry knows of the last chunks, and of a part of one."""
    home = server_home
    job = home.enqueue(archive, f"{registry.address}/app:1")
    _replicate_at(home, CHUNK)
    assert cut_off(home, registry, chunk=4).exit_code == ExitCode.UNFINISHED
    home.progress.hooks.clear()
    _fail_over(home)
    with psycopg.connect(home.settings.database_url) as connection:
        found = connection.execute('SELECT "offset" FROM uploads WHERE location IS NOT NULL').fetchall()
        assert found == [(CHUNK,)], "the session is known as it was after its first chunk"
        no_lease = "lease_owner = NULL, lease_expires_at = NULL"  # as once it has ended
        connection.execute(f"UPDATE jobs SET state = 'queued', {no_lease}")
        connection.execute(f"UPDATE uploads SET {no_lease}")
    assert home.run().exit_code == ExitCode.DONE
    pushed(registry, "app", "1", image)
    assert registry.body_bytes_received() == blob_bytes(registry, "app")
    assert "session-lost" not in home.kinds(job.id)


def test_a_worker_that_lives_through_it_sends_nothing_twice(
    server_home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    """It still has its lease, and writes what it knows."""
    home = server_home
    stall = Stall(after_bytes=CHUNK // 2)
    registry.faults.add(Fault(On.CHUNK, stall, nth=3))
    job = home.enqueue(archive, f"{registry.address}/app:1")
    _replicate_at(home, CHUNK)
    worker = Background(home, parallel=1)
    registry.wait_for_fault(On.CHUNK)
    home.progress.hooks.clear()
    _fail_over(home)
    stall.release()
    assert worker.join().exit_code == ExitCode.DONE
    pushed(registry, "app", "1", image)
    assert registry.body_bytes_received() == blob_bytes(registry, "app")
    assert home.kinds(job.id).count("running") == 1


def test_a_claim_that_is_missing_there_ends_the_work(
    server_home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    """The job is queued again there; nobody works on it twice at once."""
    home = server_home
    job = home.enqueue(archive, f"{registry.address}/app:1")
    _replicate(home)
    stall = Stall(after_bytes=CHUNK // 2)
    registry.faults.add(Fault(On.CHUNK, stall, nth=2))
    worker = Background(home, parallel=1)
    registry.wait_for_fault(On.CHUNK)
    _fail_over(home)
    stall.release()
    assert worker.join().exit_code == ExitCode.DONE
    assert (job.id, JobState.QUEUED, "") in home.progress.of("job_ended")
    assert home.state(job.id) == JobState.SUCCEEDED
    pushed(registry, "app", "1", image)
