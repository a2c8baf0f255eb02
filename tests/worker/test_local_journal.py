"""What registries acknowledged while the job store was away, on this machine's disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from pusher.errors import LeaseLost
from pusher.store.records import UploadRecord, UploadState
from pusher.store.store import Store
from pusher.worker.local_journal import LocalJournal, make_left_changes
from tests.support.databases import (
    REGISTRY,
    REPOSITORY,
    FakeClock,
    clock,
    digest,
    kind,
    postgres,
    store,
    url,
)

__all__ = ["clock", "kind", "postgres", "store", "url"]

SESSION: dict[str, Any] = {"chunk_size": 10, "min_chunk": 1, "max_chunk": None, "profile": None}
ACKNOWLEDGED: dict[str, Any] = {"location": "/2?token=secret", "offset": 20, "job_id": None, "sent": 10}


@pytest.fixture
def upload(store: Store) -> UploadRecord:
    """The worker ``dead`` sends the second chunk of ten bytes."""
    upload = store.uploads.acquire(REGISTRY, REPOSITORY, digest("a"), owner="dead", lease=30)
    assert upload is not None
    upload = store.uploads.record_session(upload, location="/0", **SESSION)
    upload = store.uploads.record_offset(upload, location="/1", offset=10)
    return store.uploads.record_chunk(upload, 10)


def _again(store: Store, upload: UploadRecord) -> UploadRecord:
    """The upload as it is stored, by a worker that takes it over."""
    found = store.uploads.acquire(
        REGISTRY, REPOSITORY, upload.digest, owner="heir", lease=30, dead_owners=["dead"]
    )
    assert found is not None
    return found


@pytest.fixture
def journal(tmp_path: Path, store: Store) -> LocalJournal:
    return LocalJournal(tmp_path / "dead.journal", store.label)


def test_a_left_change_is_made_once(
    tmp_path: Path, store: Store, upload: UploadRecord, journal: LocalJournal
) -> None:
    assert journal.add("record_offset", upload, ACKNOWLEDGED) == 1
    content = (tmp_path / "dead.journal").read_bytes()
    make_left_changes(tmp_path, "own", store)
    assert not (tmp_path / "dead.journal").exists()
    (tmp_path / "dead.journal").write_bytes(content)
    make_left_changes(tmp_path, "own", store)
    found = _again(store, upload)
    assert (found.location, found.offset, found.in_flight) == ("/2?token=secret", 20, 0)


def test_a_change_of_a_living_worker_is_left_to_it(
    tmp_path: Path, store: Store, upload: UploadRecord, journal: LocalJournal
) -> None:
    journal.add("record_offset", upload, ACKNOWLEDGED)
    with FileLock(tmp_path / "dead.lock"):
        make_left_changes(tmp_path, "own", store)
    make_left_changes(tmp_path, "dead", store)
    assert (tmp_path / "dead.journal").exists()
    assert _again(store, upload).offset == 10


def test_a_change_that_was_made_is_not_left(
    tmp_path: Path, store: Store, upload: UploadRecord, journal: LocalJournal
) -> None:
    first, second = (journal.add("record_offset", upload, {**ACKNOWLEDGED, "offset": at}) for at in (20, 15))
    journal.settle(first)
    make_left_changes(tmp_path, "own", store)
    assert _again(store, upload).offset == 15
    journal.settle(second)
    assert list(tmp_path.glob("*.journal")) == []


def test_a_line_that_was_cut_off_is_skipped(
    tmp_path: Path, store: Store, upload: UploadRecord, journal: LocalJournal
) -> None:
    journal.add("record_offset", upload, ACKNOWLEDGED)
    path = tmp_path / "dead.journal"
    path.write_bytes(path.read_bytes() + b'{"number": 2, "store"\n[]\n{"change": "forget"}\n\xff')
    make_left_changes(tmp_path, "own", store)
    assert _again(store, upload).offset == 20
    assert not path.exists()


def test_changes_of_another_job_store_wait_for_it(tmp_path: Path, store: Store, upload: UploadRecord) -> None:
    path = tmp_path / "dead.journal"
    LocalJournal(path, "postgresql://elsewhere/pusher").add("record_offset", upload, ACKNOWLEDGED)
    make_left_changes(tmp_path, "own", store)
    assert path.exists()
    os.utime(path, (0, 0))
    make_left_changes(tmp_path, "own", store)
    assert not path.exists()
    assert _again(store, upload).offset == 10


def test_a_disk_that_takes_nothing_costs_no_push(tmp_path: Path, store: Store, upload: UploadRecord) -> None:
    journal = LocalJournal(tmp_path / "missing" / "dead.journal", store.label)
    assert journal.add("record_offset", upload, ACKNOWLEDGED) is None
    journal.settle(None)


def test_a_line_that_the_disk_took_in_part_spoils_no_other(
    tmp_path: Path, store: Store, upload: UploadRecord, journal: LocalJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:100]))
        assert journal.add("record_offset", upload, {**ACKNOWLEDGED, "offset": 15}) is None
    assert journal.add("record_offset", upload, ACKNOWLEDGED) is not None
    make_left_changes(tmp_path, "heir", store)
    assert _again(store, upload).offset == 20


def test_another_file_in_its_place_is_not_followed(
    tmp_path: Path, store: Store, upload: UploadRecord
) -> None:
    (tmp_path / "other").write_text("")
    (tmp_path / "dead.journal").symlink_to(tmp_path / "other")
    assert (
        LocalJournal(tmp_path / "dead.journal", store.label).add("record_offset", upload, ACKNOWLEDGED)
        is None
    )
    make_left_changes(tmp_path, "own", store)
    assert (tmp_path / "other").read_text() == ""


def test_an_upload_that_another_worker_has_is_not_changed(store: Store, upload: UploadRecord) -> None:
    _again(store, upload)
    with pytest.raises(LeaseLost):
        store.uploads.make_late_change("record_offset", upload, ACKNOWLEDGED)
    assert _again(store, upload).offset == 10


def test_a_server_that_lost_its_last_second_is_told_what_the_registry_has(
    store: Store, upload: UploadRecord
) -> None:
    further = store.uploads.record_offset(upload, location="/2", offset=20)
    with store._database.write() as connection:  # as a replica that took over has it
        connection.execute("""UPDATE uploads SET location = '/1', "offset" = 10, in_flight = 10""")
    assert store.uploads.make_late_change("record_offset", further, {"location": "/3", "offset": 30})
    assert _again(store, upload).offset == 30


def test_an_upload_that_is_further_or_restarted_is_not_changed(
    store: Store, clock: FakeClock, upload: UploadRecord
) -> None:
    further = store.uploads.record_offset(upload, location="/3", offset=30)
    assert not store.uploads.make_late_change("record_offset", upload, ACKNOWLEDGED)
    clock.advance(1)
    lost = store.uploads.record_loss(further)
    assert not store.uploads.make_late_change("record_offset", upload, ACKNOWLEDGED)
    store.uploads.record_session(lost, location="/new", **SESSION)
    assert not store.uploads.make_late_change("record_offset", upload, ACKNOWLEDGED)
    found = _again(store, upload)
    assert (found.location, found.offset) == ("/new", 0)


def test_a_session_and_a_blob_are_recorded_late(store: Store, upload: UploadRecord) -> None:
    lost = store.uploads.record_loss(upload)
    values = {**SESSION, "location": "/new", "restarts": False}
    assert store.uploads.make_late_change("record_session", lost, values)
    opened = _again(store, upload)
    assert (opened.location, opened.state) == ("/new", UploadState.OPEN)
    assert store.uploads.make_late_change("record_present", opened, {"session_left": False})
    assert store.uploads.holders(REGISTRY, upload.digest) == [REPOSITORY]
