"""Jobs as rows and as records, and the sums over their blobs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Row, and_, case, func, select

from pusher.store.layers import session_of_layer
from pusher.store.models import STORED_DONE, Job, Layer, Upload
from pusher.store.records import JobDocument, JobRecord, LayerState, NewJob, StoredError

NO_ERROR: dict[str, Any] = {"error_code": None, "error_message": None, "error_hint": None}


def layer_rows(job_id: int, new: NewJob) -> Iterable[dict[str, Any]]:
    """The rows of a new job's config and layers."""
    yield {
        "job_id": job_id,
        "position": -1,
        "diff_id": new.config_digest,
        "media_type": None,
        "digest": new.config_digest,
        "size": new.config_size,
        "state": LayerState.PENDING if new.config_size is None else LayerState.READY,
    }
    for position, layer in enumerate(new.layers):
        known = layer.digest is not None and layer.size is not None
        yield {
            "job_id": job_id,
            "position": position,
            "diff_id": layer.diff_id,
            "media_type": layer.media_type,
            "digest": layer.digest,
            "size": layer.size,
            "state": LayerState.READY if known else LayerState.PENDING,
        }


def totals_query(job_ids: list[int]) -> Any:
    """Selects job, bytes in total, done, sent, wasted, at risk, and the number of blobs of unknown size."""
    blob = func.coalesce(Layer.digest, Layer.diff_id)
    done = case((Layer.state.in_(STORED_DONE), Layer.size), else_=func.coalesce(Upload.offset, 0))
    cut_off = and_(Layer.state.not_in(STORED_DONE), Upload.restarts.is_(True), Upload.in_flight > 0)
    at_risk = case((cut_off, Upload.offset), else_=0)
    blobs = (
        select(
            Layer.job_id,
            func.max(Layer.size).label("size"),
            func.max(done).label("done"),
            func.sum(Layer.bytes_sent).label("sent"),
            func.coalesce(func.sum(Layer.bytes_wasted), 0).label("wasted"),
            func.coalesce(func.max(at_risk), 0).label("at_risk"),
        )
        .join(Job, Job.id == Layer.job_id)
        .outerjoin(Upload, session_of_layer)
        .where(Layer.job_id.in_(job_ids))
        .group_by(Layer.job_id, blob)
        .subquery()
    )
    return (
        select(
            blobs.c.job_id,
            func.coalesce(func.sum(blobs.c.size), 0),
            func.coalesce(func.sum(blobs.c.done), 0),
            func.sum(blobs.c.sent) + Job.bytes_sent,
            func.sum(blobs.c.wasted),
            func.sum(blobs.c.at_risk),
            func.count() - func.count(blobs.c.size),
        )
        .join(Job, Job.id == blobs.c.job_id)
        .group_by(blobs.c.job_id, Job.bytes_sent)
    )


def error_columns(error: StoredError | None) -> dict[str, Any]:
    """The columns of a job's last error."""
    if error is None:
        return NO_ERROR
    return {"error_code": error.code, "error_message": error.message, "error_hint": error.hint}


def job_of(row: Row[Any]) -> JobRecord:
    """The record of a row of ``jobs``."""
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
    )
