"""The job store forgets what nobody needs any more, in every table."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pusher.oci.layer_blob import LayerBlob
from pusher.store.records import BlobState, JobDocument, JobRecord, NewBlob, StoredError
from pusher.store.retention import PruneCounts
from pusher.store.store import Store
from tests.support.databases import REGISTRY, REPOSITORY, FakeClock, digest, new_job
from tests.support.finished_jobs import add_finished_jobs

MT = "application/gzip"


def pushed(store: Store, character: str, **changes: object) -> JobRecord:
    """A job that succeeded, with everything that is known of its one layer."""
    blob, diff_id, config = digest(character), digest(f"{character}0"), digest(f"{character}1")
    layer = NewBlob(diff_id, MT, blob, 5)
    store.documents.put(config, b"{}")
    job = store.jobs.add(new_job(layer, config_digest=config, **changes))
    store.known_blobs.remember(LayerBlob(blob, 5, "isal:2", MT, diff_id, 9))
    claimed = store.jobs.claim("w", lease=30, only=[job.id])
    assert claimed is not None
    store.blobs.set_done(claimed, blob, BlobState.UPLOADED)
    store.jobs.succeed(claimed, digest("f"))
    return job


def rows(store: Store) -> dict[str, int]:
    with store._database.read() as connection:
        return {table: connection.value(f"SELECT count(*) FROM {table}") for table in NOTHING}


NOTHING = dict.fromkeys(("jobs", "job_blobs", "events", "uploads", "known_blobs", "documents"), 0)


def test_what_only_old_jobs_needed_goes_with_them(store: Store, clock: FakeClock) -> None:
    pushed(store, "a")
    clock.advance(8 * 86400)
    new = pushed(store, "b")
    before = rows(store)
    week = clock.now - timedelta(days=7)
    expected = PruneCounts(jobs=1, known=3)
    assert store.retention.prune(week, dry_run=True) == expected
    assert rows(store) == before, "it was only counted"
    assert store.retention.prune(week) == expected
    assert rows(store) == {name: count // 2 for name, count in before.items()}
    assert [job.id for job in store.jobs.list()] == [new.id]
    assert store.retention.prune(week) == PruneCounts(0, 0)


def test_what_a_job_that_stays_needs_is_kept(store: Store, clock: FakeClock) -> None:
    """A base layer that is in every push is old and in use."""
    pushed(store, "a")
    index, config = digest("9"), digest("a1")
    store.documents.put(index, b"[]")
    clock.advance(8 * 86400)
    layer = NewBlob(digest("a0"), MT, digest("a"), 5)
    store.jobs.add(new_job(layer, config_digest=config, documents=(JobDocument(index),)))
    assert store.retention.prune(clock.now) == PruneCounts(jobs=1, known=0)
    assert store.known_blobs.of_layers([digest("a0")])[digest("a0")]
    assert store.documents.get(config) == b"{}"
    assert store.documents.get(index) == b"[]"
    assert store.uploads.holders(REGISTRY, digest("a")) == [REPOSITORY]


def test_drafts_of_a_job_that_stays_are_kept(store: Store, clock: FakeClock) -> None:
    for kept in "12":
        store.documents.put(digest(kept), b"{}")
    clock.advance(8 * 86400)
    drafts = (JobDocument(digest("1"), (digest("a0"),)), JobDocument(digest("2"), ()))
    store.jobs.add(new_job(NewBlob(digest("a0"), MT, digest("a"), 5), documents=drafts))
    store.retention.prune(clock.now)
    assert [store.documents.get(digest(kept)) for kept in "12"] == [b"{}", b"{}"]


def test_what_lies_in_the_spool_is_still_known(store: Store, clock: FakeClock) -> None:
    pushed(store, "a")
    clock.advance(8 * 86400)
    store.retention.prune(clock.now, blobs={digest("a")})
    assert store.known_blobs.of_layers([digest("a0")])[digest("a0")]


def test_what_was_written_just_now_may_be_for_a_job_to_come(store: Store, clock: FakeClock) -> None:
    store.documents.put(digest("c"), b"{}")
    clock.advance(60)
    assert store.retention.prune(clock.now + timedelta(seconds=1)) == PruneCounts(0, 0)
    assert store.documents.get(digest("c")) == b"{}"


def test_sessions_and_leases_are_never_forgotten(store: Store, clock: FakeClock) -> None:
    for character in "ab":
        upload = store.uploads.acquire(REGISTRY, REPOSITORY, digest(character), owner="w", lease=30)
        assert upload is not None
        if character == "a":
            opened = store.uploads.record_session(
                upload, location="http://r/0", chunk_size=1, min_chunk=None, max_chunk=None, profile=None
            )
            store.uploads.release(opened)
    clock.advance(30 * 86400)
    assert store.retention.prune(clock.now) == PruneCounts(0, 0)


def test_thousands_go_in_batches(store: Store, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pusher.store.retention._BATCH", 70)
    add_finished_jobs(store, 500)
    with store._database.write() as connection:
        connection.execute("DELETE FROM documents")
    assert store.retention.prune(clock.now, dry_run=True).jobs == 500
    assert store.retention.prune(clock.now).jobs == 500
    assert rows(store) == NOTHING


def test_a_file_that_is_mostly_empty_is_made_small(store: Store, clock: FakeClock, kind: str) -> None:
    add_finished_jobs(store, 3000)
    store.retention.prune(clock.now)
    shrunk = store.retention.compact()
    assert (shrunk > 1024 * 1024) == (kind == "sqlite")
    assert store.retention.compact() == 0
    assert store.jobs.add(new_job()).id == 3001


def test_a_failed_job_stays_while_another_starts_after_it(store: Store, clock: FakeClock) -> None:
    """Without it the other one would start, as if it had succeeded."""
    failed = store.jobs.add(new_job())
    claimed = store.jobs.claim("w", lease=30)
    assert claimed is not None
    store.jobs.fail(claimed, StoredError("registry-refused", "no", "ask"))
    later = store.jobs.add(new_job(after=failed.id, tag="later"))
    clock.advance(8 * 86400)
    week = clock.now - timedelta(days=7)
    assert not store.retention.has_expired(week)
    assert store.retention.prune(week).jobs == 0
    assert store.jobs.claim("w", lease=30) is None
    store.jobs.cancel(later.id)
    assert store.retention.has_expired(week)
    assert store.retention.prune(week).jobs == 1
