"""The upload of a blob: its lease, its session, who else may have it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from pusher.errors import LeaseLost
from pusher.oci.digest import provisional_digest
from pusher.oci.layer_blob import LayerBlob
from pusher.store.records import BlobState, NewBlob, StoredError, UploadRecord, UploadState
from pusher.store.store import Store
from tests.support.databases import REGISTRY, REPOSITORY, FakeClock, digest, new_job

A = digest("a")
LAYER = digest("the layer")


def acquire(store: Store, owner: str = "w", repository: str = REPOSITORY, **options: object) -> UploadRecord:
    upload = store.uploads.acquire(REGISTRY, repository, A, owner=owner, lease=30, **options)  # type: ignore[arg-type]
    assert upload is not None
    return upload


def opened(store: Store, upload: UploadRecord) -> UploadRecord:
    return store.uploads.record_session(
        upload, location="http://r/0?_state=secret", chunk_size=100, min_chunk=10, max_chunk=200, profile="p"
    )


def test_whether_another_worker_has_the_blob_is_known_without_acquiring_it(
    store: Store, clock: FakeClock
) -> None:
    def is_leased(owner: str = "w", **options: object) -> bool:
        return store.uploads.is_leased_by_others(REGISTRY, A, owner=owner, **options)  # type: ignore[arg-type]

    assert not is_leased()
    upload = acquire(store, "other", repository="elsewhere")
    assert is_leased()
    assert not is_leased("other")
    assert not is_leased(dead_owners=["other"])
    clock.advance(31)
    assert is_leased()
    assert not is_leased(expired_owners=["other"])
    store.uploads.release(upload)
    assert not is_leased()


def test_the_life_of_a_session(store: Store, clock: FakeClock) -> None:
    upload = acquire(store)
    assert (upload.state, upload.location, upload.offset, upload.lease_owner) == (
        UploadState.IDLE,
        None,
        0,
        "w",
    )
    upload = opened(store, upload)
    assert (upload.state, upload.opened_at) == (UploadState.OPEN, clock.now)
    assert (upload.chunk_size, upload.min_chunk, upload.max_chunk, upload.profile) == (100, 10, 200, "p")
    upload = store.uploads.record_chunk(upload, 100)
    assert (upload.offset, upload.in_flight) == (0, 100)
    clock.advance(2)
    upload = store.uploads.record_offset(upload, location="http://r/1", offset=100)
    assert (upload.location, upload.offset, upload.in_flight) == ("http://r/1", 100, 0)
    assert upload.used_at == clock.now
    upload = store.uploads.record_closing(store.uploads.record_closing(upload, 40))
    assert (upload.state, upload.offset, upload.in_flight) == (UploadState.CLOSING, 100, 0)
    upload = store.uploads.record_present(upload)
    assert (upload.state, upload.location, upload.offset) == (UploadState.PRESENT, None, 0)
    assert upload.lease_owner is None
    assert store.uploads.holders(REGISTRY, A) == [REPOSITORY]


def test_a_session_outlives_its_worker(store: Store, clock: FakeClock) -> None:
    before = store.uploads.record_offset(opened(store, acquire(store)), location="http://r/1", offset=60)
    before = store.uploads.record_chunk(before, 40)
    clock.advance(30)
    after = acquire(store, "heir", expired_owners=["w"])
    assert (after.location, after.offset, after.in_flight) == ("http://r/1", 60, 40)
    assert after.lease_token > before.lease_token


def test_a_lost_session_leaves_nothing_behind(store: Store) -> None:
    upload = store.uploads.record_chunk(opened(store, acquire(store)), 50)
    upload = store.uploads.record_loss(upload)
    assert (upload.state, upload.location, upload.offset, upload.in_flight) == (UploadState.IDLE, None, 0, 0)


def test_every_change_demands_the_lease(store: Store) -> None:
    old = opened(store, acquire(store))
    new = acquire(store)
    uploads = store.uploads
    changes: list[Callable[[], UploadRecord]] = [
        lambda: opened(store, old),
        lambda: uploads.record_chunk(old, 1),
        lambda: uploads.record_offset(old, location="http://r/1", offset=1),
        lambda: uploads.record_closing(old),
        lambda: uploads.record_present(old),
        lambda: uploads.record_loss(old),
        lambda: uploads.release(old),
    ]
    for change in changes:
        with pytest.raises(LeaseLost):
            change()
    assert acquire(store).offset == new.offset == 0


def test_a_released_record_changes_nothing(store: Store) -> None:
    released = store.uploads.release(opened(store, acquire(store)))
    with pytest.raises(LeaseLost):
        store.uploads.record_chunk(released, 1)


def test_chunks_need_a_session(store: Store) -> None:
    upload = acquire(store)
    with pytest.raises(LeaseLost):
        store.uploads.record_chunk(upload, 1)
    with pytest.raises(LeaseLost):
        store.uploads.record_offset(upload, location="http://r/1", offset=1)
    with pytest.raises(LeaseLost):
        store.uploads.record_closing(upload)


def test_nobody_else_gets_the_blob_to_any_repository_of_the_registry(store: Store, clock: FakeClock) -> None:
    mine = acquire(store, "a")
    for repository in (REPOSITORY, "team/other"):
        assert store.uploads.acquire(REGISTRY, repository, A, owner="b", lease=30) is None
    other = store.uploads.acquire("other.example.com", REPOSITORY, A, owner="b", lease=30)
    assert other is not None
    assert store.uploads.acquire(REGISTRY, REPOSITORY, digest("b"), owner="b", lease=30) is not None
    assert acquire(store, "a", "team/other").repository == "team/other"
    assert acquire(store, "b", dead_owners=["a"]).lease_token == mine.lease_token + 1


def test_a_blob_is_free_once_it_is_released(store: Store) -> None:
    store.uploads.release(acquire(store, "a"))
    assert acquire(store, "b", "team/other").lease_owner == "b"


def test_two_workers_that_ask_at_once_do_not_both_get_it(store: Store) -> None:
    def ask(number: int) -> bool:
        got = store.uploads.acquire(REGISTRY, f"repository{number}", A, owner=f"w{number}", lease=30)
        return got is not None

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(8))) == 1


def test_sent_bytes_are_counted_with_the_acknowledgement(store: Store) -> None:
    job = store.jobs.add(new_job())
    upload = opened(store, acquire(store))
    store.uploads.record_offset(upload, location="http://r/1", offset=100, job_id=job.id, sent=130)
    assert store.blobs.of_job(job.id)[1].bytes_sent == 130
    acquire(store)
    with pytest.raises(LeaseLost):
        store.uploads.record_offset(upload, location="http://r/1", offset=200, job_id=job.id, sent=100)
    assert store.blobs.of_job(job.id)[1].bytes_sent == 130


def test_sessions_of_other_repositories_that_are_ahead_by_a_chunk(store: Store, clock: FakeClock) -> None:
    def begin(repository: str, offset: int) -> UploadRecord:
        upload = opened(store, acquire(store, repository=repository))
        return store.uploads.record_offset(upload, location=f"http://r/{repository}", offset=offset)

    store.uploads.record_present(begin("present", 900))
    frozen = begin("frozen", 300)
    for repository, offset in [("ahead", 400), ("little", 199), ("idle", 0)]:
        store.uploads.release(begin(repository, offset))
    mine = begin("mine", 100)
    found = store.uploads.begun_elsewhere(mine)
    assert [(each.repository, each.offset) for each in found] == [("ahead", 400), ("frozen", 300)]

    clock.advance(31)
    taken = acquire(store, "heir", repository="frozen", expired_owners=["w"])
    with pytest.raises(LeaseLost):
        store.uploads.record_offset(frozen, location="http://r/frozen", offset=400)
    store.uploads.record_present(taken)
    assert store.uploads.holders(REGISTRY, A) == ["frozen", "present"]


def test_holders_are_the_last_used_first(store: Store, clock: FakeClock) -> None:
    layers = [NewBlob(digest(name), "application/gzip", digest(name), 10) for name in "ab"]
    old = store.jobs.add(new_job(*layers, repository="old"))
    job = store.jobs.claim("w", lease=30, only=[old.id])
    assert job is not None
    for blob in (A, digest("b")):
        store.blobs.set_done(job, blob, BlobState.EXISTS)
    clock.advance(1)
    store.uploads.record_present(acquire(store, repository="new"))
    clock.advance(1)
    acquire(store, repository="under way")
    assert store.uploads.holders(REGISTRY, A) == ["new", "old"]
    clock.advance(1)
    store.blobs.set_done(job, A, BlobState.EXISTS)
    assert store.uploads.holders(REGISTRY, A) == ["old", "new"]
    store.uploads.forget_present(REGISTRY, "old", [A])
    assert store.uploads.holders(REGISTRY, A) == ["new"]
    assert store.uploads.holders(REGISTRY, digest("b")) == ["old"]
    assert store.uploads.holders("other.example.com", A) == []


def test_what_a_head_found_does_not_touch_a_session(store: Store) -> None:
    upload = opened(store, acquire(store))
    store.uploads.release(upload)
    store.jobs.add(new_job())
    job = store.jobs.claim("w", lease=30)
    assert job is not None
    store.blobs.set_done(job, A, BlobState.EXISTS)
    assert store.uploads.holders(REGISTRY, A) == []
    assert acquire(store).location == upload.location


def end(store: Store, job_id: int, how: str) -> None:
    if how == "cancelled":
        store.jobs.cancel(job_id)
    elif how != "queued":
        job = store.jobs.claim("w", lease=30, only=[job_id])
        assert job is not None
        if how == "failed":
            store.jobs.fail(job, StoredError("c", "m", "h"))


@pytest.mark.parametrize(
    ("jobs", "abandoned"),
    [
        (["cancelled"], 1),
        (["cancelled", "queued"], 0),
        (["cancelled", "running"], 0),
        (["failed"], 0),
        (["cancelled", "failed"], 0),
        ([], 1),
    ],
)
def test_a_session_is_abandoned_when_no_job_can_use_it(store: Store, jobs: list[str], abandoned: int) -> None:
    store.uploads.release(opened(store, acquire(store)))
    for how in jobs:
        end(store, store.jobs.add(new_job()).id, how)
    end(store, store.jobs.add(new_job(repository="elsewhere")).id, "queued")
    assert store.abandoned.mark_unneeded() == abandoned
    assert len(store.abandoned.all()) == abandoned


def test_a_layer_without_a_digest_keeps_the_sessions_of_its_memos(store: Store) -> None:
    store.uploads.release(opened(store, acquire(store)))
    store.known_blobs.remember(LayerBlob(A, 1000, "isal:2", "m", digest("1"), 2000))
    job = store.jobs.add(new_job(NewBlob(digest("1"))))
    assert store.abandoned.mark_unneeded() == 0
    store.jobs.cancel(job.id)
    assert store.abandoned.mark_unneeded() == 1


def test_a_session_that_somebody_holds_is_not_abandoned(store: Store, clock: FakeClock) -> None:
    opened(store, acquire(store, "a"))
    assert store.abandoned.mark_unneeded() == 0
    assert store.abandoned.mark_unneeded(dead_owners=["a"]) == 1
    opened(store, acquire(store, "a"))
    clock.advance(30)
    assert store.abandoned.mark_unneeded() == 1


def test_an_abandoned_session_is_deleted(store: Store) -> None:
    store.uploads.release(store.uploads.record_chunk(opened(store, acquire(store)), 7))
    store.abandoned.mark_unneeded()
    (upload,) = store.abandoned.all()
    assert upload.location == "http://r/0?_state=secret"
    store.abandoned.record_deletion(upload)
    assert store.abandoned.all() == []
    assert acquire(store).state == UploadState.IDLE


def test_a_job_may_take_an_abandoned_session_up_again(store: Store) -> None:
    upload = store.uploads.record_offset(opened(store, acquire(store)), location="http://r/1", offset=60)
    store.uploads.release(upload)
    store.abandoned.mark_unneeded()
    (abandoned,) = store.abandoned.all()
    again = acquire(store)
    assert (again.state, again.location, again.offset) == (UploadState.OPEN, "http://r/1", 60)
    store.abandoned.record_deletion(abandoned)
    assert store.uploads.record_chunk(again, 1).offset == 60


def test_the_profile_of_the_last_session(store: Store, clock: FakeClock) -> None:
    def session(repository: str, profile: str | None) -> UploadRecord:
        clock.advance(1)
        upload = acquire(store, repository=repository)
        return store.uploads.record_session(
            upload, location="http://r/0", chunk_size=1, min_chunk=None, max_chunk=None, profile=profile
        )

    session("a/other", "quay")
    store.uploads.record_present(session(REPOSITORY, "distribution"))
    places = [(REGISTRY, "a/other"), (REGISTRY, REPOSITORY), (REGISTRY, "never")]
    assert store.uploads.profiles(places) == {
        (REGISTRY, "a/other"): "quay",
        (REGISTRY, REPOSITORY): "distribution",
    }
    session(REPOSITORY, "zot")
    assert store.uploads.profiles(places)[REGISTRY, REPOSITORY] == "zot"


# --- blobs that are still being compressed ----------------------------------------------------------------


def unfinished(store: Store, owner: str = "w") -> UploadRecord:
    """An upload of a layer whose blob is not complete, with 80 bytes acknowledged and 20 in flight."""
    upload = store.uploads.acquire(
        REGISTRY, REPOSITORY, provisional_digest(LAYER), owner=owner, lease=30, compression="gzip 2"
    )
    assert upload is not None
    upload = store.uploads.record_chunk(opened(store, upload), 80, "of 80")
    upload = store.uploads.record_offset(upload, location="http://r/1", offset=80)
    return store.uploads.record_chunk(upload, 20, "of 100")


def test_another_worker_finds_what_was_begun(store: Store) -> None:
    store.uploads.release(unfinished(store))
    found = store.uploads.unfinished(REGISTRY, REPOSITORY, LAYER)
    assert found is not None
    assert (found.compression, found.prefix_size, found.prefix_sha256) == ("gzip 2", 100, "of 100")
    assert (found.offset, found.in_flight) == (80, 20)
    assert store.uploads.unfinished(REGISTRY, REPOSITORY, digest("another layer")) is None


def test_a_lost_session_leaves_no_hash(store: Store) -> None:
    lost = store.uploads.record_loss(unfinished(store))
    assert (lost.prefix_size, lost.prefix_sha256) == (None, None)
    assert store.uploads.unfinished(REGISTRY, REPOSITORY, LAYER) is None
    again = opened(store, lost)
    assert (again.prefix_size, again.prefix_sha256) == (None, None)


def test_the_upload_gets_its_digest_and_keeps_its_lease(store: Store) -> None:
    upload = unfinished(store)
    assert store.uploads.give_digest(upload, A)
    after = store.uploads.record_offset(upload, location="http://r/2", offset=100)
    assert (after.digest, after.offset, after.compression) == (A, 100, None)
    assert store.uploads.unfinished(REGISTRY, REPOSITORY, LAYER) is None


@pytest.mark.parametrize("where", ["a session here", "a worker elsewhere"])
def test_it_gets_none_that_has_an_upload(store: Store, where: str) -> None:
    if where == "a session here":
        store.uploads.release(opened(store, acquire(store)))
    else:
        acquire(store, "other", "elsewhere/app")
    upload = unfinished(store)
    assert not store.uploads.give_digest(upload, A)
    assert store.uploads.release(upload).digest == provisional_digest(LAYER)


def test_what_is_known_to_be_there_does_not_hinder(store: Store) -> None:
    store.uploads.record_present(acquire(store))
    assert store.uploads.give_digest(unfinished(store), A)


def test_a_lease_that_was_lost_names_nothing(store: Store) -> None:
    old = unfinished(store)
    unfinished(store)
    with pytest.raises(LeaseLost):
        store.uploads.give_digest(old, A)


def test_its_session_moves_to_the_complete_blob(store: Store) -> None:
    begun, complete = unfinished(store), acquire(store)
    moved = store.uploads.take_session(complete, begun)
    assert (moved.digest, moved.location, moved.offset, moved.in_flight) == (A, "http://r/1", 80, 20)
    assert (moved.state, moved.chunk_size, moved.lease_token) == (
        UploadState.OPEN,
        100,
        complete.lease_token,
    )
    assert store.uploads.unfinished(REGISTRY, REPOSITORY, LAYER) is None


def test_it_is_kept_as_long_as_a_job_needs_the_layer(store: Store) -> None:
    job = store.jobs.add(new_job(blobs=(NewBlob(LAYER),)))
    store.uploads.release(unfinished(store))
    assert store.abandoned.mark_unneeded() == 0
    (_, layer) = store.blobs.of_job(job.id)
    assert (layer.digest, layer.state, layer.offset) == (None, BlobState.UPLOADING, 80)
    store.jobs.cancel(job.id)
    assert store.abandoned.mark_unneeded() == 1
