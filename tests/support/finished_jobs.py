"""A job store after years of use: many finished jobs, written in bulk."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import insert

from pusher.store.models import EventRow, JobBlobRow, JobRow, KnownBlobRow, UploadRow
from pusher.store.records import BlobKind, BlobState, JobState, UploadState
from pusher.store.store import Store
from tests.support.databases import digest


def add_finished_jobs(store: Store, count: int) -> None:
    """Add jobs 1 to ``count`` to an empty job store: pushed, each with a config, a layer, an event, and what
    is known of a blob of its own."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    job = {
        "image": "app:1", "source": {}, "config_digest": digest("c"), "host": "r", "repository": "p",
        "state": JobState.SUCCEEDED, "priority": 0, "options": {}, "digest": digest("f"),
        "created_at": at, "finished_at": at,
    }  # fmt: skip
    blob = {"digest": digest("a"), "size": 9, "state": BlobState.UPLOADED}
    config = {"position": 0, "kind": BlobKind.CONFIG, "diff_id": None, **blob}
    layer = {"position": 1, "kind": BlobKind.LAYER, "diff_id": digest("1"), **blob}
    ids = range(1, count + 1)
    with store._database.write() as connection:
        connection.execute(insert(JobRow), [{"id": number, **job} for number in ids])
        connection.execute(
            insert(JobBlobRow), [{"job_id": number, **row} for number in ids for row in (config, layer)]
        )
        connection.execute(
            insert(EventRow),
            [{"job_id": number, "at": at, "kind": "queued", "message": ""} for number in ids],
        )
        blobs = [f"sha256:{number:064x}" for number in ids]
        connection.execute(
            insert(UploadRow),
            [
                {"host": "r", "repository": "p", "digest": blob, "state": UploadState.PRESENT, "used_at": at}
                for blob in blobs
            ],
        )
        known = {"compression": "isal:2", "size": 9, "media_type": "m", "created_at": at}
        connection.execute(
            insert(KnownBlobRow), [{"diff_id": blob, "digest": blob, **known} for blob in blobs]
        )
        if not store._database.is_sqlite:
            connection.exec_driver_sql(f"SELECT setval('jobs_id_seq', {count})")
            connection.exec_driver_sql("ANALYZE")
