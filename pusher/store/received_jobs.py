"""Record what clients of ``pusher serve`` send: blobs as they come, then the manifest.

Blobs belong to a job without a manifest, one for each destination repository. The manifest makes it an
ordinary job, which keeps its id, its progress and, while it runs, its worker.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from pusher.store import destinations
from pusher.store.connection import Connection, ResultRow
from pusher.store.engine import Database
from pusher.store.events import record
from pusher.store.job_changes import NEW_JOB, add_job, change_job, insert_blobs, read_job
from pusher.store.job_rows import NO_ERROR, blob_rows, error_columns, job_of, new_job_columns
from pusher.store.leases import IS_HELD, NO_WAIT, NOT_RUNNING, held, require_lease
from pusher.store.notifications import notify
from pusher.store.records import (
    DONE_STATES,
    RECEIVING_SOURCE,
    BlobKind,
    BlobState,
    JobRecord,
    JobState,
    NewJob,
    StoredError,
)
from pusher.store.writes import assignments, insert_sql

_INCOMPLETE: Final = "finished_at IS NULL AND config_digest = ''"
_PROGRESS: Final = ("digest", "size", "state", "bytes_sent", "bytes_wasted")


class ReceivedJobs:
    """Jobs of images that clients still send."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_blob(
        self,
        *,
        image: str,
        folder: str,
        registry: str,
        repository: str,
        digest: str,
        size: int,
        machine: str | None = None,
    ) -> None:
        """Record a blob that is to be sent to the repository before the manifest comes, unless an unfinished
        job has it already.

        ``image``: the name that the client uses. ``folder``: of the blobs; this one is in
        ``ALGORITHM/HEX``. ``size`` in bytes. ``machine``: the ID of the one that received it, as in NewJob.
        """
        with self._database.write() as connection:
            self._lock(connection, registry, repository)
            if _is_at_work(connection, registry, repository, digest):
                return
            jobs = _incomplete_jobs(connection, registry, repository, machine)
            job = jobs[0] if jobs else self._open(connection, image, folder, registry, repository, machine)
            # after a final error, nothing more is tried before the manifest, whose push reports it
            state = BlobState.READY if job.error is None else BlobState.PENDING
            blob = {"digest": digest, "size": size, "state": state, "bytes_sent": 0, "bytes_wasted": 0}
            _add_blobs(connection, job.id, [blob])
            notify(connection, job.state, job.id)

    def add_manifest(self, new: NewJob) -> JobRecord:
        """Make the job that received blobs of this image an ordinary one, or add a job as ``Jobs.add`` does.

        A job is added if blobs of no job are the image's, or if a newer job has the tag. Blobs that are not
        the image's stay behind in a job of their own.
        """
        named = _digests_of(new)
        with self._database.write() as connection:
            destinations.lock_destination(self._database, connection, new)
            self._lock(connection, new.registry, new.repository)
            for job in _incomplete_jobs(connection, new.registry, new.repository, new.machine):
                received = _blobs_by_digest(connection, job.id)
                as_tagged = replace(job, tag=new.tag)
                if named & set(received) and destinations.newer_job(connection, as_tagged) is None:
                    return self._complete(connection, job, new, received)
            added = add_job(connection, new, self._database.now())
            self._forget(connection, new.registry, new.repository, named, new.machine)
            return added

    def forget_blobs(
        self, registry: str, repository: str, digests: Collection[str], machine: str | None = None
    ) -> None:
        """Record that a job with a manifest has these blobs, which ``machine`` received."""
        with self._database.write() as connection:
            self._lock(connection, registry, repository)
            self._forget(connection, registry, repository, digests, machine)

    def release(
        self, job: JobRecord, error: StoredError | None = None, *, missing: Collection[str] = ()
    ) -> bool:
        """Release a job to await more of its image; return False, and change nothing, if the manifest came.

        Blobs whose file is ``missing``, and after an ``error`` all, are not sent before the manifest comes.
        A job without blobs is removed: other jobs have them. Raises LeaseLost.
        """
        now = self._database.now()
        with self._database.write() as connection:
            self._lock(connection, job.registry, job.repository)
            require_lease(connection, job)
            if read_job(connection, job.id).has_manifest:
                return False
            if not _blobs_by_digest(connection, job.id):
                connection.execute("DELETE FROM jobs WHERE id = :id", id=job.id)
                return True
            values = {**NOT_RUNNING, **NO_WAIT, **error_columns(error), "state": JobState.RECEIVING}
            change = f"UPDATE jobs SET {assignments(values)} WHERE {IS_HELD}"
            connection.execute(change, **values, **held(job))
            connection.execute(
                f"""UPDATE job_blobs SET state = 'pending' WHERE job_id = :job_id AND state = 'ready'
                {"AND digest IN :missing" if error is None else ""}""",
                job_id=job.id,
                missing=set(missing),
            )
            message = error.message if error else "what was received is sent; more of the image is awaited"
            record(connection, job.id, now, JobState.RECEIVING, message)
        return True

    def list_incomplete(self, machine: str | None = None) -> list[JobRecord]:
        """Return the unfinished jobs without a manifest, of what this machine receives if one is given."""
        query = f"SELECT * FROM jobs WHERE {_INCOMPLETE} {_of_machine(machine)} ORDER BY id"
        with self._database.read() as connection:
            return list(map(job_of, connection.rows(query, machine=machine)))

    # --- inside -------------------------------------------------------------------------------------------

    def _lock(self, connection: Connection, registry: str, repository: str) -> None:
        self._database.lock(connection, f"{registry}/{repository} receiving")

    def _open(
        self,
        connection: Connection,
        image: str,
        folder: str,
        registry: str,
        repository: str,
        machine: str | None,
    ) -> JobRecord:
        now = self._database.now()
        source = {"kind": RECEIVING_SOURCE, "folder": folder}
        columns = new_job_columns(NewJob(image, source, "", registry, repository, None, (), machine=machine))
        values = {**columns, **NEW_JOB, "state": JobState.RECEIVING, "created_at": now}
        job = read_job(connection, connection.insert(insert_sql("jobs", values), **values))
        record(connection, job.id, now, JobState.RECEIVING, f"a client sends an image for {job.destination}")
        return job

    def _complete(
        self, connection: Connection, job: JobRecord, new: NewJob, received: Mapping[str, ResultRow]
    ) -> JobRecord:
        now = self._database.now()
        values: dict[str, Any] = {**new_job_columns(new), **NO_ERROR, **NO_WAIT, "next_try_at": None}
        if job.state not in (JobState.RUNNING, JobState.PAUSED):
            values["state"] = JobState.QUEUED
        after = change_job(connection, job, values)
        connection.execute("DELETE FROM job_blobs WHERE job_id = :id", id=job.id)
        insert_blobs(connection, _with_progress(blob_rows(job.id, new), received))
        record(connection, job.id, now, after.state, f"push {new.image} to {after.destination}")
        destinations.supersede_older(connection, after, now)
        rest = [row for digest, row in received.items() if digest not in _digests_of(new)]
        if rest:
            folder = str(job.source["folder"])
            other = self._open(connection, job.image, folder, job.registry, job.repository, job.machine)
            _add_blobs(connection, other.id, [{name: row[name] for name in _PROGRESS} for row in rest])
        return after

    def _forget(
        self,
        connection: Connection,
        registry: str,
        repository: str,
        digests: Collection[str],
        machine: str | None,
    ) -> None:
        for job in _incomplete_jobs(connection, registry, repository, machine):
            connection.execute(
                "DELETE FROM job_blobs WHERE job_id = :id AND digest IN :digests",
                id=job.id,
                digests=set(digests),
            )
            if job.state == JobState.RECEIVING and not _blobs_by_digest(connection, job.id):
                connection.execute("DELETE FROM jobs WHERE id = :id", id=job.id)


def _incomplete_jobs(
    connection: Connection, registry: str, repository: str, machine: str | None
) -> list[JobRecord]:
    query = f"""SELECT * FROM jobs
        WHERE host = :host AND repository = :repository AND tag IS NULL AND {_INCOMPLETE}
        {_of_machine(machine)}
        ORDER BY id FOR UPDATE"""
    found = connection.rows(query, host=registry, repository=repository, machine=machine)
    return list(map(job_of, found))


def _of_machine(machine: str | None) -> str:
    return "" if machine is None else "AND (machine IS NULL OR machine = :machine)"


def _is_at_work(connection: Connection, registry: str, repository: str, digest: str) -> bool:
    """Return whether an unfinished job with a manifest sends the blob to the repository."""
    query = """SELECT 1 FROM jobs JOIN job_blobs ON job_blobs.job_id = jobs.id
        WHERE job_blobs.digest = :digest AND jobs.host = :host AND jobs.repository = :repository
        AND jobs.finished_at IS NULL AND jobs.config_digest <> '' LIMIT 1"""
    return connection.value(query, digest=digest, host=registry, repository=repository) is not None


def _blobs_by_digest(connection: Connection, job_id: int) -> dict[str, ResultRow]:
    rows = connection.rows("SELECT * FROM job_blobs WHERE job_id = :id ORDER BY position", id=job_id)
    return {row["digest"]: row for row in rows}


def _digests_of(new: NewJob) -> set[str]:
    return {new.config_digest} | {blob.digest for blob in new.blobs if blob.digest is not None}


def _add_blobs(connection: Connection, job_id: int, blobs: Iterable[Mapping[str, Any]]) -> None:
    """Add blobs to a job without a manifest; one that it has is to be sent again unless it is done."""
    known = _blobs_by_digest(connection, job_id)
    first = 1 + max((row["position"] for row in known.values()), default=-1)
    for position, blob in enumerate(blobs, first):
        row = known.get(blob["digest"])
        if row is None:
            kind = {"kind": BlobKind.OTHER, "diff_id": None, "media_type": None}
            insert_blobs(connection, [{"job_id": job_id, "position": position, **kind, **blob}])
        elif row["state"] not in DONE_STATES:
            connection.execute(
                "UPDATE job_blobs SET state = :state WHERE job_id = :job_id AND digest = :digest",
                job_id=job_id,
                state=blob["state"],
                digest=blob["digest"],
            )


def _with_progress(
    rows: Iterable[dict[str, Any]], received: Mapping[str, ResultRow]
) -> Iterable[dict[str, Any]]:
    """Yield the rows of a job's blobs with the progress that these have, counted once."""
    left = dict(received)
    for values in rows:
        progress: dict[str, Any] = {}
        if (row := received.get(values["digest"])) is not None and row["state"] in DONE_STATES:
            progress["state"] = row["state"]
        if (first := left.pop(values["digest"], None)) is not None:
            progress |= {name: first[name] for name in ("bytes_sent", "bytes_wasted")}
        yield {**values, **progress}
