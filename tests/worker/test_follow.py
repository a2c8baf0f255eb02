"""Blobs of another registry that are sent on while they still come in."""

from __future__ import annotations

import pytest

from pusher.errors import ExitCode
from pusher.spool import disk
from pusher.store.records import JobState
from pusher.worker import downloads
from tests.support.fakeregistry import (
    SERVERLESS,
    Answer,
    BreakBody,
    FakeRegistry,
    Fault,
    On,
    StallBody,
)
from tests.support.home import CHUNK, Background, Home
from tests.support.images import Image
from tests.support.waiting import PATIENCE, wait_until
from tests.worker.origin import is_layer, name_of, put, same


@pytest.fixture(autouse=True)
def _big(monkeypatch: pytest.MonkeyPatch) -> None:
    """The layer of 70,000 bytes is big, the others are not."""
    monkeypatch.setattr(downloads, "_BIG", 50_000)


def chunks(registry: FakeRegistry) -> int:
    """Whole chunks that the registry took: only the big layer has any."""
    taken = [record for record in registry.requests(On.CHUNK) if record.status == 202]
    return sum(record.body_received == CHUNK for record in taken)


def closed(registry: FakeRegistry, digest: str) -> int:
    """Requests to close the upload of a blob."""
    return sum(record.query.get("digest") == digest for record in registry.requests(On.CLOSE))


def test_chunks_leave_before_the_blob_is_whole(
    home: Home, origin: FakeRegistry, registry: FakeRegistry, image: Image
) -> None:
    put(origin, image)
    stall = StallBody(after_bytes=2 * CHUNK + 5_000)
    origin.faults.add(Fault(On.GET_BLOB, stall, path=is_layer(image, 0)))
    job = home.enqueue(name_of(origin), f"{registry.address}/app:1")
    worker = Background(home)
    registry.wait_for(lambda r: chunks(r) == 2)
    assert stall.reached.is_set()
    assert is_layer(image, 0) not in registry.blobs["app"]
    stall.release()
    assert worker.join().exit_code == 0
    same(origin, registry, image)
    assert home.state(job.id) == JobState.SUCCEEDED
    home.assert_clean()


def test_one_thread_is_left_for_what_is_whole(
    origin: FakeRegistry, registry: FakeRegistry, image: Image, tmp_path_factory: pytest.TempPathFactory
) -> None:
    put(origin, image)
    stall = StallBody(after_bytes=2 * CHUNK)
    origin.faults.add(Fault(On.GET_BLOB, stall, path=is_layer(image, 0)))
    with Home(tmp_path_factory.mktemp("one"), parallel=1) as home:
        home.enqueue(name_of(origin), f"{registry.address}/app:1")
        worker = Background(home)
        registry.wait_for(lambda r: {is_layer(image, 1), is_layer(image, 2)} <= set(r.blobs["app"]))
        stall.release()
        assert worker.join().exit_code == 0
    same(origin, registry, image)


def test_breaks_at_both_ends(home: Home, origin: FakeRegistry, registry: FakeRegistry, image: Image) -> None:
    put(origin, image)
    path = is_layer(image, 0)
    origin.faults.add(
        Fault(On.GET_BLOB, BreakBody(25_000), path=path),
        Fault(On.GET_BLOB, BreakBody(20_000), nth=2, path=path),
    )
    registry.faults.add(Fault(On.CHUNK, Answer(503, {"Retry-After": "0"}), nth=2))
    home.push(name_of(origin), f"{registry.address}/app:1")
    same(origin, registry, image)
    origin.faults.assert_all_fired()
    home.assert_clean()


def test_a_source_that_starts_again_leaves_no_gap(home: Home, registry: FakeRegistry, image: Image) -> None:
    """Without ranges every break brings the blob from its first byte."""
    with FakeRegistry(SERVERLESS) as origin:
        put(origin, image)
        path = is_layer(image, 0)
        stall = StallBody(after_bytes=1_000)
        origin.faults.add(
            Fault(On.GET_BLOB, BreakBody(2 * CHUNK + 5_000), path=path),
            Fault(On.GET_BLOB, stall, nth=2, path=path),
        )
        home.enqueue(name_of(origin), f"{registry.address}/app:1")
        worker = Background(home)
        assert stall.reached.wait(PATIENCE)
        registry.wait_for(lambda r: chunks(r) == 2)
        stall.release()
        assert worker.join().exit_code == 0
        same(origin, registry, image)
    assert any("does not continue at byte" in note for (note,) in home.progress.of("note"))


def test_the_next_run_goes_on_at_both_ends(
    home: Home, origin: FakeRegistry, registry: FakeRegistry, image: Image
) -> None:
    put(origin, image)
    path = is_layer(image, 0)
    stall = StallBody(after_bytes=2 * CHUNK + 5_000)
    origin.faults.add(Fault(On.GET_BLOB, stall, path=path))
    job = home.enqueue(name_of(origin), f"{registry.address}/app:1")
    worker = Background(home, give_up_after=0.5)
    registry.wait_for(lambda r: chunks(r) == 2)
    wait_until(lambda: home.spool.fetched_size(path) == 2 * CHUNK + 5_000)
    origin.stop()
    origin.faults.clear()
    assert worker.join().exit_code == ExitCode.UNFINISHED
    assert closed(registry, path) == 0
    origin.start()
    home.store.jobs.retry(job.id)
    assert home.run([job.id]).exit_code == 0
    same(origin, registry, image)
    ranges = [r.headers.get("range") for r in origin.requests(On.GET_BLOB) if path in r.path]
    assert ranges == [None, f"bytes={2 * CHUNK + 5_000}-"]
    assert chunks(registry) == len(image.layers[0].gzip) // CHUNK, "none was sent twice"
    home.assert_clean()


def test_wrong_bytes_are_never_made_a_blob(
    home: Home, origin: FakeRegistry, registry: FakeRegistry, image: Image
) -> None:
    """They leave before anybody can know; the upload is not closed with them."""
    put(origin, image)
    path = is_layer(image, 0)
    wrong = bytes(len(image.layers[0].gzip))
    origin.faults.add(Fault(On.GET_BLOB, Answer(200, {}, wrong), path=path, times=100))
    job = home.enqueue(name_of(origin), f"{registry.address}/app:1")
    assert home.run().exit_code == ExitCode.SOURCE
    error = home.store.jobs.get(job.id).error
    assert error is not None
    assert error.code == "layer-mismatch"
    assert closed(registry, path) == 0
    assert path not in registry.blobs["app"]


def test_wrong_bytes_once_are_sent_again(
    home: Home, origin: FakeRegistry, registry: FakeRegistry, image: Image
) -> None:
    put(origin, image)
    path = is_layer(image, 0)
    wrong = bytes(len(image.layers[0].gzip))
    stall = StallBody(after_bytes=2 * CHUNK + 5_000)
    origin.faults.add(
        Fault(On.GET_BLOB, Answer(200, {}, wrong), path=path), Fault(On.GET_BLOB, stall, path=path)
    )
    home.enqueue(name_of(origin), f"{registry.address}/app:1")
    worker = Background(home)
    registry.wait_for(lambda r: chunks(r) == 2)  # of what is wrong
    stall.release()
    assert worker.join().exit_code == 0
    same(origin, registry, image)
    assert any("is not that blob; fetching it again" in note for (note,) in home.progress.of("note"))
    home.assert_clean()


def test_a_full_disk_in_the_middle(
    home: Home, origin: FakeRegistry, registry: FakeRegistry, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for the rest is let go; the smaller blobs make room, and it goes on."""
    put(origin, image)
    free = [100_000_000]

    def room(folder: object) -> int:
        return free[0]

    monkeypatch.setattr(disk, "room_at", room)
    stall = StallBody(after_bytes=CHUNK + 5_000)
    path = is_layer(image, 0)
    origin.faults.add(Fault(On.GET_BLOB, stall, path=path))
    job = home.enqueue(name_of(origin), f"{registry.address}/app:1")
    home.progress.hooks["note"] = lambda text: (
        free.__setitem__(0, 100_000_000) if "no space" in text else None
    )
    worker = Background(home)
    registry.wait_for(lambda r: chunks(r) == 1)
    free[0] = 0
    stall.release()
    assert worker.join().exit_code == 0
    same(origin, registry, image)
    assert home.state(job.id) == JobState.SUCCEEDED
    home.assert_clean()
