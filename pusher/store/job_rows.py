"""Convert jobs between rows and records, and sum over their blobs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pusher.store.connection import ResultRow, json_of, time_if_set, time_of
from pusher.store.job_blobs import BLOB_DONE, SESSION_OF_BLOB
from pusher.store.records import (
    BlobKind,
    BlobState,
    JobDocument,
    JobRecord,
    JobState,
    NewJob,
    StoredError,
)

NO_ERROR: Final[dict[str, Any]] = {"error_code": None, "error_message": None, "error_hint": None}

IS_UNCHANGED: Final = "(id = :read_id AND state = :read_state AND lease_token = :read_token)"
"""A job is still as it was read."""


def unchanged(job: JobRecord) -> dict[str, Any]:
    """Return the values for IS_UNCHANGED."""
    return {"read_id": job.id, "read_state": job.state, "read_token": job.lease_token}


def new_job_columns(new: NewJob) -> dict[str, Any]:
    """Return the columns of a job that say what is pushed, where and how."""
    return {
        "image": new.image,
        "source": json.dumps(dict(new.source)),
        "config_digest": new.config_digest,
        "host": new.registry,
        "repository": new.repository,
        "tag": new.tag,
        "priority": new.priority,
        "options": json.dumps(dict(new.options)),
        "documents": json.dumps([document.to_json() for document in new.documents]),
        "keeps_older": new.keeps_older,
        "labels": labels_text(new.labels),
        "after_job": new.after,
        "not_before": new.not_before,
        "time_window": new.window,
        "machine": new.machine,
        "spool": new.spool,
    }


def blob_rows(job_id: int, new: NewJob) -> Iterable[dict[str, Any]]:
    """Yield the rows of a new job's blobs, its config first."""
    yield {
        "job_id": job_id,
        "position": 0,
        "kind": BlobKind.CONFIG,
        "diff_id": None,
        "media_type": None,
        "digest": new.config_digest,
        "size": new.config_size,
        "state": BlobState.PENDING if new.config_size is None else BlobState.READY,
        "bytes_sent": 0,
        "bytes_wasted": 0,
    }
    for position, blob in enumerate(new.blobs, 1):
        known = blob.digest is not None and blob.size is not None
        yield {
            "job_id": job_id,
            "position": position,
            "kind": BlobKind.OTHER if blob.diff_id is None else BlobKind.LAYER,
            "diff_id": blob.diff_id,
            "media_type": blob.media_type,
            "digest": blob.digest,
            "size": blob.size,
            "state": BlobState.READY if known else BlobState.PENDING,
            "bytes_sent": 0,
            "bytes_wasted": 0,
        }


TOTALS: Final = f"""
    SELECT
        blobs.job_id AS job_id,
        coalesce(sum(coalesce(size, done)), 0) AS total,
        coalesce(sum(done), 0) AS done,
        sum(sent) + jobs.bytes_sent AS sent,
        sum(wasted) AS wasted,
        sum(at_risk) AS at_risk,
        count(*) - count(size) + CASE WHEN jobs.config_digest = '' THEN 1 ELSE 0 END AS unknown
    FROM (
        SELECT
            job_blobs.job_id AS job_id,
            max(job_blobs.size) AS size,
            max(CASE WHEN {BLOB_DONE} THEN job_blobs.size ELSE coalesce(uploads."offset", 0) END) AS done,
            sum(job_blobs.bytes_sent) AS sent,
            sum(job_blobs.bytes_wasted) AS wasted,
            coalesce(max(
                CASE WHEN NOT {BLOB_DONE} AND uploads.restarts IS TRUE AND uploads.in_flight > 0
                THEN uploads."offset" ELSE 0 END
            ), 0) AS at_risk
        FROM job_blobs
        JOIN jobs ON jobs.id = job_blobs.job_id
        LEFT JOIN uploads ON {SESSION_OF_BLOB}
        WHERE job_blobs.job_id IN :ids
        GROUP BY job_blobs.job_id, coalesce(job_blobs.digest, job_blobs.diff_id)
    ) AS blobs
    JOIN jobs ON jobs.id = blobs.job_id
    GROUP BY blobs.job_id, jobs.bytes_sent, jobs.config_digest"""
"""The query for each job's bytes in total, done, sent, wasted and at risk, and its blobs of unknown size, one
more where blobs are still received. In the total these count with what is done of them."""


def labels_text(labels: Mapping[str, str]) -> str:
    """Return labels as they are stored; JobFilter searches in this text."""
    return json.dumps(dict(labels), separators=(",", ":"), sort_keys=True)


def error_columns(error: StoredError | None) -> dict[str, Any]:
    """Return the columns of a job's last error."""
    if error is None:
        return NO_ERROR
    return {"error_code": error.code, "error_message": error.message, "error_hint": error.hint}


def job_of(row: ResultRow) -> JobRecord:
    """Return the record of a row of ``jobs``."""
    error = None
    if row["error_code"] is not None:
        error = StoredError(row["error_code"], row["error_message"] or "", row["error_hint"] or "")
    return JobRecord(
        id=row["id"],
        image=row["image"],
        source=json_of(row["source"]),
        config_digest=row["config_digest"],
        registry=row["host"],
        repository=row["repository"],
        tag=row["tag"],
        state=JobState(row["state"]),
        priority=row["priority"],
        attempts=row["attempts"],
        options=json_of(row["options"]),
        documents=tuple(map(JobDocument.from_json, json_of(row["documents"]))),
        digest=row["digest"],
        bytes_sent=row["bytes_sent"],
        error=error,
        created_at=time_of(row["created_at"]),
        started_at=time_if_set(row["started_at"]),
        finished_at=time_if_set(row["finished_at"]),
        next_try_at=time_if_set(row["next_try_at"]),
        lease_owner=row["lease_owner"],
        lease_token=row["lease_token"],
        lease_expires_at=time_if_set(row["lease_expires_at"]),
        keeps_older=bool(row["keeps_older"]),
        superseded_by=row["superseded_by"],
        waiting_since=time_if_set(row["waiting_since"]),
        labels=json_of(row["labels"]),
        after=row["after_job"],
        not_before=time_if_set(row["not_before"]),
        window=row["time_window"],
        speed=row["speed"],
        in_flight=row["in_flight"],
        machine=row["machine"],
        spool=row["spool"],
    )
