"""Read and change the blobs of jobs, and how much of each is done."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from pusher.oci.digest import diff_id_in, provisional_digest
from pusher.store.connection import Connection, ResultRow
from pusher.store.engine import Database
from pusher.store.leases import require_lease
from pusher.store.records import DONE_STATES, BlobKind, BlobState, JobBlob, JobRecord
from pusher.store.writes import insert_if_missing

HAS_SESSION: Final = "uploads.state IN ('open', 'closing')"
"""A session holds bytes of the upload."""

BLOB_DONE: Final = "(job_blobs.state IN ('uploaded', 'mounted', 'exists'))"
"""The blob need not be sent any more."""

SESSION_OF_BLOB: Final = f"""(
    uploads.host = jobs.host AND uploads.repository = jobs.repository
    AND uploads.digest = coalesce(job_blobs.digest, '{provisional_digest("")}' || job_blobs.diff_id)
    AND {HAS_SESSION}
)"""
"""The join of a job's blob, which may have no digest yet, with the session that holds part of it."""

NEW_UPLOAD: Final[dict[str, Any]] = {"state": "idle", "offset": 0, "in_flight": 0, "lease_token": 0}
"""The columns of an upload without a session."""

_OF_JOBS: Final = f"""
    SELECT job_blobs.*, uploads.state AS session, uploads."offset" AS acknowledged
    FROM job_blobs
    JOIN jobs ON jobs.id = job_blobs.job_id
    LEFT JOIN uploads ON {SESSION_OF_BLOB}
    WHERE job_blobs.job_id IN :ids
    ORDER BY job_blobs.job_id, job_blobs.position"""

_UNSENT: Final = f"jobs.finished_at IS NULL AND NOT {BLOB_DONE}"
_NEEDED_BY_DIGEST: Final = f"""
    SELECT job_blobs.digest FROM job_blobs JOIN jobs ON jobs.id = job_blobs.job_id
    WHERE job_blobs.digest IN :digests AND {_UNSENT}"""
_NEEDED_BY_LAYER: Final = f"""
    SELECT known_blobs.digest FROM known_blobs
    JOIN job_blobs ON job_blobs.diff_id = known_blobs.diff_id
    JOIN jobs ON jobs.id = job_blobs.job_id
    WHERE known_blobs.digest IN :digests AND job_blobs.digest IS NULL AND {_UNSENT}"""
_IS_KNOWN: Final = """SELECT 1
    WHERE EXISTS (SELECT 1 FROM job_blobs WHERE digest = :digest)
    OR EXISTS (SELECT 1 FROM known_blobs WHERE digest = :digest)"""
"""For one digest at a time: a base layer is in the rows of thousands of jobs."""


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
            for row in connection.rows(_OF_JOBS, ids=job_ids):
                found[row["job_id"]].append(_blob(row))
        return found

    def diff_ids(self, job_id: int, digest: str) -> list[str]:
        """Return the diff IDs of the job's layers that are this blob."""
        query = """SELECT DISTINCT diff_id FROM job_blobs
            WHERE job_id = :job_id AND digest = :digest AND diff_id IS NOT NULL"""
        with self._database.read() as connection:
            return connection.column(query, job_id=job_id, digest=digest)

    def set_blob(self, job: JobRecord, key: str, *, digest: str, size: int, media_type: str) -> None:
        """Record the blob of each row with this key; its state is ready unless it is done.

        Raises LeaseLost.
        """
        with self._database.write() as connection:
            require_lease(connection, job)
            connection.execute(
                """UPDATE job_blobs SET digest = :digest, size = :size, media_type = :media_type,
                state = CASE WHEN state = 'pending' THEN 'ready' ELSE state END
                WHERE job_id = :job_id AND coalesce(diff_id, digest) = :key""",
                job_id=job.id,
                key=key,
                digest=digest,
                size=size,
                media_type=media_type,
            )

    def set_done(self, job: JobRecord, digest: str, how: BlobState) -> None:
        """Record that the registry has the blob: uploaded, mounted or there before. Raises LeaseLost.

        From now on other repositories can mount it from there; an upload of it with a session or a lease is
        not changed.
        """
        if how not in DONE_STATES:
            raise ValueError(f"not a way to be done: {how}")
        place = {"host": job.registry, "repository": job.repository, "digest": digest}
        with self._database.write() as connection:
            require_lease(connection, job)
            connection.execute(
                f"""UPDATE job_blobs SET state = :how
                WHERE job_id = :job_id AND digest = :digest AND NOT {BLOB_DONE}""",
                how=how,
                job_id=job.id,
                digest=digest,
            )
            insert_if_missing(connection, "uploads", {**NEW_UPLOAD, **place})
            connection.execute(
                """UPDATE uploads SET state = 'present', used_at = :now
                WHERE host = :host AND repository = :repository AND digest = :digest
                AND lease_owner IS NULL AND state IN ('idle', 'present')""",
                now=self._database.now(),
                **place,
            )

    def clear_done(self, job: JobRecord, digests: Collection[str]) -> None:
        """Record that the registry lacks these blobs after all. Raises LeaseLost."""
        with self._database.write() as connection:
            require_lease(connection, job)
            connection.execute(
                f"""UPDATE job_blobs SET state = CASE WHEN size IS NULL THEN 'pending' ELSE 'ready' END
                WHERE job_id = :job_id AND digest IN :digests AND {BLOB_DONE}""",
                job_id=job.id,
                digests=digests,
            )

    def add_sent(self, job_id: int, digest: str, count: int, wasted: int = 0) -> None:
        """Count body bytes sent for a blob (once, however many layers are this blob).

        ``wasted``: how many of the bytes counted so far must be sent again.
        """
        with self._database.write() as connection:
            count_sent(connection, job_id, digest, count, wasted)

    def needed_digests(self, among: Collection[str]) -> set[str]:
        """Return those of the digests that unfinished jobs still have to send."""
        with self._database.read() as connection:
            return {
                digest
                for query in (_NEEDED_BY_DIGEST, _NEEDED_BY_LAYER)
                for digest in connection.column(query, digests=among)
            }

    def known_digests(self, among: Collection[str]) -> set[str]:
        """Return those of the digests that were recorded for any job or layer, also a finished one."""
        with self._database.read() as connection:
            return {digest for digest in among if connection.column(_IS_KNOWN, digest=digest)}


def count_sent(connection: Connection, job_id: int, digest: str, count: int, wasted: int = 0) -> None:
    """Add sent and wasted bytes to the first row of this blob."""
    diff_id = diff_id_in(digest)
    connection.execute(
        f"""UPDATE job_blobs SET bytes_sent = bytes_sent + :count, bytes_wasted = bytes_wasted + :wasted
        WHERE job_id = :job_id AND position =
            (SELECT min(position) FROM job_blobs
            WHERE job_id = :job_id AND {"digest" if diff_id is None else "diff_id"} = :digest)""",
        job_id=job_id,
        digest=diff_id or digest,
        count=count,
        wasted=wasted,
    )


def _blob(row: ResultRow) -> JobBlob:
    state = BlobState(row["state"])
    done = state in DONE_STATES
    uploading = not done and row["session"] is not None
    return JobBlob(
        job_id=row["job_id"],
        position=row["position"],
        kind=BlobKind(row["kind"]),
        diff_id=row["diff_id"],
        media_type=row["media_type"],
        digest=row["digest"],
        size=row["size"],
        state=BlobState.UPLOADING if uploading else state,
        offset=(row["size"] or 0) if done else (row["acknowledged"] if uploading else 0),
        bytes_sent=row["bytes_sent"],
        bytes_wasted=row["bytes_wasted"],
    )
