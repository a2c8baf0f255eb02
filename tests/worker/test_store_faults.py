"""The job store is locked, cannot be written, or fails in the middle of a run."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from pusher.errors import DiskFull, ExitCode, StoreLocked, StoreReadOnly
from pusher.store import engine
from pusher.store.records import JobState
from pusher.store.store import Store
from tests.store.privileges import like_any_user
from tests.support.fakeregistry import FakeRegistry, Fault, On, Stall
from tests.support.home import CHUNK, Background, Home, blob_bytes, pushed
from tests.support.images import Image


@contextmanager
def _locked(home: Home) -> Iterator[None]:
    """Another program holds the store's write lock."""
    with closing(sqlite3.connect(home.settings.home / "jobs.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@pytest.fixture
def impatient_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT", 0.2)
    with Home(tmp_path / "home") as home:
        yield home


def test_a_locked_store_ends_the_run_with_a_sentence(
    impatient_home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    home = impatient_home
    job = home.enqueue(archive, f"{registry.address}/app:1")
    with _locked(home), pytest.raises(StoreLocked) as caught:
        home.run()
    assert caught.value.exit_code == ExitCode.STORE
    assert "locked" in caught.value.message
    assert "jobs.db" in caught.value.message
    assert home.run().exit_code == ExitCode.DONE
    pushed(registry, "app", "1", image)
    assert home.state(job.id) == JobState.SUCCEEDED


def test_a_store_locked_in_the_middle_loses_nothing(
    impatient_home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    """The chunk that was acknowledged could not be recorded; the next run asks the registry."""
    home = impatient_home
    stall = Stall(after_bytes=CHUNK // 2)
    registry.faults.add(Fault(On.CHUNK, stall, nth=2))
    home.enqueue(archive, f"{registry.address}/app:1")
    worker = Background(home, parallel=1)
    registry.wait_for(lambda r: any(record.faults for record in r.requests(On.CHUNK)))
    with _locked(home):
        stall.release()
        with pytest.raises(StoreLocked):
            worker.join()
    assert home.run().exit_code == ExitCode.DONE, "its dead worker's leases bind nobody"
    pushed(registry, "app", "1", image)
    assert registry.body_bytes_received() <= blob_bytes(registry, "app") + CHUNK
    home.assert_clean()


def test_a_store_that_cannot_be_written(home: Home, registry: FakeRegistry, archive: Path) -> None:
    home.enqueue(archive, f"{registry.address}/app:1")
    home.store.close()
    folder = home.settings.home
    (folder / "jobs.db").chmod(0o400)
    folder.chmod(0o500)
    try:
        with (
            like_any_user(),
            Store.open(home.settings.database_url) as store,
            pytest.raises(StoreReadOnly) as caught,
        ):
            store.jobs.claim("somebody", lease=10)
        assert caught.value.exit_code == ExitCode.STORE
    finally:
        folder.chmod(0o700)
        (folder / "jobs.db").chmod(0o600)
    assert home.run().exit_code == ExitCode.DONE


def test_a_store_whose_disk_is_full_ends_the_run(
    home: Home, registry: FakeRegistry, image: Image, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job cannot even be put back; nothing hangs, nothing is printed by a dying thread."""
    job = home.enqueue(archive, f"{registry.address}/app:1")
    died: list[object] = []
    monkeypatch.setattr(threading, "excepthook", died.append)

    def full(*args: object, **kwargs: object) -> None:
        raise DiskFull("no room on the disk of the job store", hint="free some space there")

    with monkeypatch.context() as patch:
        for method in ("succeed", "fail", "release"):
            patch.setattr(home.store.jobs, method, full)
        with pytest.raises(DiskFull):
            Background(home).join()
    assert died == []
    assert home.state(job.id) == JobState.RUNNING
    assert home.run().exit_code == ExitCode.DONE
    pushed(registry, "app", "1", image)
    home.assert_clean()


def test_a_heartbeat_outlives_a_store_that_is_busy(
    impatient_home: Home, registry: FakeRegistry, image: Image, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = impatient_home
    died: list[object] = []
    monkeypatch.setattr(threading, "excepthook", died.append)
    renew, beats, renewed = home.store.jobs.renew, [], threading.Event()

    def fail_once(owner: str, lease: float) -> None:
        beats.append(owner)
        if len(beats) == 1:
            raise StoreLocked("the job store is locked")
        renew(owner, lease)
        renewed.set()

    monkeypatch.setattr(home.store.jobs, "renew", fail_once)
    stall = Stall(after_bytes=CHUNK // 2)
    registry.faults.add(Fault(On.CHUNK, stall, nth=2))
    job = home.enqueue(archive, f"{registry.address}/app:1")
    worker = Background(home, lease=4.0)
    registry.wait_for(lambda r: any(record.faults for record in r.requests(On.CHUNK)))
    before = home.job(job.id).lease_expires_at
    assert renewed.wait(10)
    after = home.job(job.id).lease_expires_at
    assert before is not None
    assert after is not None
    assert after > before
    stall.release()
    assert worker.join().exit_code == ExitCode.DONE
    assert died == []
    pushed(registry, "app", "1", image)
