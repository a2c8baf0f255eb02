"""A job is pushed within its window: it stops after the chunk at its end, and continues at the next."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pusher.store.records import JobRecord, Queueing
from pusher.store.store import Store
from pusher.worker.enqueue import prepare
from pusher.worker.job_holds import describe_closed_window
from pusher.worker.job_json import describe_jobs
from pusher.worker.overview import note, read_overviews
from tests.support.fakeregistry import SERVERLESS, FakeRegistry, Fault, On, Stall
from tests.support.home import CHUNK, Home, blob_bytes, pushed
from tests.support.images import make_image, write_archive
from tests.support.waiting import PATIENCE

IMAGE = make_image(70_000, 300, compressible=0.0)
OPENS = datetime(2026, 11, 28, 12, tzinfo=UTC)


class Clock:
    """The time of the job store."""

    now = OPENS

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def home(tmp_path: Path, clock: Clock) -> Iterator[Home]:
    with Home(tmp_path / "home", parallel=1) as home:
        home.store.close()
        home.store = Store.open(home.settings.database_url, clock=clock)
        yield home


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry(SERVERLESS.scaled(min=1_000, max=CHUNK)) as registry:
        yield registry


def enqueue(home: Home, folder: Path, registry: FakeRegistry, window: str) -> int:
    archive = write_archive(folder / "app.tar", IMAGE)
    prepared = prepare(home.store, str(archive), settings=home.settings, to=(f"{registry.address}/app:1",))
    return prepared.record(home.store, Queueing(window=window))[0].id


def window_of(first: int, last: int) -> str:
    """From and to whole hours after OPENS."""
    return "-".join(f"{(OPENS + timedelta(hours=hours)).astimezone():%H:%M}" for hours in (first, last))


def test_it_stops_at_the_end_and_continues_at_the_next(
    tmp_path: Path, home: Home, clock: Clock, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = enqueue(home, tmp_path, registry, window_of(0, 1))
    stall, seen = Stall(after_bytes=CHUNK // 2), []
    registry.faults.add(Fault(On.CHUNK, stall, nth=2))

    def close_window() -> None:
        stall.reached.wait(PATIENCE)
        clock.now = OPENS + timedelta(hours=1)

    def release_chunk(job: JobRecord, now: datetime) -> str:
        """Let the chunk go on once the heartbeat has stopped the job, before this second call."""
        seen.append(now)
        if len(seen) == 2:
            stall.release()
        return describe_closed_window(job, now)

    monkeypatch.setattr("pusher.worker.job_loop.describe_closed_window", release_chunk)
    closing = threading.Thread(target=close_window)
    closing.start()
    result = home.run()
    closing.join()

    assert (result.exit_code, [job.id for job in result.unfinished]) == (5, [job_id])
    assert registry.chunks == [CHUNK, CHUNK], "the chunk in flight went through, no other was begun"
    assert registry.requests(On.CANCEL) == []
    job = home.job(job_id)
    assert (job.state, job.attempts, job.error) == ("queued", 0, None)
    assert "has closed; continues at 2026-11-29 12:00:00" in home.events(job_id)[-1][1]
    (row,) = read_overviews(home.store, home.settings.workers, [job])
    assert note(row, clock.now).startswith(f"continues at 2026-11-29 12:00:00 UTC (window {job.window})")

    assert home.run().exit_code == 5, "nothing happens before"
    assert registry.chunks == [CHUNK, CHUNK]
    clock.now = OPENS + timedelta(days=1)
    assert home.run().exit_code == 0
    pushed(registry, "app", "1", IMAGE)
    assert registry.body_bytes_received() == blob_bytes(registry, "app"), "nothing is sent twice"


def test_it_starts_when_the_window_opens(
    tmp_path: Path, home: Home, clock: Clock, registry: FakeRegistry
) -> None:
    job_id = enqueue(home, tmp_path, registry, window_of(2, 3))
    assert home.run().exit_code == 5
    (described,) = describe_jobs(home.store, [home.job(job_id)], home.settings.workers)
    assert described["window"] == window_of(2, 3)
    assert described["window_opens_at"] == "2026-11-28T14:00:00.000Z"
    clock.now = OPENS + timedelta(hours=2)
    assert home.run().exit_code == 0
    (described,) = describe_jobs(home.store, [home.job(job_id)], home.settings.workers)
    assert described["window_opens_at"] is None
