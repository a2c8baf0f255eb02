"""Read and change the blobs of jobs, and how much of each is done."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Row, and_, func, select, update

from pusher.store.engine import Database
from pusher.store.leases import require_lease
from pusher.store.models import STORED_DONE, JobBlobRow, JobRow, KnownBlobRow, UploadRow
from pusher.store.records import DONE_STATES, BlobState, JobBlob, JobRecord, UploadState
from pusher.store.upsert import insert_if_missing

_T = TypeVar("_T")

SESSION_STATES = [UploadState.OPEN, UploadState.CLOSING]
"""Upload states in which a session holds bytes."""

session_of_blob = and_(
    UploadRow.host == JobRow.host,
    UploadRow.repository == JobRow.repository,
    UploadRow.digest == JobBlobRow.digest,
    UploadRow.state.in_(SESSION_STATES),
)
"""The join of a job's blob with the session that holds part of it."""


def batches(ids: Iterable[_T], size: int = 5000) -> Iterator[list[_T]]:
    """Yield batches that fit into one statement (SQLite allows 32,766 parameters, PostgreSQL 65,535)."""
    rest = iter(ids)
    while batch := list(islice(rest, size)):
        yield batch


class JobBlobs:
    """The blobs of jobs; a layer that is in an image twice has two rows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of_job(self, job_id: int) -> list[JobBlob]:
        """Return the blobs of one job by position, its config first."""
        return self.of_jobs([job_id])[job_id]

    def of_jobs(self, job_ids: Collection[int]) -> dict[int, list[JobBlob]]:
        """Return the same for several jobs; an unknown id has an empty list."""
        found: dict[int, list[JobBlob]] = {job_id: [] for job_id in job_ids}
        with self._database.read() as connection:
            for batch in batches(found):
                for row in connection.execute(_query().where(JobBlobRow.job_id.in_(batch))):
                    found[row.job_id].append(_blob(row))
        return found

    def set_blob(self, job: JobRecord, key: str, *, digest: str, size: int, media_type: str) -> None:
        """Record the blob of each row with this key; its state is ready unless it is done.

        Raises LeaseLost.
        """
        has_key = func.coalesce(JobBlobRow.diff_id, JobBlobRow.digest) == key
        change = update(JobBlobRow).where(JobBlobRow.job_id == job.id, has_key)
        with self._database.write() as connection:
            require_lease(connection, job)
            connection.execute(change.values(digest=digest, size=size, media_type=media_type))
            connection.execute(
                change.where(JobBlobRow.state == BlobState.PENDING).values(state=BlobState.READY)
            )

    def set_done(self, job: JobRecord, digest: str, how: BlobState) -> None:
        """Record that the registry has the blob: uploaded, mounted or there before. Raises LeaseLost.

        From now on other repositories can mount it from there; an upload of it with a session or a lease is
        not changed.
        """
        if how not in DONE_STATES:
            raise ValueError(f"not a way to be done: {how}")
        place = {"host": job.registry, "repository": job.repository, "digest": digest}
        idle = and_(
            *(getattr(UploadRow, name) == value for name, value in place.items()),
            UploadRow.lease_owner.is_(None),
            UploadRow.state.in_([UploadState.IDLE, UploadState.PRESENT]),
        )
        with self._database.write() as connection:
            require_lease(connection, job)
            connection.execute(
                update(JobBlobRow)
                .where(
                    JobBlobRow.job_id == job.id,
                    JobBlobRow.digest == digest,
                    JobBlobRow.state.not_in(STORED_DONE),
                )
                .values(state=how)
            )
            insert_if_missing(connection, UploadRow, place)
            present = {"state": UploadState.PRESENT, "used_at": self._database.now()}
            connection.execute(update(UploadRow).where(idle).values(present))

    def clear_done(self, job: JobRecord, digests: Collection[str]) -> None:
        """Record that the registry lacks these blobs after all. Raises LeaseLost."""
        change = update(JobBlobRow).where(
            JobBlobRow.job_id == job.id,
            JobBlobRow.digest.in_(set(digests)),
            JobBlobRow.state.in_(STORED_DONE),
        )
        with self._database.write() as connection:
            require_lease(connection, job)
            connection.execute(change.where(JobBlobRow.size.is_not(None)).values(state=BlobState.READY))
            connection.execute(change.values(state=BlobState.PENDING))

    def add_sent(self, job_id: int, digest: str, count: int, wasted: int = 0) -> None:
        """Count body bytes sent for a blob (once, however many layers are this blob).

        ``wasted``: how many of the bytes counted so far must be sent again.
        """
        with self._database.write() as connection:
            connection.execute(count_sent(job_id, digest, count, wasted))

    def needed_digests(self, among: Collection[str]) -> set[str]:
        """Return those of the digests that unfinished jobs still have to send."""
        unsent = [JobRow.finished_at.is_(None), JobBlobRow.state.not_in(STORED_DONE)]
        layers = select(JobBlobRow.digest).join(JobRow, JobRow.id == JobBlobRow.job_id).where(*unsent)
        known = (
            select(KnownBlobRow.digest)
            .join(JobBlobRow, JobBlobRow.diff_id == KnownBlobRow.diff_id)
            .join(JobRow, JobRow.id == JobBlobRow.job_id)
            .where(*unsent, JobBlobRow.digest.is_(None))
        )
        needed: set[str] = set()
        with self._database.read() as connection:
            for batch in batches(among):
                needed.update(connection.scalars(layers.where(JobBlobRow.digest.in_(batch))))
                needed.update(connection.scalars(known.where(KnownBlobRow.digest.in_(batch))))
        return needed


def count_sent(job_id: int, digest: str, count: int, wasted: int = 0) -> Any:
    """Return the statement that adds sent and wasted bytes to the first row of this blob."""
    first = (
        select(func.min(JobBlobRow.position))
        .where(JobBlobRow.job_id == job_id, JobBlobRow.digest == digest)
        .scalar_subquery()
    )
    return (
        update(JobBlobRow)
        .where(JobBlobRow.job_id == job_id, JobBlobRow.position == first)
        .values(
            bytes_sent=JobBlobRow.bytes_sent + count,
            bytes_wasted=JobBlobRow.bytes_wasted + wasted,
        )
    )


def _query() -> Any:
    return (
        select(JobBlobRow, UploadRow.state.label("session"), UploadRow.offset.label("acknowledged"))
        .join(JobRow, JobRow.id == JobBlobRow.job_id)
        .outerjoin(UploadRow, session_of_blob)
        .order_by(JobBlobRow.job_id, JobBlobRow.position)
    )


def _blob(row: Row[Any]) -> JobBlob:
    done = row.state in DONE_STATES
    uploading = not done and row.session is not None
    return JobBlob(
        job_id=row.job_id,
        position=row.position,
        kind=row.kind,
        diff_id=row.diff_id,
        media_type=row.media_type,
        digest=row.digest,
        size=row.size,
        state=BlobState.UPLOADING if uploading else row.state,
        offset=(row.size or 0) if done else (row.acknowledged if uploading else 0),
        bytes_sent=row.bytes_sent,
        bytes_wasted=row.bytes_wasted,
    )
