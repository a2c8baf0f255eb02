"""Layers of a job, and what is derived from the uploads of their blobs."""

from __future__ import annotations

import pytest

from pusher.oci.layer_blob import LayerBlob
from pusher.store.records import BlobState, JobBlob, JobRecord, NewBlob
from pusher.store.store import Store
from tests.support.databases import REGISTRY, REPOSITORY, digest, new_job

MT = "application/vnd.oci.image.layer.v1.tar+gzip"


def running(store: Store, *layers: NewBlob) -> JobRecord:
    added = store.jobs.add(new_job(*layers))
    job = store.jobs.claim("w", lease=30, only=[added.id])
    assert job is not None
    return job


def only(store: Store, job: JobRecord, position: int = 1) -> JobBlob:
    return next(layer for layer in store.blobs.of_job(job.id) if layer.position == position)


def test_every_layer_with_the_diff_id_becomes_the_blob(store: Store) -> None:
    job = running(store, NewBlob(digest("1")), NewBlob(digest("2")), NewBlob(digest("1")))
    store.blobs.set_blob(job, digest("1"), digest=digest("a"), size=9, media_type=MT)
    states = [(row.digest, row.size, row.media_type, row.state) for row in store.blobs.of_job(job.id)[1:]]
    ready, pending = (digest("a"), 9, MT, BlobState.READY), (None, None, None, BlobState.PENDING)
    assert states == [ready, pending, ready]


def test_the_config_is_set_like_a_layer(store: Store) -> None:
    job = running(store)
    store.blobs.set_blob(job, digest("c"), digest=digest("c"), size=123, media_type="config")
    assert only(store, job, 0).state == BlobState.READY


def test_a_done_layer_stays_done_when_its_blob_is_set_again(store: Store) -> None:
    job = running(store)
    store.blobs.set_done(job, digest("a"), BlobState.EXISTS)
    store.blobs.set_blob(job, digest("1"), digest=digest("a"), size=1000, media_type=MT)
    assert only(store, job).state == BlobState.EXISTS


@pytest.mark.parametrize("how", [BlobState.UPLOADED, BlobState.MOUNTED, BlobState.EXISTS])
def test_a_done_layer_has_its_whole_size_as_offset(store: Store, how: BlobState) -> None:
    job = running(store)
    store.blobs.set_done(job, digest("a"), how)
    assert (only(store, job).state, only(store, job).offset) == (how, 1000)
    store.blobs.set_done(job, digest("a"), BlobState.EXISTS)
    assert only(store, job).state == how, "how it got there is not forgotten"


@pytest.mark.parametrize("state", [BlobState.READY, BlobState.UPLOADING, BlobState.PENDING])
def test_only_states_in_which_nothing_is_to_send_are_done(store: Store, state: BlobState) -> None:
    with pytest.raises(ValueError, match="not a way to be done"):
        store.blobs.set_done(running(store), digest("a"), state)


def test_a_blob_the_registry_does_not_know_is_to_be_sent_again(store: Store) -> None:
    job = running(store, NewBlob(digest("1"), MT, digest("a"), 5), NewBlob(digest("2"), MT, digest("b"), 6))
    for blob in (digest("a"), digest("b"), digest("c")):
        store.blobs.set_done(job, blob, BlobState.EXISTS)
    store.blobs.clear_done(job, [digest("a"), digest("c")])
    config, first, second = store.blobs.of_job(job.id)
    assert (config.state, first.state, second.state) == (
        BlobState.PENDING,  # its size was never known
        BlobState.READY,
        BlobState.EXISTS,
    )


def test_offset_and_state_follow_the_upload_of_the_same_repository(store: Store) -> None:
    job = running(store)
    upload = store.uploads.acquire(REGISTRY, REPOSITORY, digest("a"), owner="w", lease=30)
    assert upload is not None
    assert only(store, job).state == BlobState.READY
    upload = store.uploads.record_session(
        upload, location="http://r/0", chunk_size=400, min_chunk=None, max_chunk=None, profile=None
    )
    upload = store.uploads.record_offset(upload, location="http://r/1", offset=400)
    assert (only(store, job).state, only(store, job).offset) == (BlobState.UPLOADING, 400)
    upload = store.uploads.record_closing(upload)
    assert only(store, job).state == BlobState.UPLOADING
    elsewhere = store.jobs.add(new_job(repository="elsewhere"))
    assert only(store, elsewhere).offset == 0
    store.uploads.record_loss(upload)
    assert (only(store, job).state, only(store, job).offset) == (BlobState.READY, 0)


def test_sent_bytes_are_counted_once_for_a_blob_that_is_two_layers(store: Store) -> None:
    layer = NewBlob(digest("1"), MT, digest("a"), 1000)
    job = running(store, layer, layer)
    store.blobs.add_sent(job.id, digest("a"), 70)
    store.blobs.add_sent(job.id, digest("a"), 7)
    assert [row.bytes_sent for row in store.blobs.of_job(job.id)] == [0, 77, 0]


def test_layers_of_several_jobs(store: Store) -> None:
    jobs = [running(store), running(store, NewBlob(digest("2")), NewBlob(digest("3")))]
    found = store.blobs.of_jobs([jobs[0].id, jobs[1].id, 99])
    assert [len(found[job.id]) for job in jobs] == [2, 3]
    assert found[99] == []


def test_needed_are_the_unsent_blobs_of_unfinished_jobs(store: Store) -> None:
    job = running(store, NewBlob(digest("1"), MT, digest("a"), 5), NewBlob(digest("2"), MT, digest("b"), 6))
    store.known_blobs.remember(LayerBlob(digest("d"), 1, "isal:2", MT, digest("3"), 2))
    store.known_blobs.remember(LayerBlob(digest("e"), 1, "isal:2", MT, digest("4"), 2))
    running(store, NewBlob(digest("3")))
    asked = [digest(c) for c in "abcdef"]
    assert store.blobs.needed_digests(asked) == {digest(c) for c in "abcd"}
    assert store.blobs.needed_digests(asked[:2]) == {digest("a"), digest("b")}
    store.blobs.set_done(job, digest("a"), BlobState.UPLOADED)
    assert store.blobs.needed_digests(asked) == {digest(c) for c in "bcd"}
    for unfinished in store.jobs.list():
        store.jobs.cancel(unfinished.id)
    assert store.blobs.needed_digests(asked) == set()
