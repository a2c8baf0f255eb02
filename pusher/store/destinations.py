"""Order several jobs for one tag: which one supersedes others, and which one sets the tag next.

A tag ends at the image that was enqueued last, whichever job finishes first. What a job may do depends on the
other jobs of its destination, and is looked up whenever a job is added, claimed, requeued or about to set its
tag, so no job is notified.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

from pusher.dataclass import dataclass
from pusher.errors import TagNotYet
from pusher.errors.catalogue import unfixable_codes
from pusher.store.connection import Connection
from pusher.store.engine import Database
from pusher.store.events import record
from pusher.store.job_rows import IS_UNCHANGED, job_of, unchanged
from pusher.store.leases import NO_WAIT, NOT_RUNNING, is_lapsed, lease_values
from pusher.store.records import JobRecord, JobState, NewJob
from pusher.store.writes import assignments, lock_rows


def _blocks(table: str) -> str:
    """Return the condition that a job sets the tag first, whatever the newer one keeps."""
    return f"({table}.finished_at IS NULL AND {table}.tagging_at IS NOT NULL AND NOT {is_lapsed(table)})"


def _sets_tag(table: str) -> str:
    """Return the condition that a job has set the tag, is about to, or will and keeps nothing older."""
    will = f"{table}.finished_at IS NULL AND NOT {table}.keeps_older"
    return f"({table}.state = 'succeeded' OR {table}.tagging_at IS NOT NULL OR {will})"


_AT_PLACE: Final = "(jobs.host = :host AND jobs.repository = :repository AND jobs.tag = :tag)"
_SAME_PLACE: Final = (
    "(other.host = jobs.host AND other.repository = jobs.repository AND other.tag = jobs.tag)"
)

HAS_NEWER: Final = f"""EXISTS (
    SELECT 1 FROM jobs AS other WHERE {_SAME_PLACE} AND other.id > jobs.id AND {_sets_tag("other")}
)"""
"""The condition, for queries of jobs, that ``newer_job`` finds one."""


def is_replaced(table: str) -> str:
    """Return the condition that a job did not succeed, and a newer one has pushed to its destination."""
    return f"""({table}.state IN ('failed', 'cancelled') AND EXISTS (
        SELECT 1 FROM jobs AS newer
        WHERE newer.host = {table}.host AND newer.repository = {table}.repository AND newer.tag = {table}.tag
        AND newer.id > {table}.id AND newer.state = 'succeeded'
    ))"""


_REPLACEMENTS: Final = f"""SELECT jobs.id AS job_id,
        COALESCE(max(CASE WHEN other.state = 'succeeded' THEN other.id END), max(other.id)) AS newer
    FROM jobs JOIN jobs AS other ON {_SAME_PLACE} AND other.id > jobs.id AND {_sets_tag("other")}
    WHERE jobs.id IN :ids AND jobs.state IN ('failed', 'cancelled') GROUP BY jobs.id"""

WAITS_FOR_TURN: Final = f"(jobs.error_code IS NOT NULL AND jobs.error_code = '{TagNotYet.code}')"
"""A job waits for its turn to set the tag."""

IS_AHEAD: Final = (
    f"{_SAME_PLACE} AND other.id < jobs.id"
    f" AND other.finished_at IS NULL AND (jobs.keeps_older OR {_blocks('other')})"
)
"""The other job sets the tag first; the values are those of ``store.leases``."""


@dataclass(frozen=True)
class OlderJob:
    """A job that may set the tag before a newer one does."""

    id: int
    image: str
    state: JobState


def lock_destination(database: Database, connection: Connection, job: JobRecord | NewJob) -> None:
    """Keep others from adding jobs for this destination or setting its tag until the transaction ends."""
    if job.tag is not None:
        database.lock(connection, f"{job.registry}/{job.repository}:{job.tag}")


def supersede_older(connection: Connection, job: JobRecord, now: datetime) -> list[JobRecord]:
    """End the unfinished older jobs of a new job's destination; return them as they were read.

    A job that is setting the tag is skipped: its request cannot be withdrawn, and the new job sets the tag
    after it.
    """
    if job.tag is None or job.keeps_older:
        return []
    older = connection.rows(
        f"""SELECT * FROM jobs WHERE {_AT_PLACE} AND id < :id AND finished_at IS NULL AND tagging_at IS NULL
        ORDER BY id""",
        id=job.id,
        **_place(job),
    )
    return [each for each in map(job_of, older) if supersede(connection, each, job.id, now)]


def lock_older(connection: Connection, job: JobRecord) -> None:
    """Lock the rows of a job and of the unfinished older ones of its destination."""
    if job.tag is not None:
        older = f"{_AT_PLACE} AND id <= :id AND finished_at IS NULL"
        lock_rows(connection, "jobs", older, id=job.id, **_place(job))


def newer_job(connection: Connection, job: JobRecord) -> int | None:
    """Return the newer job that has set, is setting or will set the tag; None if this job may set it."""
    if job.tag is None:
        return None
    newer: int | None = connection.value(
        f"""SELECT id FROM jobs WHERE {_AT_PLACE} AND id > :id AND {_sets_tag("jobs")}
        ORDER BY id DESC LIMIT 1""",
        id=job.id,
        **_place(job),
    )
    return newer


def replacements(connection: Connection, job_ids: Collection[int]) -> dict[int, int]:
    """Return, of those of the jobs that failed or were cancelled, the newer job that has pushed to the same
    destination, else the one that will; a retry is refused for them."""
    return {row["job_id"]: row["newer"] for row in connection.rows(_REPLACEMENTS, ids=job_ids)}


def beyond_retry(connection: Connection, job_ids: Collection[int]) -> frozenset[int]:
    """Return those of the jobs that a retry cannot help: the error is final, or a newer job has the tag."""
    query = f"""SELECT id FROM jobs WHERE state = 'failed' AND id IN :ids
        AND (error_code IN :unfixable OR {HAS_NEWER})"""
    return frozenset(connection.column(query, ids=job_ids, unfixable=unfixable_codes()))


def supersede(connection: Connection, job: JobRecord, by: int, now: datetime) -> bool:
    """End an unfinished job that is still as it was read; return False if it has changed."""
    values = {
        **NOT_RUNNING,
        **NO_WAIT,
        "state": JobState.SUPERSEDED,
        "superseded_by": by,
        "lease_token": job.lease_token + 1,
        "next_try_at": None,
        "finished_at": now,
    }
    change = f"UPDATE jobs SET {assignments(values)} WHERE {IS_UNCHANGED}"
    if connection.execute(change, **values, **unchanged(job)) != 1:
        return False
    record(connection, job.id, now, JobState.SUPERSEDED, f"superseded by job {by}, which is newer")
    return True


def job_to_wait_for(
    connection: Connection,
    job: JobRecord,
    now: datetime,
    dead_owners: Collection[str],
    expired_owners: Collection[str],
) -> OlderJob | None:
    """Return the oldest job that must set the tag before this one; None if there is none."""
    blocks = "finished_at IS NULL" if job.keeps_older else _blocks("jobs")
    row = connection.row(
        f"SELECT id, image, state FROM jobs WHERE {_AT_PLACE} AND id < :id AND {blocks} ORDER BY id LIMIT 1",
        id=job.id,
        **_place(job),
        **lease_values(now, dead_owners, expired_owners),
    )
    return None if row is None else OlderJob(row["id"], row["image"], JobState(row["state"]))


def _place(job: JobRecord) -> dict[str, Any]:
    return {"host": job.registry, "repository": job.repository, "tag": job.tag}
