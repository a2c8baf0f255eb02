"""A job store after years of use: many finished jobs, written in bulk."""

from __future__ import annotations

from datetime import UTC, datetime

from pusher.store.records import BlobKind, BlobState, JobState, UploadState
from pusher.store.store import Store
from pusher.store.writes import insert_sql
from tests.support.databases import digest


def add_finished_jobs(store: Store, count: int) -> None:
    """Add jobs 1 to ``count`` to an empty job store: pushed, each with a config, a layer, an event, and what
    is known of a blob of its own."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    job = {
        "image": "app:1", "source": "{}", "config_digest": digest("c"), "host": "r", "repository": "p",
        "state": JobState.SUCCEEDED, "priority": 0, "options": "{}", "digest": digest("f"),
        "created_at": at, "finished_at": at, "attempts": 1, "bytes_sent": 0, "lease_token": 1,
    }  # fmt: skip
    blob = {"digest": digest("a"), "size": 9, "state": BlobState.UPLOADED, "bytes_sent": 0, "bytes_wasted": 0}
    config = {"position": 0, "kind": BlobKind.CONFIG, "diff_id": None, **blob}
    layer = {"position": 1, "kind": BlobKind.LAYER, "diff_id": digest("1"), **blob}
    ids = range(1, count + 1)
    blobs = [f"sha256:{number:064x}" for number in ids]
    upload = {
        "host": "r", "repository": "p", "state": UploadState.PRESENT, "used_at": at,
        "offset": 0, "in_flight": 0, "lease_token": 0,
    }  # fmt: skip
    known = {"compression": "isal:2", "size": 9, "media_type": "m", "created_at": at}
    tables: dict[str, list[dict[str, object]]] = {
        "jobs": [{"id": number, **job} for number in ids],
        "job_blobs": [{"job_id": number, **row} for number in ids for row in (config, layer)],
        "events": [{"job_id": number, "at": at, "kind": "queued", "message": ""} for number in ids],
        "uploads": [{"digest": blob, **upload} for blob in blobs],
        "known_blobs": [{"diff_id": blob, "digest": blob, **known} for blob in blobs],
    }
    with store._database.write() as connection:
        for table, rows in tables.items():
            connection.execute_many(insert_sql(table, rows[0]), rows)
        if not store._database.is_sqlite:
            connection.execute(f"SELECT setval('jobs_id_seq', {count})")
            connection.execute("ANALYZE")
