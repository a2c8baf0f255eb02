"""Jobs of images that clients still send: blobs as they come, then the manifest."""

from __future__ import annotations

import pytest

from pusher.errors import LeaseLost
from pusher.store import migrate
from pusher.store.records import BlobState, JobRecord, JobState, NewBlob, NewJob, StoredError
from pusher.store.store import Store
from tests.store.test_migrations import make_store
from tests.support.databases import REGISTRY, REPOSITORY, digest, new_job

REFUSED = StoredError("registry-refused", "the registry said no", "ask it why")


def receive(store: Store, *names: str, repository: str = REPOSITORY) -> None:
    for name in names:
        store.received_jobs.add_blob(
            image="front/app",
            folder="/blobs",
            registry=REGISTRY,
            repository=repository,
            digest=digest(name),
            size=1000,
        )


def image(*names: str, tag: str | None = "1") -> NewJob:
    """An image of these blobs, the first of which is its config."""
    config, *layers = names
    blobs = tuple(NewBlob(digest(f"1{name}"), "application/gzip", digest(name), 1000) for name in layers)
    return new_job(blobs=blobs, config_digest=digest(config), config_size=1000, tag=tag)


def claim(store: Store) -> JobRecord | None:
    return store.jobs.claim("w", lease=30)


def claimed(store: Store) -> JobRecord:
    job = claim(store)
    assert job is not None
    return job


def states(store: Store) -> list[tuple[int, JobState]]:
    return [(job.id, job.state) for job in store.jobs.list()]


def blobs(store: Store, job_id: int) -> dict[str | None, BlobState]:
    return {blob.digest: blob.state for blob in store.blobs.of_job(job_id)}


def test_blobs_of_a_repository_have_one_job_that_shows(store: Store) -> None:
    receive(store, "a", "b", "a")
    receive(store, "a", repository="other")
    assert states(store) == [(1, JobState.RECEIVING), (2, JobState.RECEIVING)]
    job = store.jobs.get(1)
    assert (job.image, job.tag, job.has_manifest) == ("front/app", None, False)
    assert blobs(store, 1) == {digest("a"): BlobState.READY, digest("b"): BlobState.READY}
    totals = store.jobs.totals([1])[1]
    assert (totals.bytes_total, totals.sizes_known) == (2000, False)
    assert [job.id for job in store.received_jobs.list_incomplete()] == [1, 2]


def test_it_is_claimed_while_it_has_a_blob_to_send(store: Store) -> None:
    receive(store, "a")
    job = claimed(store)
    assert claim(store) is None
    store.blobs.set_done(job, digest("a"), BlobState.UPLOADED)
    assert store.received_jobs.release(job)
    assert states(store) == [(1, JobState.RECEIVING)]
    assert claim(store) is None
    receive(store, "b")
    assert claimed(store).id == 1


def test_the_manifest_makes_it_an_ordinary_job_with_its_progress(store: Store) -> None:
    receive(store, "a", "b")
    job = claimed(store)
    store.blobs.add_sent(1, digest("a"), 1500, wasted=500)
    store.blobs.set_done(job, digest("a"), BlobState.UPLOADED)
    assert store.received_jobs.release(job)
    pushed = store.received_jobs.add_manifest(image("c", "a", "b", tag="1"))
    assert (pushed.id, pushed.state, pushed.tag, pushed.has_manifest) == (1, JobState.QUEUED, "1", True)
    assert blobs(store, 1) == {
        digest("c"): BlobState.READY,
        digest("a"): BlobState.UPLOADED,
        digest("b"): BlobState.READY,
    }
    totals = store.jobs.totals([1])[1]
    assert (totals.bytes_sent, totals.bytes_wasted, totals.sizes_known) == (1500, 500, True)
    assert store.received_jobs.list_incomplete() == []


def test_while_it_runs_it_keeps_its_worker(store: Store) -> None:
    receive(store, "a")
    job = claimed(store)
    pushed = store.received_jobs.add_manifest(image("a", "b"))
    assert (pushed.id, pushed.state, pushed.lease_token) == (1, JobState.RUNNING, job.lease_token)
    store.jobs.check_lease(job)
    assert not store.received_jobs.release(job), "it would wait for what came already"
    assert states(store) == [(1, JobState.RUNNING)]


def test_a_paused_one_stays_paused_and_a_waiting_one_is_queued(store: Store) -> None:
    receive(store, "a")
    store.jobs.pause(1)
    assert store.received_jobs.add_manifest(image("a")).state == JobState.PAUSED
    receive(store, "b")
    job = claimed(store)
    store.jobs.release(job, state=JobState.WAITING, next_try_at=store.now(), error=REFUSED, attempt=True)
    pushed = store.received_jobs.add_manifest(image("b", tag="2"))
    assert (pushed.id, pushed.state, pushed.error, pushed.next_try_at) == (2, JobState.QUEUED, None, None)


def test_blobs_of_another_image_stay_behind(store: Store) -> None:
    receive(store, "a", "x")
    assert store.received_jobs.add_manifest(image("a")).id == 1
    assert states(store) == [(1, JobState.QUEUED), (2, JobState.RECEIVING)]
    assert blobs(store, 2) == {digest("x"): BlobState.READY}


def test_other_images_have_jobs_of_their_own(store: Store) -> None:
    receive(store, "a")
    assert store.received_jobs.add_manifest(image("b")).id == 2
    assert states(store) == [(1, JobState.RECEIVING), (2, JobState.QUEUED)]


def test_a_second_tag_is_a_job_and_leaves_nothing_behind(store: Store) -> None:
    receive(store, "a")
    assert store.received_jobs.add_manifest(image("a", tag="1")).id == 1
    assert store.received_jobs.add_manifest(image("a", tag="2")).id == 2
    assert store.received_jobs.list_incomplete() == []


def test_the_newest_push_has_the_tag(store: Store) -> None:
    """The job that received is older than one that pushed to the tag meanwhile."""
    receive(store, "a")
    store.jobs.add(image("z", tag="1"))
    pushed = store.received_jobs.add_manifest(image("a", tag="1"))
    assert pushed.id == 3
    assert states(store) == [(2, JobState.SUPERSEDED), (3, JobState.QUEUED)]


def test_what_a_job_sends_is_not_recorded_again(store: Store) -> None:
    store.jobs.add(image("a", "b"))
    receive(store, "a")
    assert states(store) == [(1, JobState.QUEUED)]


def test_a_job_without_blobs_is_removed(store: Store) -> None:
    receive(store, "a", "b")
    job = claimed(store)
    store.received_jobs.forget_blobs(REGISTRY, REPOSITORY, {digest("a")})
    assert blobs(store, 1) == {digest("b"): BlobState.READY}
    store.received_jobs.forget_blobs(REGISTRY, REPOSITORY, {digest("b")})
    assert states(store) == [(1, JobState.RUNNING)]
    assert store.received_jobs.release(job)
    assert states(store) == []
    receive(store, "c")
    assert states(store) == [(2, JobState.RECEIVING)]
    store.received_jobs.forget_blobs(REGISTRY, REPOSITORY, {digest("c")})
    assert states(store) == []


def test_after_an_error_nothing_is_sent_before_the_manifest(store: Store) -> None:
    receive(store, "a")
    store.received_jobs.release(claimed(store), REFUSED)
    receive(store, "a", "b")
    assert claim(store) is None
    assert store.jobs.get(1).error == REFUSED
    assert store.received_jobs.add_manifest(image("a", "b")).error is None
    assert claimed(store).id == 1


def test_a_blob_without_its_file_is_not_looked_for_again(store: Store) -> None:
    receive(store, "a", "b")
    store.received_jobs.release(claimed(store), missing={digest("a")})
    assert blobs(store, 1) == {digest("a"): BlobState.PENDING, digest("b"): BlobState.READY}


def test_only_its_worker_releases_it(store: Store) -> None:
    receive(store, "a")
    job = claimed(store)
    store.jobs.cancel(job.id)
    with pytest.raises(LeaseLost):
        store.received_jobs.release(job)


def test_one_that_expired_is_cancelled_and_the_next_blob_has_a_new_job(store: Store) -> None:
    receive(store, "a")
    assert store.jobs.expire(1).state == JobState.CANCELLED
    assert store.events.of(1)[-1].message == "no manifest came: what was received is dropped"
    receive(store, "b")
    assert states(store) == [(1, JobState.CANCELLED), (2, JobState.RECEIVING)]


def test_a_store_of_the_version_before_takes_them(empty_url: str) -> None:
    make_store(empty_url, "0011")
    migrate.upgrade(empty_url)
    assert migrate.check(empty_url).problems == ()
    with Store.open(empty_url) as store:
        receive(store, "a")
        assert states(store) == [(1, JobState.RECEIVING)]
