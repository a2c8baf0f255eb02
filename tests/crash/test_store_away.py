"""Workers of a server that is away, or that has another time: nothing is lost, nothing is sent twice."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from pusher.worker.liveness import WorkerIdentity
from tests.crash.conftest import ROOT, Pusher
from tests.support.databases import PostgresServer, postgres
from tests.support.fakeregistry import FakeRegistry, Fault, On, Stall
from tests.support.home import CHUNK, Home, blob_bytes, pushed
from tests.support.images import Image
from tests.support.waiting import PATIENCE, wait_until

__all__ = ["postgres"]


@pytest.fixture
def home(tmp_path: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    url = postgres.create("head")
    monkeypatch.setenv("PUSHER_DATABASE_URL", url)
    with Home(tmp_path / "home", database_url=url) as home:
        yield home
    postgres.drop(url)


def _journals(home: Home) -> list[Path]:
    return list(home.settings.workers.glob("*.journal"))


@contextmanager
def _acknowledged_while_away(
    postgres: PostgresServer, pusher: Pusher, home: Home, registry: FakeRegistry, *, chunk: int = 2
) -> Iterator[subprocess.Popen[str]]:
    """A worker waits for the server, which is away, to record that a chunk was acknowledged."""
    stall = Stall(after_bytes=CHUNK // 2)
    registry.faults.add(Fault(On.CHUNK, stall, nth=chunk))
    process = pusher.start("run", "--chunk-size", str(CHUNK), "--parallel", "1")
    registry.wait_for_fault(On.CHUNK)
    with postgres.away():
        stall.release()
        wait_until(lambda: _journals(home))
        yield process


def test_what_a_killed_worker_kept_is_recorded_by_the_next(
    postgres: PostgresServer,
    home: Home,
    pusher: Pusher,
    registry: FakeRegistry,
    image: Image,
    archive: Path,
) -> None:
    """Without the location in the answer, this registry would have everything sent again."""
    job = home.enqueue(archive, f"{registry.address}/app:1")
    with _acknowledged_while_away(postgres, pusher, home, registry) as process:
        (path,) = _journals(home)
        wait_until(lambda: path.read_bytes().endswith(b"\n"))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        (line,) = map(json.loads, path.read_text().splitlines())
        assert (line["change"], line["values"]["offset"]) == ("record_offset", 2 * CHUNK)
        process.kill()
        process.wait()
    done = pusher.work()
    assert done.returncode == 0, done.stderr
    pushed(registry, "app", "1", image)
    assert registry.body_bytes_received() == blob_bytes(registry, "app")
    assert "note" in home.kinds(job.id)
    assert _journals(home) == []
    home.assert_clean()


def test_a_worker_that_lives_records_it_itself(
    postgres: PostgresServer,
    home: Home,
    pusher: Pusher,
    registry: FakeRegistry,
    image: Image,
    archive: Path,
) -> None:
    job = home.enqueue(archive, f"{registry.address}/app:1")
    with _acknowledged_while_away(postgres, pusher, home, registry) as process:
        pass
    assert process.wait(PATIENCE) == 0
    assert home.kinds(job.id) == ["queued", "running", "succeeded"]
    pushed(registry, "app", "1", image)
    assert registry.body_bytes_received() == blob_bytes(registry, "app")
    assert registry.requests(On.STATUS) == []
    home.assert_clean()
    assert _journals(home) == []


def test_what_another_machine_took_over_is_not_changed(
    postgres: PostgresServer,
    home: Home,
    pusher: Pusher,
    registry: FakeRegistry,
    image: Image,
    archive: Path,
) -> None:
    home.enqueue(archive, f"{registry.address}/app:1")
    with _acknowledged_while_away(postgres, pusher, home, registry) as process:
        process.kill()
        process.wait()
    with psycopg.connect(home.settings.database_url) as connection:
        taken = (
            "UPDATE uploads SET lease_owner = 'other/1', lease_token = lease_token + 1 WHERE location <> ''"
        )
        assert connection.execute(taken).rowcount == 1
        before = connection.execute("SELECT * FROM uploads ORDER BY id").fetchall()
    WorkerIdentity(home.settings.workers, 60).find_dead_owners(home.store)
    with psycopg.connect(home.settings.database_url) as connection:
        assert connection.execute("SELECT * FROM uploads ORDER BY id").fetchall() == before
    assert _journals(home) == []


@pytest.mark.parametrize("seconds", [600, -600])
def test_a_machine_whose_clock_is_wrong_takes_no_job_over(
    home: Home,
    pusher: Pusher,
    registry: FakeRegistry,
    image: Image,
    archive: Path,
    tmp_path: Path,
    seconds: int,
) -> None:
    """The server's clock counts: the lease has not ended."""
    stall = Stall(after_bytes=CHUNK // 2)
    registry.faults.add(Fault(On.CHUNK, stall, nth=2))
    job = home.enqueue(archive, f"{registry.address}/app:1")
    process = pusher.start("run", "--chunk-size", str(CHUNK), "--parallel", "1")
    registry.wait_for_fault(On.CHUNK)
    (tmp_path / "clock").write_text(str(seconds))
    wrong = {**os.environ, "PUSHER_HOME": str(home.settings.home), "PUSHER_TEST_SOAK": str(tmp_path)}
    other = [sys.executable, "-m", "tests.soak.launcher", "run"]
    done = subprocess.run(
        other, env=wrong, capture_output=True, text=True, check=False, timeout=PATIENCE, cwd=ROOT
    )
    assert done.returncode == 0
    assert "Being pushed by another worker: job 1." in done.stderr
    stall.release()
    assert process.wait(PATIENCE) == 0
    assert home.kinds(job.id) == ["queued", "running", "succeeded"]
    pushed(registry, "app", "1", image)
    assert registry.body_bytes_received() == blob_bytes(registry, "app")
