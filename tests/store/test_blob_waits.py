"""Which running jobs wait for a blob that another job is pushing."""

from __future__ import annotations

from pusher.store.blob_waits import BlobWait
from pusher.store.records import BlobState, JobRecord, NewBlob
from pusher.store.store import Store
from tests.support.databases import REGISTRY, digest, new_job

LARGE, SMALL = digest("large"), digest("small")


def _claim(store: Store, owner: str, repository: str, tag: str = "1") -> JobRecord:
    layers = [
        NewBlob(name, "application/gzip", name, size)
        for name, size in ((SMALL, 10), (LARGE, 2_000), (digest("own"), 3_000))
    ]
    added = store.jobs.add(new_job(*layers, repository=repository, tag=tag))
    job = store.jobs.claim(owner, lease=30, only=[added.id])
    assert job is not None
    return job


def _push(store: Store, job: JobRecord, *digests: str) -> None:
    for each in digests:
        owner = job.lease_owner or ""
        assert store.uploads.acquire(REGISTRY, job.repository, each, owner=owner, lease=30) is not None


def test_jobs_of_other_workers_wait_for_the_largest_blob(store: Store) -> None:
    first, second = _claim(store, "one", "one"), _claim(store, "two", "two")
    assert store.blob_waits.all() == {}
    _push(store, first, SMALL, LARGE)
    assert store.blob_waits.all() == {second.id: BlobWait(LARGE, 2_000, first.id)}

    store.blobs.set_done(second, LARGE, BlobState.MOUNTED)
    assert store.blob_waits.all() == {second.id: BlobWait(SMALL, 10, first.id)}
    store.uploads.release_all("one")
    assert store.blob_waits.all() == {}


def test_jobs_of_one_worker_wait_for_the_one_whose_repository_gets_it(store: Store) -> None:
    first, second, third = (_claim(store, "w", name) for name in ("one", "two", "three"))
    _push(store, second, LARGE)
    wait = BlobWait(LARGE, 2_000, second.id)
    assert store.blob_waits.all() == {first.id: wait, third.id: wait}


def test_of_two_jobs_for_one_repository_the_one_that_is_sent_is_the_other_s(store: Store) -> None:
    first, second = _claim(store, "w", "one", "1"), _claim(store, "w", "one", "2")
    _push(store, first, LARGE)
    assert store.blob_waits.all() == {second.id: BlobWait(LARGE, 2_000, first.id)}
    store.jobs.record_speeds("w", {second.id: (500, 0)})
    assert store.blob_waits.all() == {first.id: BlobWait(LARGE, 2_000, second.id)}


def test_a_worker_none_of_whose_jobs_needs_the_blob_is_named_by_no_job(store: Store) -> None:
    _claim(store, "two", "two")
    assert store.uploads.acquire(REGISTRY, "one", LARGE, owner="gone", lease=30) is not None
    assert store.blob_waits.all() == {}
