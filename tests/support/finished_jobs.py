"""A job store after years of use: many finished jobs and a long queue, written in bulk."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from pusher.store.connection import Connection
from pusher.store.records import BlobKind, BlobState, JobState, UploadState
from pusher.store.store import Store
from tests.support.databases import digest

_NUMBER: Final = "CAST(n AS TEXT)"
_OWN_BLOB: Final = f"substr(CAST(:zeros AS TEXT), 1, 71 - length({_NUMBER})) || {_NUMBER}"
"""SQL for a digest of its own for each number."""
_OWN_TAG: Final = f"'night' || {_NUMBER}"

_AT: Final = datetime(2026, 1, 1, tzinfo=UTC)
_JOB: Final = {
    "image": "app:1", "source": "{}", "config_digest": digest("c"), "host": "r", "repository": "p",
    "priority": 0, "options": "{}", "created_at": _AT, "bytes_sent": 0, "lease_token": 1,
}  # fmt: skip
_CONFIG: Final = {
    "position": 0, "kind": BlobKind.CONFIG, "diff_id": None, "digest": digest("a"), "size": 9,
    "bytes_sent": 0, "bytes_wasted": 0,
}  # fmt: skip
_LAYER: Final = {**_CONFIG, "position": 1, "kind": BlobKind.LAYER, "diff_id": digest("1")}
_EVENT: Final = {"at": _AT, "kind": "queued", "message": ""}


def add_finished_jobs(store: Store, count: int) -> None:
    """Add jobs 1 to ``count`` to an empty job store: pushed, all to one tag, each with a config, a layer, an
    event, and what is known of a blob of its own."""
    finished = {"state": JobState.SUCCEEDED, "digest": digest("f"), "finished_at": _AT, "attempts": 1}
    upload = {
        "host": "r", "repository": "p", "state": UploadState.PRESENT, "used_at": _AT,
        "offset": 0, "in_flight": 0, "lease_token": 0,
    }  # fmt: skip
    known = {"compression": "isal:2", "size": 9, "media_type": "m", "created_at": _AT}
    with store._database.write() as connection:
        numbers = range(1, count + 1)
        if not connection.is_sqlite:
            connection.execute("SET LOCAL session_replication_role = replica")  # no look for each row's job
        _insert(connection, "jobs", numbers, {**_JOB, **finished, "tag": "latest"}, id="n")
        for blob in (_CONFIG, _LAYER):
            _insert(connection, "job_blobs", numbers, {**blob, "state": BlobState.UPLOADED}, job_id="n")
        _insert(connection, "events", numbers, _EVENT, job_id="n")
        _insert(connection, "uploads", numbers, upload, digest=_OWN_BLOB)
        _insert(connection, "known_blobs", numbers, known, diff_id=_OWN_BLOB, digest=_OWN_BLOB)
        _finish(connection)


def add_queued_jobs(store: Store, first: int, count: int) -> None:
    """Add ``count`` jobs from the id ``first`` on, each for a tag and with a layer of its own."""
    with store._database.write() as connection:
        numbers = range(first, first + count)
        queued = {**_JOB, "state": JobState.QUEUED, "attempts": 0}
        _insert(connection, "jobs", numbers, queued, id="n", tag=_OWN_TAG)
        for blob in (_CONFIG, _LAYER):
            ready = {**blob, "state": BlobState.READY}
            _insert(connection, "job_blobs", numbers, ready, job_id="n", digest=_OWN_BLOB)
        _insert(connection, "events", numbers, _EVENT, job_id="n")
        _finish(connection)


def add_events(store: Store, job_id: int, count: int) -> None:
    """Add events to one job."""
    with store._database.write() as connection:
        _insert(connection, "events", range(1, count + 1), {**_EVENT, "job_id": job_id})


def _insert(
    connection: Connection, table: str, numbers: range, same: Mapping[str, object], **computed: str
) -> None:
    """Insert a row for each number ``n``: columns that are the ``same`` in all, and SQL for the others."""
    values = {name: value for name, value in same.items() if name not in computed}
    columns = ", ".join(f'"{name}"' for name in (*values, *computed))
    selected = ", ".join((*(f":{name}" for name in values), *computed.values()))
    connection.execute(
        f"""WITH RECURSIVE numbers (n) AS (
            SELECT CAST(:first AS BIGINT) UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :stop
        ) INSERT INTO {table} ({columns}) SELECT {selected} FROM numbers""",
        first=numbers.start,
        stop=numbers.stop,
        zeros=digest("0"),
        **values,
    )


def _finish(connection: Connection) -> None:
    if not connection.is_sqlite:
        connection.execute("SELECT setval('jobs_id_seq', (SELECT max(id) FROM jobs))")
        connection.execute("ANALYZE")
