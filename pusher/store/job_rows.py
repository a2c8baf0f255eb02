"""Convert jobs between rows and records, and sum over their blobs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Row, and_, case, func, select

from pusher.store.job_blobs import session_of_blob
from pusher.store.models import STORED_DONE, JobBlobRow, JobRow, UploadRow
from pusher.store.records import BlobKind, BlobState, JobDocument, JobRecord, NewJob, StoredError

NO_ERROR: dict[str, Any] = {"error_code": None, "error_message": None, "error_hint": None}


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
        }


def totals_query(job_ids: list[int]) -> Any:
    """Return the query for job, bytes in total, done, sent, wasted, at risk, and the number of blobs of
    unknown size."""
    blob = func.coalesce(JobBlobRow.digest, JobBlobRow.diff_id)
    done = case(
        (JobBlobRow.state.in_(STORED_DONE), JobBlobRow.size), else_=func.coalesce(UploadRow.offset, 0)
    )
    cut_off = and_(
        JobBlobRow.state.not_in(STORED_DONE), UploadRow.restarts.is_(True), UploadRow.in_flight > 0
    )
    at_risk = case((cut_off, UploadRow.offset), else_=0)
    blobs = (
        select(
            JobBlobRow.job_id,
            func.max(JobBlobRow.size).label("size"),
            func.max(done).label("done"),
            func.sum(JobBlobRow.bytes_sent).label("sent"),
            func.sum(JobBlobRow.bytes_wasted).label("wasted"),
            func.coalesce(func.max(at_risk), 0).label("at_risk"),
        )
        .join(JobRow, JobRow.id == JobBlobRow.job_id)
        .outerjoin(UploadRow, session_of_blob)
        .where(JobBlobRow.job_id.in_(job_ids))
        .group_by(JobBlobRow.job_id, blob)
        .subquery()
    )
    return (
        select(
            blobs.c.job_id,
            func.coalesce(func.sum(blobs.c.size), 0),
            func.coalesce(func.sum(blobs.c.done), 0),
            func.sum(blobs.c.sent) + JobRow.bytes_sent,
            func.sum(blobs.c.wasted),
            func.sum(blobs.c.at_risk),
            func.count() - func.count(blobs.c.size),
        )
        .join(JobRow, JobRow.id == blobs.c.job_id)
        .group_by(blobs.c.job_id, JobRow.bytes_sent)
    )


def error_columns(error: StoredError | None) -> dict[str, Any]:
    """Return the columns of a job's last error."""
    if error is None:
        return NO_ERROR
    return {"error_code": error.code, "error_message": error.message, "error_hint": error.hint}


def job_of(row: Row[Any]) -> JobRecord:
    """Return the record of a row of ``jobs``."""
    error = None
    if row.error_code is not None:
        error = StoredError(row.error_code, row.error_message or "", row.error_hint or "")
    return JobRecord(
        id=row.id,
        image=row.image,
        source=row.source,
        config_digest=row.config_digest,
        registry=row.host,
        repository=row.repository,
        tag=row.tag,
        state=row.state,
        priority=row.priority,
        attempts=row.attempts,
        options=row.options,
        documents=tuple(map(JobDocument.from_json, row.documents)),
        digest=row.digest,
        bytes_sent=row.bytes_sent,
        error=error,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        next_try_at=row.next_try_at,
        lease_owner=row.lease_owner,
        lease_token=row.lease_token,
        lease_expires_at=row.lease_expires_at,
        keeps_older=row.keeps_older,
        superseded_by=row.superseded_by,
        waiting_since=row.waiting_since,
    )
