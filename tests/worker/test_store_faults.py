"""The job store is locked, cannot be written, or fails in the middle of a run."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from pusher.config.timetable import Timetable
from pusher.errors import DiskFull, ExitCode, StoreLocked, StoreReadOnly, StoreRemoved, StoreUnreachable
from pusher.retry import Backoff
from pusher.store import driver_errors, engine
from pusher.store.outages import StoreOutages
from pusher.store.records import JobState
from pusher.store.store import Store
from pusher.worker import liveness
from pusher.worker.blob_observer import BlobObserver
from tests.store.privileges import like_any_user
from tests.support.databases import PostgresServer, postgres
from tests.support.fakeregistry import DISTRIBUTION_3, FakeRegistry, Fault, On, Stall
from tests.support.home import CHUNK, Background, Home, blob_bytes, keep_controls, pushed
from tests.support.images import Image, make_image, write_archive
from tests.support.quick import QUICK
from tests.support.waiting import PATIENCE, wait_until

__all__ = ["postgres"]

T = TypeVar("T")


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


def test_a_store_that_stays_locked_ends_the_run_with_a_sentence(
    impatient_home: Home, registry: FakeRegistry, image: Image, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = impatient_home
    job = home.enqueue(archive, f"{registry.address}/app:1")
    with _locked(home), pytest.raises(StoreLocked) as caught:
        home.run(retry=replace(QUICK, store_run=0.5))
    assert caught.value.exit_code == ExitCode.STORE
    assert "locked" in caught.value.message
    assert "jobs.db" in caught.value.message
    assert home.run().exit_code == ExitCode.DONE
    pushed(registry, "app", "1", image)
    assert home.state(job.id) == JobState.SUCCEEDED


def test_a_store_locked_in_the_middle_is_waited_for(
    impatient_home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    """The chunk that was acknowledged is recorded once that can be; nothing is asked or sent again."""
    home = impatient_home
    stall = Stall(after_bytes=CHUNK // 2)
    registry.faults.add(Fault(On.CHUNK, stall, nth=2))
    job = home.enqueue(archive, f"{registry.address}/app:1")
    worker = Background(home, parallel=1)
    registry.wait_for_fault(On.CHUNK)
    with _locked(home):
        stall.release()
        home.progress.wait_for_note("waiting for it")
    assert worker.join().exit_code == ExitCode.DONE
    assert len([text for (text,) in home.progress.of("note") if "waiting for it" in text]) == 1, "told once"
    home.progress.wait_for_note("is back after")
    pushed(registry, "app", "1", image)
    assert registry.body_bytes_received() == blob_bytes(registry, "app")
    assert registry.requests(On.STATUS) == []
    assert home.kinds(job.id) == ["queued", "running", "succeeded"]
    home.assert_clean()


def test_stopping_waits_for_the_store_a_moment_only(
    impatient_home: Home, registry: FakeRegistry, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = impatient_home
    home.enqueue(archive, f"{registry.address}/app:1")
    controls = keep_controls(monkeypatch)
    stall = Stall(after_bytes=CHUNK // 2)
    registry.faults.add(Fault(On.CHUNK, stall, nth=2))
    worker = Background(home, parallel=1, retry=replace(QUICK, store_stopping=0.3))
    registry.wait_for_fault(On.CHUNK)
    with _locked(home):
        stall.release()
        home.progress.wait_for_note("waiting for it")
        controls[0].stop()
        with pytest.raises(StoreLocked):
            worker.join()
    assert home.run().exit_code == ExitCode.DONE


def test_a_run_that_is_stopped_before_it_began_needs_no_store(
    impatient_home: Home, registry: FakeRegistry, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = impatient_home
    controls = keep_controls(monkeypatch)
    home.enqueue(archive, f"{registry.address}/app:1")
    with _locked(home):
        worker = Background(home, parallel=1)
        home.progress.wait_for_note("waiting for it")
        controls[0].stop()
        assert worker.join().exit_code == ExitCode.UNFINISHED


def test_a_server_that_restarts_ends_no_run(
    postgres: PostgresServer, tmp_path: Path, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    url = postgres.create("head")
    stall = Stall(after_bytes=CHUNK // 2)
    registry.faults.add(Fault(On.CHUNK, stall, nth=2))
    with Home(tmp_path / "home", database_url=url) as home:
        job = home.enqueue(archive, f"{registry.address}/app:1")
        worker = Background(home, parallel=1)
        registry.wait_for_fault(On.CHUNK)
        with postgres.away():
            stall.release()
            home.progress.wait_for_note("waiting for it")
        assert worker.join().exit_code == ExitCode.DONE
        assert home.kinds(job.id) == ["queued", "running", "succeeded"]
        pushed(registry, "app", "1", image)
        assert registry.body_bytes_received() == blob_bytes(registry, "app")
        assert home.store.jobs.owners() == set()
    postgres.drop(url)


def test_a_chunk_stops_when_another_worker_may_send_it(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is away for longer than the lease; the registry keeps what it got of the chunk."""
    image = make_image(90_000)  # its only layer is what is being sent
    archive = write_archive(tmp_path / "app.tar", image)
    monkeypatch.setattr(liveness, "_HEARTBEAT", 0.1)
    monkeypatch.setattr(liveness, "_GRACE", 0.4)
    stopped, stop = threading.Event(), BlobObserver._stop_without_lease

    def stop_without_lease(observer: BlobObserver) -> None:
        try:
            stop(observer)
        except StoreUnreachable:
            stopped.set()
            raise

    monkeypatch.setattr(BlobObserver, "_stop_without_lease", stop_without_lease)
    url = postgres.create("head")
    with (
        FakeRegistry(DISTRIBUTION_3) as registry,
        Home(
            tmp_path / "home", database_url=url, lease=0.5, chunk_size=60_000, profile="distribution-3"
        ) as home,
    ):
        job = home.enqueue(archive, f"{registry.address}/app:1")
        worker = Background(home, parallel=1, limit_rate=Timetable(20_000))
        registry.wait_for(lambda r: r.body_bytes_received() > 5_000)
        with postgres.away():
            assert stopped.wait(PATIENCE)
        assert worker.join().exit_code == ExitCode.DONE
        assert "may send by now" in str(home.progress.of("waiting"))
        pushed(registry, "app", "1", image)
        assert registry.body_bytes_received() == blob_bytes(registry, "app")
        assert home.kinds(job.id).count("running") == 1
        home.assert_clean()
    postgres.drop(url)


def test_every_part_of_the_store_is_waited_for(tmp_path: Path) -> None:
    """Whatever a worker calls, an outage in that moment ends no job."""

    class Away(Exception):
        pass

    class Notes(StoreOutages):
        def call(self, method: Callable[..., T], *args: Any, **kwargs: Any) -> T:
            raise Away

    with Home(tmp_path / "home") as home:
        store = home.store.waiting_out(Notes(lambda text: None, limit=None))
        parts = [name for name, part in vars(home.store).items() if not name.startswith("_")]
        assert len(parts) > 6
        for name in parts:
            part = getattr(home.store, name)
            methods = [method for method in dir(type(part)) if not method.startswith("_")]
            assert methods
            for method in methods:
                with pytest.raises(Away):
                    getattr(getattr(store, name), method)()
        with pytest.raises(Away):
            store.now()
        assert store.direct().now() <= home.store.now()


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


def _full() -> sqlite3.Error:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return error


def test_a_store_whose_disk_is_full_is_waited_for(
    home: Home, registry: FakeRegistry, image: Image, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can be read meanwhile, which is no end of the outage."""
    job = home.enqueue(archive, f"{registry.address}/app:1")
    succeed, tries = home.store.jobs.succeed, []

    def full_at_first(*args: Any) -> None:
        tries.append(args)
        if len(tries) < 3:
            with driver_errors.translate_errors("jobs.db"):
                raise _full()
        succeed(*args)

    monkeypatch.setattr(home.store.jobs, "succeed", full_at_first)
    assert home.run().exit_code == ExitCode.DONE
    assert len(tries) == 3
    assert home.kinds(job.id) == ["queued", "running", "succeeded"]
    notes = [text for (text,) in home.progress.of("note")]
    assert [text for text in notes if "waiting for it" in text] == [
        "no space left on the disk of the job store jobs.db: waiting for it; nothing is lost"
    ]
    assert len([text for text in notes if "is back after" in text]) == 1
    pushed(registry, "app", "1", image)


def test_a_store_whose_disk_stays_full_ends_the_run(
    home: Home, registry: FakeRegistry, image: Image, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job cannot even be put back; nothing hangs, nothing is printed by a dying thread."""
    job = home.enqueue(archive, f"{registry.address}/app:1")
    died: list[object] = []
    monkeypatch.setattr(threading, "excepthook", died.append)

    def full(*args: object, **kwargs: object) -> None:
        with driver_errors.translate_errors("jobs.db"):
            raise _full()

    with monkeypatch.context() as patch:
        for method in ("succeed", "fail", "release"):
            patch.setattr(home.store.jobs, method, full)
        with pytest.raises(DiskFull):
            Background(home, retry=replace(QUICK, store_run=0.3)).join()
    assert died == []
    assert home.state(job.id) == JobState.RUNNING
    assert home.run().exit_code == ExitCode.DONE
    pushed(registry, "app", "1", image)
    home.assert_clean()


def test_an_outage_ends_with_the_last_wait() -> None:
    """One thread that can read does not report the end of what another one still waits for."""
    notes: list[str] = []
    patience = StoreOutages(
        notes.append, limit=None, policy=replace(QUICK, store=Backoff(first=0.01, tries=None))
    )
    tried, free = threading.Event(), threading.Event()

    def write() -> str:
        tried.set()
        if not free.is_set():
            raise StoreLocked("the job store is locked")
        return "written"

    with ThreadPoolExecutor(1) as threads:
        writing = threads.submit(patience.call, write)
        assert tried.wait(PATIENCE)
        while not notes:
            time.sleep(0.01)
        assert [patience.call(lambda: "read") for _ in range(3)] == ["read"] * 3
        assert notes == ["the job store is locked: waiting for it; nothing is lost"]
        free.set()
        assert writing.result(PATIENCE) == "written"
    assert len(notes) == 2
    assert "is back after" in notes[1]


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
    registry.wait_for_fault(On.CHUNK)
    assert renewed.wait(PATIENCE)
    before = home.job(job.id).lease_expires_at
    assert before is not None
    wait_until(lambda: home.job(job.id).lease_expires_at > before)  # type: ignore[operator]
    stall.release()
    assert worker.join().exit_code == ExitCode.DONE
    assert died == []
    pushed(registry, "app", "1", image)


@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
def test_a_store_that_is_removed_under_a_run_ends_it_with_a_sentence(home: Home, replaced: bool) -> None:
    worker = Background(home, forever=True)
    path = home.settings.home / "jobs.db"
    content = path.read_bytes()
    path.unlink()
    if replaced:
        path.write_bytes(content)
    with pytest.raises(StoreRemoved) as caught:
        worker.join()
    assert "jobs.db was removed or replaced" in caught.value.message
