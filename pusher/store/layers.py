"""Layers of jobs: their blobs, and how far these are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Row, and_, func, select, update

from pusher.store.engine import Database
from pusher.store.leases import require_job
from pusher.store.models import STORED_DONE, Job, Layer, Memo, Upload
from pusher.store.records import DONE_LAYER_STATES, JobRecord, LayerRecord, LayerState, UploadState
from pusher.store.upsert import insert_if_missing

_T = TypeVar("_T")

SESSION_STATES = [UploadState.OPEN, UploadState.CLOSING]
"""Upload states in which bytes lie in a session."""

session_of_layer = and_(
    Upload.host == Job.host,
    Upload.repository == Job.repository,
    Upload.digest == Layer.digest,
    Upload.state.in_(SESSION_STATES),
)
"""Joins a layer to the session that holds a part of its blob."""


def batches(ids: Iterable[_T], size: int = 5000) -> Iterator[list[_T]]:
    """Few enough at a time for one statement (SQLite allows 32,766 parameters, PostgreSQL 65,535)."""
    rest = iter(ids)
    while batch := list(islice(rest, size)):
        yield batch


class Layers:
    """The layers of jobs; duplicates within an image have a row each."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, job_id: int) -> list[LayerRecord]:
        """Layers of one job by position, its config (-1) first."""
        return self.of_jobs([job_id])[job_id]

    def of_jobs(self, job_ids: Collection[int]) -> dict[int, list[LayerRecord]]:
        """The same for several jobs; an unknown id has an empty list."""
        found: dict[int, list[LayerRecord]] = {job_id: [] for job_id in job_ids}
        with self._database.read() as connection:
            for batch in batches(found):
                for row in connection.execute(_query().where(Layer.job_id.in_(batch))):
                    found[row.job_id].append(_layer(row))
        return found

    def set_blob(self, job: JobRecord, diff_id: str, *, digest: str, size: int, media_type: str) -> None:
        """Every layer of the job with this diff ID is this blob; ready unless done. LeaseLost."""
        change = update(Layer).where(Layer.job_id == job.id, Layer.diff_id == diff_id)
        with self._database.write() as connection:
            require_job(connection, job)
            connection.execute(change.values(digest=digest, size=size, media_type=media_type))
            connection.execute(change.where(Layer.state == LayerState.PENDING).values(state=LayerState.READY))

    def set_done(self, job: JobRecord, digest: str, how: LayerState) -> None:
        """The registry has the blob: uploaded, mounted or there before. LeaseLost.

        Other repositories can mount it from there from now on; an upload of it that has a session or a lease
        is left alone.
        """
        if how not in DONE_LAYER_STATES:
            raise ValueError(f"not a way to be done: {how}")
        place = {"host": job.registry, "repository": job.repository, "digest": digest}
        idle = and_(
            *(getattr(Upload, name) == value for name, value in place.items()),
            Upload.lease_owner.is_(None),
            Upload.state.in_([UploadState.IDLE, UploadState.PRESENT]),
        )
        with self._database.write() as connection:
            require_job(connection, job)
            connection.execute(
                update(Layer)
                .where(Layer.job_id == job.id, Layer.digest == digest, Layer.state.not_in(STORED_DONE))
                .values(state=how)
            )
            insert_if_missing(connection, Upload, place)
            present = {"state": UploadState.PRESENT, "used_at": self._database.now()}
            connection.execute(update(Upload).where(idle).values(present))

    def clear_done(self, job: JobRecord, digests: Collection[str]) -> None:
        """The registry says that it does not have these blobs after all. LeaseLost."""
        change = update(Layer).where(
            Layer.job_id == job.id, Layer.digest.in_(set(digests)), Layer.state.in_(STORED_DONE)
        )
        with self._database.write() as connection:
            require_job(connection, job)
            connection.execute(change.where(Layer.size.is_not(None)).values(state=LayerState.READY))
            connection.execute(change.values(state=LayerState.PENDING))

    def add_sent(self, job_id: int, digest: str, count: int, wasted: int = 0) -> None:
        """Count body bytes really sent for a blob (once, however many layers are this blob), and how many of
        those counted so far have to be sent again."""
        with self._database.write() as connection:
            connection.execute(count_sent(job_id, digest, count, wasted))

    def needed_digests(self, among: Collection[str]) -> set[str]:
        """Those of some blobs that unfinished jobs still have to send, as far as their digests are known."""
        unsent = [Job.finished_at.is_(None), Layer.state.not_in(STORED_DONE)]
        layers = select(Layer.digest).join(Job, Job.id == Layer.job_id).where(*unsent)
        memos = (
            select(Memo.digest)
            .join(Layer, Layer.diff_id == Memo.diff_id)
            .join(Job, Job.id == Layer.job_id)
            .where(*unsent, Layer.digest.is_(None))
        )
        needed: set[str] = set()
        with self._database.read() as connection:
            for batch in batches(among):
                needed.update(connection.scalars(layers.where(Layer.digest.in_(batch))))
                needed.update(connection.scalars(memos.where(Memo.digest.in_(batch))))
        return needed


def count_sent(job_id: int, digest: str, count: int, wasted: int = 0) -> Any:
    """The statement that adds sent and wasted bytes to the first layer that is this blob."""
    first = (
        select(func.min(Layer.position))
        .where(Layer.job_id == job_id, Layer.digest == digest)
        .scalar_subquery()
    )
    return (
        update(Layer)
        .where(Layer.job_id == job_id, Layer.position == first)
        .values(
            bytes_sent=Layer.bytes_sent + count,
            bytes_wasted=func.coalesce(Layer.bytes_wasted, 0) + wasted,
        )
    )


def _query() -> Any:
    return (
        select(Layer, Upload.state.label("session"), Upload.offset.label("acknowledged"))
        .join(Job, Job.id == Layer.job_id)
        .outerjoin(Upload, session_of_layer)
        .order_by(Layer.job_id, Layer.position)
    )


def _layer(row: Row[Any]) -> LayerRecord:
    done = row.state in DONE_LAYER_STATES
    uploading = not done and row.session is not None
    return LayerRecord(
        job_id=row.job_id,
        position=row.position,
        diff_id=row.diff_id,
        media_type=row.media_type,
        digest=row.digest,
        size=row.size,
        state=LayerState.UPLOADING if uploading else row.state,
        offset=(row.size or 0) if done else (row.acknowledged if uploading else 0),
        bytes_sent=row.bytes_sent,
        bytes_wasted=row.bytes_wasted or 0,
    )
