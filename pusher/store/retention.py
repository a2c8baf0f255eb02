"""Delete old rows from the job store, so that it does not grow without limit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, exists, or_, select

from pusher.store.engine import Database
from pusher.store.models import DocumentRow, JobBlobRow, JobRow, KnownBlobRow, UploadRow
from pusher.store.records import JobDocument, UploadState

_BATCH: Final = 2000
"""Rows deleted in one transaction, so that workers do not wait long."""
_FRESH: Final = timedelta(hours=1)
"""Age below which only jobs are deleted: a job that needs the rest may be about to be recorded."""

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
        unused = min(before, self._database.now() - _FRESH)
        with self._transactions(dry_run) as run:
            jobs = run(lambda connection: _jobs(connection, before))
            known = run(lambda connection: _uploads(connection, unused))
            known += run(lambda connection: _known_blobs(connection, unused, blobs))
            known += run(lambda connection: _documents(connection, unused))
        return PruneCounts(jobs, known)

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
    ids = select(JobRow.id).where(JobRow.finished_at < before).order_by(JobRow.finished_at).limit(_BATCH)
    return connection.execute(delete(JobRow).where(JobRow.id.in_(ids.scalar_subquery()))).rowcount


def _uploads(connection: Connection, unused: datetime) -> int:
    ids = (
        select(UploadRow.id)
        .where(UploadRow.state.in_([UploadState.IDLE, UploadState.PRESENT]), UploadRow.lease_owner.is_(None))
        .where(or_(UploadRow.used_at.is_(None), UploadRow.used_at < unused))
        .where(~exists().where(JobBlobRow.digest == UploadRow.digest))
        .limit(_BATCH)
    )
    return connection.execute(delete(UploadRow).where(UploadRow.id.in_(ids.scalar_subquery()))).rowcount


def _known_blobs(connection: Connection, unused: datetime, blobs: Collection[str]) -> int:
    query = select(KnownBlobRow.diff_id, KnownBlobRow.digest).where(
        KnownBlobRow.created_at < unused, ~exists().where(JobBlobRow.diff_id == KnownBlobRow.diff_id)
    )
    kept = set(blobs)
    gone = [row for row in connection.execute(query) if row.digest not in kept][:_BATCH]
    return _delete(
        connection,
        delete(KnownBlobRow).where(
            KnownBlobRow.diff_id == bindparam("one"), KnownBlobRow.digest == bindparam("two")
        ),
        [{"one": row.diff_id, "two": row.digest} for row in gone],
    )


def _documents(connection: Connection, unused: datetime) -> int:
    needed: set[str] = set()
    for config, documents in connection.execute(select(JobRow.config_digest, JobRow.documents)):
        needed.add(config)
        needed.update(JobDocument.from_json(document).digest for document in documents)
    query = select(DocumentRow.digest).where(or_(DocumentRow.used_at.is_(None), DocumentRow.used_at < unused))
    gone = [digest for digest in connection.scalars(query) if digest not in needed]
    return _delete(
        connection,
        delete(DocumentRow).where(DocumentRow.digest == bindparam("one")),
        [{"one": digest} for digest in gone[:_BATCH]],
    )


def _delete(connection: Connection, statement: Any, rows: list[dict[str, str]]) -> int:
    if rows:
        connection.execute(statement, rows)
    return len(rows)
