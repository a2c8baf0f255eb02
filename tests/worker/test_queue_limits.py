"""``pusher limit`` and ``pusher parallel`` while a worker runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pusher.config import Timetable
from pusher.errors import ExitCode, Stopped
from pusher.store.queue_settings import LIMIT_RATE, PARALLEL
from pusher.worker.pool import BlobPool
from tests.support.fakeregistry import SERVERLESS, FakeRegistry, On
from tests.support.home import Background, Home, blob_bytes, pushed
from tests.support.images import make_image, write_archive
from tests.support.waiting import PATIENCE, wait_until

KB = 1000


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry(SERVERLESS.scaled(min=20 * KB, max=100_000 * KB)) as running:
        yield running


# --- the rate ---------------------------------------------------------------------------------------------


def test_a_limit_holds_inside_a_chunk_and_so_does_its_end(
    home: Home, registry: FakeRegistry, tmp_path: Path
) -> None:
    image = make_image(4000 * KB, compressible=0.0)
    job = home.enqueue(write_archive(tmp_path / "app.tar", image), f"{registry.address}/app:1")
    home.store.settings.set(LIMIT_RATE, "20KB")
    worker = Background(home, chunk_size=4000 * KB, limit_rate=Timetable(5000 * KB))
    home.progress.wait_for("blob_sending", 3)
    assert "rate: at most 19.5 KiB/s for all workers together" in notes(home)
    home.store.settings.clear(LIMIT_RATE)
    assert worker.join().exit_code == ExitCode.DONE, "it would take 200 s"
    assert notes(home)[-1] == "rate: at most 4.8 MiB/s for all uploads together", "as it was started"
    assert registry.requests(On.CHUNK)[0].status == 202
    assert home.job(job.id).attempts == 1


def test_a_running_worker_is_slowed_down(home: Home, registry: FakeRegistry, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "app.tar", make_image(4000 * KB, compressible=0.0))
    home.enqueue(archive, f"{registry.address}/app:1")
    worker = Background(home, chunk_size=4000 * KB, limit_rate=Timetable(200 * KB))
    home.progress.wait_for("blob_sending", 2)
    home.store.settings.set(LIMIT_RATE, "100KB")
    home.progress.wait_for_note("rate: at most 97.7 KiB/s for all workers together")
    home.store.settings.set(LIMIT_RATE, "300KB")
    home.progress.wait_for_note(
        "rate: at most 293.0 KiB/s for all workers together; at most 195.3 KiB/s for this one"
    )
    home.store.jobs.cancel(1)
    worker.join()


def test_a_value_of_another_version_is_reported_and_has_no_effect(
    home: Home, registry: FakeRegistry, tmp_path: Path
) -> None:
    home.store.settings.set(LIMIT_RATE, "as fast as the neighbours allow")
    home.push(
        write_archive(tmp_path / "app.tar", make_image(30 * KB, compressible=0.0)),
        f"{registry.address}/app:1",
    )
    assert any("limit_rate of the queue is" in note for note in notes(home))


def notes(home: Home) -> list[str]:
    return [note for (note,) in home.progress.of("note")]


# --- uploads at a time ------------------------------------------------------------------------------------


def test_with_fewer_uploads_the_others_pause_after_their_chunk(
    home: Home, registry: FakeRegistry, tmp_path: Path
) -> None:
    """No session is lost, and each continues where it paused."""
    image = make_image(*[400 * KB] * 4, compressible=0.0)
    archive = write_archive(tmp_path / "app.tar", image)
    home.enqueue(archive, f"{registry.address}/app:1")
    home.store.settings.set(LIMIT_RATE, "100KB")
    worker = Background(home, chunk_size=20 * KB, parallel=4)
    wait_until(lambda: len(sending(registry)) == 4)
    home.store.settings.set(PARALLEL, "1")
    home.progress.wait_for_note("uploads at a time: 1 (pusher parallel)")
    wait_until(lambda: len(sending(registry, last=8)) == 1)
    home.store.settings.clear(PARALLEL)
    home.progress.wait_for_note("uploads at a time: 4 (as this run was started)")
    home.store.settings.clear(LIMIT_RATE)
    assert worker.join().exit_code == ExitCode.DONE
    pushed(registry, "app", "1", image)
    assert len(registry.requests(On.OPEN)) == 5, "a session for each layer and the config"
    assert registry.body_bytes_received() == blob_bytes(registry, "app"), "no byte twice"


def sending(registry: FakeRegistry, last: int = 12) -> set[str]:
    """The sessions of the last chunks that arrived."""
    chunks = [record for record in registry.requests(On.CHUNK) if record.status == 202]
    return {record.path.rpartition("/")[2].partition("?")[0] for record in chunks[-last:]}


def test_more_uploads_than_the_run_was_started_with(
    home: Home, registry: FakeRegistry, tmp_path: Path
) -> None:
    home.store.settings.set(PARALLEL, "3")
    image = make_image(*[200 * KB] * 3, compressible=0.0)
    home.enqueue(write_archive(tmp_path / "app.tar", image), f"{registry.address}/app:1")
    home.store.settings.set(LIMIT_RATE, "400KB")
    worker = Background(home, chunk_size=20 * KB, parallel=1)
    wait_until(lambda: len(sending(registry)) == 3)
    home.store.settings.clear(LIMIT_RATE)
    assert worker.join().exit_code == ExitCode.DONE
    pushed(registry, "app", "1", image)


def test_the_task_of_the_highest_rank_is_surplus() -> None:
    pool, go = BlobPool(3), threading.Event()
    begun: list[str] = []
    ended: list[str] = []

    def work(name: str) -> Callable[[], None]:
        def run() -> None:
            begun.append(name)
            assert go.wait(PATIENCE)
            pool.wait_while_surplus(lambda: None)
            ended.append(name)

        return run

    futures = [pool.submit(name, (rank,), work(name)) for rank, name in enumerate("abc")]
    wait_until(lambda: len(begun) == 3)
    pool.resize(1, 0)
    assert not pool.is_free
    go.set()
    for future in futures:
        future.result(PATIENCE)
    assert ended == ["a", "b", "c"]
    pool.resize(2, 1)
    assert pool.submit("d", (0,), lambda: "d").result(PATIENCE) == "d"
    pool.close()


def test_a_task_that_waits_as_surplus_can_be_stopped() -> None:
    pool, go, stopped = BlobPool(2), threading.Event(), threading.Event()
    begun = threading.Barrier(3)

    def stop() -> None:
        raise Stopped

    def last() -> None:
        pool.wait_while_surplus(lambda: None)  # not at first
        begun.wait(PATIENCE)
        assert go.wait(PATIENCE)
        pool.wait_while_surplus(stop)

    def first() -> None:
        begun.wait(PATIENCE)
        assert go.wait(PATIENCE)
        assert stopped.wait(PATIENCE)

    pool.submit("first", (0,), first)
    future = pool.submit("last", (1,), last)
    begun.wait(PATIENCE)
    pool.resize(1, 0)
    go.set()
    with pytest.raises(Stopped):
        future.result(PATIENCE)
    stopped.set()
    pool.close()
