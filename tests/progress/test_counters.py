"""What the workers tell becomes a snapshot and events."""

from __future__ import annotations

import threading

import pytest

from pusher.oci.digest import provisional_digest
from pusher.progress.base import Progress
from pusher.progress.counters import Counters
from tests.progress.helpers import MIB, Clock, digest

A, B, C = digest("a"), digest("b"), digest("c")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def counters(clock: Clock) -> Counters:
    counters = Counters(clock)
    counters.job_started(1, "app:1", "r.example/app:1")
    return counters


def test_it_is_the_progress_that_workers_expect(counters: Counters) -> None:
    progress: Progress = counters
    assert progress is counters


def test_offsets_and_bytes_in_flight(counters: Counters) -> None:
    counters.blob_started(1, A, 100, 20)
    counters.blob_sending(1, A, 30)
    (blob,) = counters.snapshot().active
    assert (blob.offset, blob.in_flight, blob.remaining) == (20, 30, 50)
    counters.blob_acknowledged(1, A, 60)
    (blob,) = counters.snapshot().active
    assert (blob.offset, blob.in_flight, blob.remaining) == (60, 0, 40)


def test_two_registries_get_the_same_blob(counters: Counters) -> None:
    counters.job_started(2, "app:1", "other.example/app:1")
    for job_id in (1, 2):
        counters.blob_started(job_id, A, 100, 0)
    counters.drain()
    counters.blob_sending(1, A, 30)
    counters.blob_acknowledged(2, A, 60)
    snapshot = counters.snapshot()
    assert [(b.job_id, b.offset, b.in_flight) for b in snapshot.active] == [(1, 0, 30), (2, 60, 0)]
    assert (snapshot.total, snapshot.done) == (200, 60)
    assert [event.fields["job"] for event in counters.drain()] == [2]
    counters.job_ended(2, "failed", "")
    assert [blob.job_id for blob in counters.snapshot().active] == [1]


def test_a_lost_session_rewinds(counters: Counters) -> None:
    counters.blob_started(1, A, 100, 0)
    counters.blob_acknowledged(1, A, 60)
    counters.blob_acknowledged(1, A, 0)
    assert counters.snapshot().done == 0


def test_speed_and_time_left_are_those_of_what_the_registry_keeps(counters: Counters, clock: Clock) -> None:
    """In the order in which an upload tells: nothing is in flight any more when a chunk is acknowledged."""
    counters.blob_started(1, A, 300 * MIB, 0)
    for chunk in range(1, 11):
        for sent in range(1, 11):
            clock.advance(1)
            counters.blob_sending(1, A, sent * MIB)
        counters.blob_sending(1, A, 0)
        counters.blob_acknowledged(1, A, chunk * 10 * MIB)
    snapshot = counters.snapshot()
    assert snapshot.speed == pytest.approx(MIB, rel=0.05)
    assert snapshot.active[0].speed == pytest.approx(MIB, rel=0.05)
    assert snapshot.eta == pytest.approx(200, rel=0.05)


def test_chunks_and_sessions_that_are_lost_leave_the_speed_of_the_link(
    counters: Counters, clock: Clock
) -> None:
    """So that the time left is that of what is left, and not that of all breaks again."""
    counters.blob_started(1, A, 100 * MIB, 0)
    for _ in range(10):
        for sent in range(1, 11):
            clock.advance(0.1)
            counters.blob_sending(1, A, sent * MIB // 10)
        counters.blob_sending(1, A, 0)
        counters.blob_acknowledged(1, A, 0)
    snapshot = counters.snapshot()
    assert snapshot.speed == pytest.approx(MIB, rel=0.05)
    assert snapshot.active[0].speed == pytest.approx(MIB, rel=0.05)
    assert snapshot.eta == pytest.approx(100, rel=0.05)


def test_an_acknowledged_chunk_is_not_counted_twice(counters: Counters, clock: Clock) -> None:
    counters.blob_started(1, A, 100 * MIB, 0)
    clock.advance(10)
    counters.blob_sending(1, A, 10 * MIB)
    counters.blob_acknowledged(1, A, 10 * MIB)
    assert counters.snapshot().speed == pytest.approx(MIB)


def test_totals_hold_what_was_there_already(counters: Counters) -> None:
    counters.blob_done(1, A, 50, "exists")
    counters.blob_started(1, B, 150, 0)
    counters.blob_acknowledged(1, B, 50)
    snapshot = counters.snapshot()
    assert (snapshot.done, snapshot.total) == (100, 200)
    assert [blob.done for blob in snapshot.blobs] == [True, False]


def test_what_was_there_does_not_count_as_sent(counters: Counters, clock: Clock) -> None:
    counters.blob_started(1, A, 100, 0)
    clock.advance(1)
    counters.blob_done(1, A, 100, "mounted")
    assert counters.snapshot().speed == 0


def test_eta_needs_a_speed(counters: Counters, clock: Clock) -> None:
    counters.blob_started(1, A, 100, 0)
    assert counters.snapshot().eta is None
    clock.advance(5)
    assert counters.snapshot().eta is None
    counters.blob_acknowledged(1, A, 50)
    assert counters.snapshot().eta == pytest.approx(5)


def test_there_is_no_eta_once_everything_has_left(counters: Counters, clock: Clock) -> None:
    """What the registry still does with it takes as long as it takes."""
    counters.blob_started(1, digest("a"), 100, 0)
    clock.advance(1)
    counters.blob_sending(1, digest("a"), 100)
    assert counters.snapshot().speed == pytest.approx(100)
    assert counters.snapshot().eta is None


def test_a_prepared_layer_becomes_a_blob_to_send(counters: Counters, clock: Clock) -> None:
    counters.preparing(1, C, 0, 300)
    clock.advance(1)
    counters.preparing(1, C, 100, 300)
    (layer,) = counters.snapshot().preparing
    assert (layer.done, layer.total, layer.speed) == (100, 300, 100)
    counters.drain()
    counters.prepared(1, C, A, 70, compression="gzip 9")
    assert counters.drain()[0].fields["compression"] == "gzip 9"
    snapshot = counters.snapshot()
    assert snapshot.preparing == ()
    assert (snapshot.total, snapshot.active) == (70, ())


def test_waiting_counts_down_and_ends(counters: Counters, clock: Clock) -> None:
    counters.waiting("network", 10, "no route to host")
    clock.advance(4)
    (wait,) = counters.snapshot().waiting
    assert (wait.what, wait.seconds, wait.reason) == ("network", 6, "no route to host")
    clock.advance(6)
    assert counters.snapshot().waiting == ()


def test_waiting_ends_when_the_blob_moves(counters: Counters) -> None:
    counters.blob_started(1, A, 100, 0)
    counters.waiting(A, 10, "reset", job=1)
    counters.waiting("network", 10, "offline")
    counters.blob_acknowledged(1, A, 10)
    assert counters.snapshot().waiting == ()
    counters.waiting(C, 10, "reset", job=1)
    counters.blob_started(1, provisional_digest(C), None, 0)
    assert counters.snapshot().waiting == ()


def test_waits_of_two_jobs_and_of_blobs_that_look_alike(counters: Counters) -> None:
    alike = A[:-1] + "0"
    for job, blob in ((1, A), (2, A), (1, alike)):
        counters.waiting(blob, 10, f"{job}", job=job)
    assert [(wait.what, wait.reason) for wait in counters.snapshot().waiting] == [
        ("a" * 12, "1"),
        ("a" * 12, "2"),
        ("a" * 12, "1"),
    ]
    counters.blob_started(1, A, 100, 0)
    assert [wait.reason for wait in counters.snapshot().waiting] == ["2", "1"]
    counters.job_ended(1, "queued", "stopped")
    assert [wait.reason for wait in counters.snapshot().waiting] == ["2"]


def test_a_waiting_job_that_starts_again(counters: Counters) -> None:
    counters.waiting("job 1", 60, "offline")
    counters.job_ended(1, "waiting", "offline")
    assert [wait.what for wait in counters.snapshot().waiting] == ["job 1"]
    counters.job_started(1, "app:1", "r.example/app:1")
    assert counters.snapshot().waiting == ()
    starts = [event.fields["again"] for event in counters.drain() if event.kind == "job-started"]
    assert starts == [False, True]


def test_an_ended_job_takes_its_blobs_along(counters: Counters) -> None:
    counters.job_started(2, "b", "r.example/b")
    counters.blob_started(1, A, 100, 0)
    counters.preparing(1, C, 0, None)
    counters.blob_started(2, B, 10, 0)
    counters.job_ended(1, "waiting", "offline")
    snapshot = counters.snapshot()
    assert [blob.digest for blob in snapshot.blobs] == [B]
    assert snapshot.preparing == ()
    assert snapshot.jobs == 1


def test_late_words_about_an_unknown_blob_are_ignored(counters: Counters) -> None:
    counters.drain()
    counters.blob_sending(1, A, 10)
    counters.blob_acknowledged(1, A, 10)
    assert counters.snapshot().blobs == ()
    assert counters.drain() == []


def test_events_come_once_and_in_order(counters: Counters) -> None:
    counters.blob_started(1, A, 100, 0)
    counters.blob_sending(1, A, 10)
    counters.preparing(1, C, 0, 5)
    counters.preparing(1, C, 5, 5)
    counters.note("a sentence")
    assert [event.kind for event in counters.drain()] == [
        "job-started",
        "blob-started",
        "layer-preparing",
        "note",
    ]
    assert counters.drain() == []


def test_events_that_nobody_takes_do_not_pile_up(counters: Counters) -> None:
    for number in range(5000):
        counters.note(str(number))
    events = counters.drain()
    assert len(events) == 1000
    assert events[-1].fields == {"message": "4999"}


def test_many_threads(counters: Counters) -> None:
    def work(letter: str) -> None:
        counters.blob_started(1, digest(letter), 1000, 0)
        for offset in range(1001):
            counters.blob_sending(1, digest(letter), 1)
            counters.blob_acknowledged(1, digest(letter), offset)
            counters.snapshot()
        counters.blob_done(1, digest(letter), 1000, "uploaded")

    threads = [threading.Thread(target=work, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    snapshot = counters.snapshot()
    assert (snapshot.done, snapshot.total, snapshot.active) == (4000, 4000, ())
