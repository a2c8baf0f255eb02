"""Delete old rows from the job store, so that it does not grow without limit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Final

from pusher.dataclass import dataclass
from pusher.store.connection import Connection, json_of
from pusher.store.engine import Database
from pusher.store.records import JobDocument, JobState

_BATCH: Final = 2000
"""Rows deleted in one transaction, so that workers do not wait long."""
_MIN_AGE: Final = timedelta(hours=1)
"""Age below which only jobs are deleted: a job that needs the rest may be about to be recorded."""

_NOT_SUCCEEDED: Final = frozenset(JobState) - {JobState.SUCCEEDED}

_HOLDS_ANOTHER: Final = """(
    state IN ('failed', 'cancelled') AND id IN (
        SELECT after_job FROM jobs AS later WHERE later.finished_at IS NULL AND later.after_job IS NOT NULL
    )
)"""
"""Another job starts after this one, which did not succeed: without it that one would start."""

Step = Callable[[Connection], int]


@dataclass(frozen=True)
class PruneCounts:
    """How many rows were deleted: ``known`` are those about blobs, layers and manifests."""

    jobs: int
    known: int


class Retention:
    """Deletes finished jobs, and data that only they needed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def prune(self, before: datetime, *, blobs: Collection[str] = (), dry_run: bool = False) -> PruneCounts:
        """Forget jobs that finished before a moment, with their layers and events, and what is known of blobs
        and manifests that no job is left for and that was not used since.

        ``blobs``: digests in the spool; the layers they were made from are kept. With ``dry_run`` rows are
        only counted.
        """
        unused = min(before, self._database.now() - _MIN_AGE)
        with self._transactions(dry_run) as run:
            jobs = run(lambda connection: _jobs(connection, before))
            known = run(lambda connection: _uploads(connection, unused))
            known += run(lambda connection: _known_blobs(connection, unused, blobs))
            known += run(lambda connection: _documents(connection, unused))
        return PruneCounts(jobs, known)

    def has_expired(self, before: datetime) -> bool:
        """Return whether a job finished before a moment."""
        query = f"SELECT id FROM jobs WHERE finished_at < :before AND NOT {_HOLDS_ANOTHER} LIMIT 1"
        with self._database.read() as connection:
            return connection.value(query, before=before) is not None

    def compact(self) -> int:
        """Shrink the file of a SQLite store if much of it is free; return the bytes freed.

        Does not wait for a lock: do not call it while a worker runs.
        """
        return self._database.compact()

    @contextmanager
    def _transactions(self, dry_run: bool) -> Iterator[Callable[[Step], int]]:
        """Return how to run steps, each of which deletes at most a batch and returns how many rows: until
        nothing is left to delete, or in one transaction that is undone."""

        def until_done(step: Step) -> int:
            total = 0
            while True:
                with self._database.write() as connection:
                    deleted = step(connection)
                total += deleted
                if not deleted:
                    return total

        if not dry_run:
            yield until_done
            return
        with self._database.dry_run() as connection:

            def only_counted(step: Step) -> int:
                return sum(iter(lambda: step(connection), 0))

            yield only_counted


def _jobs(connection: Connection, before: datetime) -> int:
    ids = connection.column(
        f"""SELECT id FROM jobs WHERE finished_at < :before AND NOT {_HOLDS_ANOTHER}
        ORDER BY finished_at LIMIT :batch FOR UPDATE SKIP LOCKED""",
        before=before,
        batch=_BATCH,
    )
    return connection.execute("DELETE FROM jobs WHERE id IN :ids", ids=ids) if ids else 0


def _uploads(connection: Connection, unused: datetime) -> int:
    # SQLite would rather use the index of states or of owners, which almost all rows have in common
    ids = connection.column(
        """SELECT id FROM uploads WHERE (used_at IS NULL OR used_at < :unused)
        AND NOT state IN ('open', 'closing', 'abandoned') AND coalesce(lease_owner, '') = ''
        AND NOT EXISTS (SELECT 1 FROM job_blobs WHERE job_blobs.digest = uploads.digest) LIMIT :batch
        FOR UPDATE SKIP LOCKED""",
        unused=unused,
        batch=_BATCH,
    )
    return connection.execute("DELETE FROM uploads WHERE id IN :ids", ids=ids) if ids else 0


def _known_blobs(connection: Connection, unused: datetime, blobs: Collection[str]) -> int:
    found = connection.rows(
        """SELECT diff_id, digest FROM known_blobs WHERE created_at < :unused
        AND NOT EXISTS (SELECT 1 FROM job_blobs WHERE job_blobs.diff_id = known_blobs.diff_id)""",
        unused=unused,
    )
    kept = set(blobs)
    gone = [row for row in found if row["digest"] not in kept][:_BATCH]
    connection.execute_many(
        "DELETE FROM known_blobs WHERE diff_id = :diff_id AND digest = :digest",
        [{"diff_id": row["diff_id"], "digest": row["digest"]} for row in gone],
    )
    return len(gone)


def _documents(connection: Connection, unused: datetime) -> int:
    query = "SELECT digest FROM documents WHERE used_at IS NULL OR used_at < :unused"
    found = connection.column(query, unused=unused)
    if not found:
        return 0
    # A job that succeeded since then does not need them any more; others can be retried.
    jobs = "SELECT config_digest, documents FROM jobs WHERE state IN :states"
    needed: set[str] = set()
    for row in connection.rows(jobs, states=_NOT_SUCCEEDED):
        needed.add(row["config_digest"])
        needed.update(JobDocument.from_json(document).digest for document in json_of(row["documents"]))
    gone = [digest for digest in found if digest not in needed][:_BATCH]
    connection.execute("DELETE FROM documents WHERE digest IN :gone", gone=gone)
    return len(gone)
