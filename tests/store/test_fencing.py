"""A worker that stood still for longer than its lease changes nothing that another one has taken over.

Every method that takes the record of a job or an upload is called with one from before; a new method that the
table here does not name fails the test.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

import pytest

from pusher.errors import LeaseLost
from pusher.store.records import BlobState, JobRecord, JobState, StoredError, UploadRecord
from pusher.store.store import Store
from tests.support.databases import FakeClock, digest, new_job

_LEASE: Final = 30.0
_PLACE: Final = ("registry.example.com", "team/app", digest("a"))
_ERROR: Final = StoredError("network", "no route", "wait")

_OF_JOBS: Final[dict[str, Callable[[Store, JobRecord], object]]] = {
    "jobs.check_lease": lambda store, job: store.jobs.check_lease(job),
    "jobs.take_tag": lambda store, job: store.jobs.take_tag(job),
    "jobs.succeed": lambda store, job: store.jobs.succeed(job, digest("f")),
    "jobs.fail": lambda store, job: store.jobs.fail(job, _ERROR),
    "jobs.release": lambda store, job: store.jobs.release(job, state=JobState.QUEUED, attempt=True),
    "jobs.release_to_machine": lambda store, job: store.jobs.release_to_machine(job),
    "received_jobs.release": lambda store, job: store.received_jobs.release(job),
    "blobs.set_blob": lambda store, job: store.blobs.set_blob(
        job, digest("1"), digest=digest("b"), size=9, media_type="m"
    ),
    "blobs.set_done": lambda store, job: store.blobs.set_done(job, digest("a"), BlobState.UPLOADED),
    "blobs.clear_done": lambda store, job: store.blobs.clear_done(job, [digest("a")]),
}
_READS: Final = {"uploads.begun_elsewhere"}
_OF_UPLOADS: Final[dict[str, Callable[[Store, UploadRecord], object]]] = {
    "uploads.record_session": lambda store, u: _open(store, u, "http://r/late"),
    "uploads.record_profile": lambda store, u: store.uploads.record_profile(u, profile="ecr", restarts=True),
    "uploads.record_chunk": lambda store, u: store.uploads.record_chunk(u, 100),
    "uploads.record_prefix": lambda store, u: store.uploads.record_prefix(u, 100, "hash"),
    "uploads.record_offset": lambda store, u: store.uploads.record_offset(
        u, location="http://r/late", offset=900, job_id=1, sent=900
    ),
    "uploads.record_closing": lambda store, u: store.uploads.record_closing(u),
    "uploads.record_present": lambda store, u: store.uploads.record_present(u, session_left=True),
    "uploads.record_loss": lambda store, u: store.uploads.record_loss(u, job_id=1, wasted=9),
    "uploads.give_digest": lambda store, u: store.uploads.give_digest(u, digest("d")),
    "uploads.take_session": lambda store, u: store.uploads.take_session(u, u),
    "uploads.release": lambda store, u: store.uploads.release(u),
    "uploads.make_late_change": lambda store, u: store.uploads.make_late_change(
        "record_offset", u, {"location": "http://r/late", "offset": 900}
    ),
}
_WITHOUT_LEASE: Final = {
    "jobs.take_wait_report": "of a job that waits: it compares the token",
    "jobs.superseded_by": "only reads",
    "jobs.record_in_spool": "about a spool, whoever has the job",
    "jobs.record_silence": "has no effect without the lease",
    "jobs.end_silence": "the same",
    "abandoned.record_deletion": "of an abandoned session: it compares the token",
}


def _open(store: Store, upload: UploadRecord, location: str) -> UploadRecord:
    return store.uploads.record_session(
        upload, location=location, chunk_size=100, min_chunk=None, max_chunk=None, profile="distribution"
    )


def _takers(store: Store, record: str) -> set[str]:
    """The store's methods that take such a record, like ``jobs.succeed``."""
    parts = {name: type(part) for name, part in vars(store).items() if not name.startswith("_")}
    return {
        f"{part}.{name}"
        for part, kind in parts.items()
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
        and record in (each.annotation for each in inspect.signature(method).parameters.values())
    }


def _contents(store: Store) -> dict[str, list[dict[str, Any]]]:
    tables = ("jobs", "job_blobs", "uploads", "dead_sessions", "events")
    with store._database.read() as connection:
        found = {table: connection.rows(f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables}
        return {table: [dict(row) for row in rows] for table, rows in found.items()}  # type: ignore[call-overload]


def test_every_method_with_a_record_is_tried_here(store: Store) -> None:
    assert _takers(store, "JobRecord") == {*_OF_JOBS, *_WITHOUT_LEASE} - _takers(store, "UploadRecord")
    assert _takers(store, "UploadRecord") == {*_OF_UPLOADS, "abandoned.record_deletion", *_READS}


@pytest.mark.parametrize("name", _OF_JOBS)
def test_a_worker_whose_job_was_taken_over_cannot_change_it(
    name: str, store: Store, clock: FakeClock
) -> None:
    store.jobs.add(new_job())
    frozen = store.jobs.claim("frozen", lease=_LEASE)
    clock.advance(_LEASE + 1)
    heir = store.jobs.claim("heir", lease=_LEASE, expired_owners=["frozen"])
    assert frozen is not None
    assert heir is not None
    _is_fenced(store, lambda: _OF_JOBS[name](store, frozen))
    if name != "received_jobs.release":  # for those that clients of pusher serve still send
        _OF_JOBS[name](store, heir)


@pytest.mark.parametrize("name", _OF_UPLOADS)
def test_a_worker_whose_upload_was_taken_over_cannot_change_it(
    name: str, store: Store, clock: FakeClock
) -> None:
    store.jobs.add(new_job())
    frozen = store.uploads.acquire(*_PLACE, owner="frozen", lease=_LEASE)
    assert frozen is not None
    frozen = _open(store, frozen, "http://r/first")
    clock.advance(_LEASE + 1)
    heir = store.uploads.acquire(*_PLACE, owner="heir", lease=_LEASE, expired_owners=["frozen"])
    assert heir is not None
    _is_fenced(store, lambda: _OF_UPLOADS[name](store, frozen))
    if name != "uploads.take_session":  # it takes two uploads
        _OF_UPLOADS[name](store, heir)


def _is_fenced(store: Store, late: Callable[[], object]) -> None:
    before = _contents(store)
    with pytest.raises(LeaseLost):
        late()
    assert _contents(store) == before
