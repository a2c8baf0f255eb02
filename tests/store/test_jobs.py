"""What the queue holds, and the sums over it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pusher.errors import JobUnknown
from pusher.store.records import BlobKind, BlobState, JobState, JobTotals, NewBlob, StoredError
from pusher.store.store import Store
from tests.support.databases import REGISTRY, REPOSITORY, FakeClock, digest, new_job


def finish(store: Store) -> int:
    job = store.jobs.claim("w", lease=30)
    assert job is not None
    store.jobs.succeed(job, digest("f"))
    return job.id


def test_a_new_job_is_queued_with_its_layers_and_its_config(store: Store, clock: FakeClock) -> None:
    other = NewBlob(None, "text/plain", digest("b"), 8)
    blobs = (NewBlob(digest("1")), NewBlob(digest("2"), "application/gzip", digest("a"), 7), other)
    job = store.jobs.add(new_job(*blobs, tag="1", options={"plain_http": True}, priority=3))

    assert store.jobs.get(job.id) == job
    assert job.state == JobState.QUEUED
    assert job.created_at == clock.now
    assert (job.priority, job.attempts, job.options) == (3, 0, {"plain_http": True})
    assert job.source == {"kind": "docker", "image": "app:1", "index": None}
    assert job.destination == f"{REGISTRY}/{REPOSITORY}:1"
    rows = store.blobs.of_job(job.id)
    assert [(row.position, row.kind, row.diff_id, row.digest, row.state) for row in rows] == [
        (0, BlobKind.CONFIG, None, digest("c"), BlobState.PENDING),
        (1, BlobKind.LAYER, digest("1"), None, BlobState.PENDING),
        (2, BlobKind.LAYER, digest("2"), digest("a"), BlobState.READY),
        (3, BlobKind.OTHER, None, digest("b"), BlobState.READY),
    ]
    assert [row.key for row in rows] == [digest(character) for character in "c12b"]
    assert [event.kind for event in store.events.of(job.id)] == ["queued"]


def test_a_config_whose_size_is_known_is_ready(store: Store) -> None:
    job = store.jobs.add(new_job(config_size=12))
    assert store.blobs.of_job(job.id)[0].state == BlobState.READY


def test_an_unknown_id_is_an_error_with_a_hint(store: Store) -> None:
    with pytest.raises(JobUnknown, match="no job 4711") as caught:
        store.jobs.get(4711)
    assert "pusher status" in caught.value.hint


def test_lists_are_in_the_order_of_ids_and_limited_to_the_newest(store: Store) -> None:
    ids = [store.jobs.add(new_job(priority=p)).id for p in (0, 9, 5)]
    finished = finish(store)
    assert [job.id for job in store.jobs.list()] == ids
    assert [job.id for job in store.jobs.list(limit=2)] == ids[1:]
    assert [job.id for job in store.jobs.list(states={JobState.QUEUED})] == [i for i in ids if i != finished]
    assert store.jobs.list(states=set()) == []


def test_counts(store: Store) -> None:
    assert store.jobs.counts() == {}
    for _ in range(3):
        store.jobs.add(new_job())
    finish(store)
    assert store.jobs.counts() == {JobState.QUEUED: 2, JobState.SUCCEEDED: 1}


def test_totals_count_a_blob_once_and_follow_the_upload(store: Store) -> None:
    twice = NewBlob(digest("1"), "application/gzip", digest("a"), 1000)
    done = NewBlob(digest("2"), "application/gzip", digest("b"), 50)
    job = store.jobs.add(new_job(twice, twice, done, NewBlob(digest("3")), config_size=9))
    other = store.jobs.add(new_job(twice, repository="other"))
    claimed = store.jobs.claim("w", lease=30)
    assert claimed is not None

    store.blobs.set_done(claimed, digest("b"), BlobState.MOUNTED)
    upload = store.uploads.acquire(REGISTRY, REPOSITORY, digest("a"), owner="w", lease=30)
    assert upload is not None
    upload = store.uploads.record_session(
        upload, location="http://r/1", chunk_size=400, min_chunk=None, max_chunk=None, profile="p"
    )
    store.uploads.record_offset(upload, location="http://r/2", offset=400, job_id=job.id, sent=450)
    store.jobs.add_bytes_sent(job.id, 33)

    assert store.jobs.totals([job.id, other.id, 99]) == {
        job.id: JobTotals(
            1059, bytes_done=450, bytes_sent=483, bytes_wasted=0, bytes_at_risk=0, sizes_known=False
        ),
        other.id: JobTotals(
            1000, bytes_done=0, bytes_sent=0, bytes_wasted=0, bytes_at_risk=0, sizes_known=False
        ),
    }
    store.blobs.set_blob(claimed, digest("3"), digest=digest("d"), size=1, media_type="application/gzip")
    assert store.jobs.totals([job.id])[job.id].sizes_known


def test_totals_of_more_jobs_than_one_statement_takes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    job = store.jobs.add(new_job())
    assert list(store.jobs.totals([job.id, *range(100_000, 140_000)])) == [job.id]


def test_only_finished_jobs_are_deleted_and_ids_are_never_used_again(store: Store) -> None:
    ids = [store.jobs.add(new_job()).id for _ in range(2)]
    assert finish(store) == ids[0]
    store.jobs.cancel(ids[1])
    waiting = store.jobs.add(new_job()).id

    assert store.retention.prune(store.now() + timedelta(1)).jobs == 2
    assert [job.id for job in store.jobs.list()] == [waiting]
    assert store.blobs.of_job(ids[0]) == []
    assert store.events.of(ids[0]) == []
    store.jobs.cancel(waiting)
    store.retention.prune(store.now() + timedelta(1))
    assert store.jobs.add(new_job()).id > waiting


def test_the_error_of_a_job_is_kept_until_it_succeeds(store: Store, clock: FakeClock) -> None:
    error = StoredError("registry-busy", "the registry is busy", "wait")
    job = store.jobs.add(new_job())
    claimed = store.jobs.claim("w", lease=30)
    assert claimed is not None
    store.jobs.release(claimed, state=JobState.WAITING, next_try_at=clock.now, error=error, attempt=True)
    assert store.jobs.get(job.id).error == error
    finish(store)
    after = store.jobs.get(job.id)
    assert (after.error, after.attempts, after.digest) == (None, 2, digest("f"))
    assert after.finished_at == clock.now


def test_events_of_a_pruned_job_are_no_error(store: Store, clock: FakeClock) -> None:
    job = store.jobs.add(new_job())
    clock.advance(1)
    store.events.add(job.id, "session-lost", "the registry forgot 300 bytes")
    store.events.add(99, "note", "nobody reads this")
    last = store.events.of(job.id)[-1]
    assert (last.kind, last.message, last.at) == ("session-lost", "the registry forgot 300 bytes", clock.now)
    assert store.events.of(99) == []
