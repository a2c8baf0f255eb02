"""The speed of each job, as its worker measures and stores it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from pusher.oci.digest import provisional_digest
from pusher.progress.base import Progress
from pusher.worker.job_json import describe_jobs, seconds_left
from pusher.worker.job_speeds import JobSpeeds
from pusher.worker.overview import amount, note, read_overviews, share
from tests.progress.helpers import MIB, Clock, digest
from tests.support.fakeregistry import SERVERLESS, FakeRegistry, Fault, On, Stall
from tests.support.home import CHUNK, Home, Recorder
from tests.support.images import make_image, write_archive
from tests.support.waiting import wait_until

A, B, C = digest("a"), digest("b"), digest("c")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told() -> Recorder:
    return Recorder()


@pytest.fixture
def speeds(told: Recorder, clock: Clock) -> JobSpeeds:
    return JobSpeeds(cast("Progress", told), clock)


def test_each_job_has_its_own(speeds: JobSpeeds, clock: Clock, told: Recorder) -> None:
    for job_id, blob in ((1, A), (2, B)):
        speeds.job_started(job_id, "app:1", "r.example/app:1")
        speeds.blob_started(job_id, blob, 100 * MIB, 20 * MIB)
    speeds.blob_sending(1, A, 4 * MIB)
    speeds.blob_sending(2, B, 2 * MIB)
    clock.advance(2)
    assert speeds.measure() == {1: (2 * MIB, 4 * MIB), 2: (MIB, 2 * MIB)}
    speeds.blob_acknowledged(1, A, 30 * MIB)
    clock.advance(2)
    assert speeds.measure()[1] == (round(2.5 * MIB), 0)
    speeds.job_ended(1, "succeeded", "")
    assert speeds.measure().keys() == {2}
    speeds.note("something else")
    assert [name for name, *_ in told.calls][-2:] == ["job_ended", "note"]
    assert len(told.calls) == 9, "all is passed on"


def test_two_registries_get_the_same_blob(speeds: JobSpeeds, clock: Clock) -> None:
    for job_id in (1, 2):
        speeds.job_started(job_id, "app:1", f"r{job_id}.example/app:1")
        speeds.blob_started(job_id, A, 100 * MIB, 0)
    speeds.blob_sending(1, A, 4 * MIB)
    speeds.blob_acknowledged(2, A, 2 * MIB)
    clock.advance(2)
    assert speeds.measure() == {1: (2 * MIB, 4 * MIB), 2: (MIB, 0)}
    speeds.blob_done(2, A, 100 * MIB, "uploaded")
    assert speeds.measure()[1] == (2 * MIB, 4 * MIB)


def test_the_speed_is_that_of_the_link_also_after_a_lost_session(speeds: JobSpeeds, clock: Clock) -> None:
    """A break costs all that was sent before, and the link is as fast as ever."""
    speeds.job_started(1, "app:1", "r.example/app:1")
    speeds.blob_started(1, A, 100 * MIB, 0)
    for second in range(1, 11):
        clock.advance(1)
        speeds.blob_sending(1, A, second * MIB)
    speeds.blob_sending(1, A, 0)
    speeds.blob_acknowledged(1, A, 0)
    assert speeds.measure() == {1: (MIB, 0)}
    for second in range(1, 4):
        clock.advance(1)
        speeds.blob_sending(1, A, second * MIB)
        assert speeds.measure() == {1: (MIB, second * MIB)}


def test_a_chunk_that_had_arrived_before_the_break_counts_once(speeds: JobSpeeds, clock: Clock) -> None:
    speeds.job_started(1, "app:1", "r.example/app:1")
    speeds.blob_started(1, A, 100 * MIB, 0)
    speeds.blob_acknowledged(1, A, 4 * MIB)
    speeds.blob_sending(1, A, 3 * MIB)
    speeds.blob_sending(1, A, 0)
    speeds.blob_acknowledged(1, A, 0)  # at risk until the registry is asked
    speeds.blob_acknowledged(1, A, 8 * MIB)
    clock.advance(1)
    assert speeds.measure() == {1: (8 * MIB, 0)}
    speeds.blob_sending(1, A, 0)
    speeds.blob_acknowledged(1, A, 9 * MIB)
    assert speeds.measure() == {1: (9 * MIB, 0)}


def test_a_layer_that_is_sent_while_it_is_compressed(speeds: JobSpeeds, clock: Clock) -> None:
    speeds.job_started(1, "app:1", "r.example/app:1")
    speeds.blob_started(1, provisional_digest(C), None, 0)
    speeds.blob_sending(1, provisional_digest(C), MIB)
    speeds.prepared(1, C, A, 4 * MIB)
    speeds.blob_acknowledged(1, A, 2 * MIB)
    clock.advance(1)
    speeds.blob_done(1, A, 4 * MIB, "uploaded")
    assert speeds.measure() == {1: (4 * MIB, 0)}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home(tmp_path / "home", parallel=1) as home:
        yield home


def test_another_process_sees_it(tmp_path: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pusher.worker.job_speeds._STORE_EVERY", 0.1)
    archive = write_archive(tmp_path / "app.tar", make_image(70_000, compressible=0.0))
    with FakeRegistry(SERVERLESS.scaled(min=1_000, max=CHUNK)) as registry:
        stall = Stall(after_bytes=CHUNK // 2)
        registry.faults.add(Fault(On.CHUNK, stall, nth=2))
        job = home.enqueue(archive, f"{registry.address}/app:1")
        worker = threading.Thread(target=home.run)
        worker.start()
        try:
            wait_until(lambda: home.job(job.id).speed)
            running = home.job(job.id)
            (described,) = describe_jobs(home.store, [running], home.settings.workers)
            assert json.loads(json.dumps(described))["bytes_per_second"] == running.speed
            (row,) = read_overviews(home.store, home.settings.workers, [running])
            assert "/s" in note(row, home.store.now())
        finally:
            stall.release()
            worker.join()
        done = home.job(job.id)
        assert (done.state, done.speed, done.in_flight) == ("succeeded", None, None)


def test_what_has_arrived_is_soon_not_in_flight_any_more(
    home: Home, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it counts twice until the speed is stored again."""
    monkeypatch.setattr("pusher.worker.job_speeds._LOOK_EVERY", 0.01)
    monkeypatch.setattr("pusher.worker.job_speeds._STORE_EVERY", 3600.0)
    job, speeds = home.enqueue(archive, "registry.example.com/app:1"), JobSpeeds(cast("Progress", Recorder()))
    assert home.store.jobs.claim("a worker", lease=3600) is not None
    speeds.job_started(job.id, "app:1", "registry.example.com/app:1")
    for blob in (A, B):
        speeds.blob_started(job.id, blob, 100 * MIB, 0)
        speeds.blob_sending(job.id, blob, 4 * MIB)
    with speeds.recording(home.store, "a worker"):
        wait_until(lambda: home.job(job.id).in_flight == 8 * MIB)
        speeds.blob_acknowledged(job.id, A, 5 * MIB)
        wait_until(lambda: home.job(job.id).in_flight == 4 * MIB)


def test_the_time_left_counts_what_is_in_flight(home: Home, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "app.tar", make_image(70_000, compressible=0.0))
    job = home.enqueue(archive, "registry.example.com/app:1")
    claimed = home.store.jobs.claim("another host/worker", lease=60)
    assert claimed is not None
    home.store.jobs.record_speeds("another host/worker", {job.id: (1000, 10_000)})
    home.store.jobs.record_speeds("a third", {job.id: (1, 1)})
    now = home.job(job.id)
    assert (now.speed, now.in_flight) == (1000, 10_000)
    (row,) = read_overviews(home.store, home.settings.workers, [now])
    totals = replace(row.totals, bytes_total=110_000, bytes_done=0, sizes_known=True)
    shown = replace(row, totals=totals)
    assert note(shown, home.store.now()) == "1.0 KiB/s, 1m40s left"
    assert (share(shown), amount(shown)) == ("9%", "9.8 / 107.4 KiB")
    dead = replace(shown, orphaned=True)
    assert (share(dead), amount(dead)) == ("0%", "0 B / 107.4 KiB")
    all_sent = replace(shown, totals=replace(totals, bytes_done=100_000))
    assert (share(all_sent), amount(all_sent)) == ("99%", "107.4 / 107.4 KiB"), "not acknowledged yet"
    assert seconds_left(now, replace(totals, sizes_known=False)) is None
