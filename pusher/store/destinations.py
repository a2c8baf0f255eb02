"""Order several jobs for one tag: which one supersedes others, and which one sets the tag next.

A tag ends at the image that was enqueued last, whichever job finishes first. What a job may do depends on the
other jobs of its destination, and is looked up whenever a job is added, claimed, requeued or about to set its
tag, so no job is notified.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, exists, or_, select, update
from sqlalchemy.orm import aliased

from pusher.errors import TagNotYet
from pusher.errors.catalogue import unfixable_codes
from pusher.store.engine import Database
from pusher.store.events import record
from pusher.store.job_blobs import batches
from pusher.store.job_rows import job_of
from pusher.store.leases import NO_WAIT, NOT_RUNNING, is_lapsed, job_id_in
from pusher.store.models import JobRow
from pusher.store.records import JobRecord, JobState, NewJob

_Other = aliased(JobRow, name="other")


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
    found = select(JobRow).where(_same(JobRow, job), JobRow.id < job.id, JobRow.finished_at.is_(None))
    older = [
        job_of(row)
        for row in connection.execute(found.where(JobRow.tagging_at.is_(None)).order_by(JobRow.id))
    ]
    return [each for each in older if supersede(connection, each, job.id, now)]


def newer_job(connection: Connection, job: JobRecord) -> int | None:
    """Return the newer job that has set, is setting or will set the tag; None if this job may set it."""
    if job.tag is None:
        return None
    newer = select(JobRow.id).where(_same(JobRow, job), JobRow.id > job.id, _sets_tag(JobRow))
    return connection.scalar(newer.order_by(JobRow.id.desc()).limit(1))


def has_newer() -> ColumnElement[bool]:
    """Return the condition, for queries of jobs, that ``newer_job`` finds one."""
    other: Any = _Other
    same = and_(other.host == JobRow.host, other.repository == JobRow.repository, other.tag == JobRow.tag)
    return exists().where(same, other.id > JobRow.id, _sets_tag(other))


def beyond_retry(connection: Connection, job_ids: Collection[int]) -> frozenset[int]:
    """Return those of the jobs that a retry cannot help: the error is final, or a newer job has the tag."""
    for_good = or_(JobRow.error_code.in_(unfixable_codes()), has_newer())
    query = select(JobRow.id).where(JobRow.state == JobState.FAILED, for_good)
    some = [connection.scalars(query.where(JobRow.id.in_(ids))) for ids in batches(job_ids)]
    return frozenset(chain.from_iterable(some))


def supersede(connection: Connection, job: JobRecord, by: int, now: datetime) -> bool:
    """End an unfinished job that is still as it was read; return False if it has changed."""
    unchanged = and_(JobRow.id == job.id, JobRow.state == job.state, JobRow.lease_token == job.lease_token)
    values = {
        **NOT_RUNNING,
        **NO_WAIT,
        "state": JobState.SUPERSEDED,
        "superseded_by": by,
        "lease_token": job.lease_token + 1,
        "next_try_at": None,
        "finished_at": now,
    }
    if connection.execute(update(JobRow).where(unchanged).values(values)).rowcount != 1:
        return False
    record(connection, job.id, now, JobState.SUPERSEDED, f"superseded by job {by}, which is newer")
    return True


def job_to_wait_for(
    connection: Connection,
    job: JobRecord,
    now: datetime,
    dead_owners: Collection[str],
    spared: Collection[str],
) -> OlderJob | None:
    """Return the oldest job that must set the tag before this one; None if there is none."""
    query = (
        select(JobRow.id, JobRow.image, JobRow.state)
        .where(
            _same(JobRow, job), JobRow.id < job.id, _blocks(JobRow, job.keeps_older, now, dead_owners, spared)
        )
        .order_by(JobRow.id)
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else OlderJob(row.id, row.image, row.state)


def not_its_turn(now: datetime, dead_owners: Collection[str], spared: Collection[str]) -> ColumnElement[bool]:
    """Return the condition, for claims, that a job waits for its turn to set the tag."""
    return and_(
        JobRow.error_code.is_not(None),
        JobRow.error_code == TagNotYet.code,
        exists().where(*_is_ahead(now, dead_owners, spared)),
    )


def waits_in_vain(
    now: datetime,
    dead_owners: Collection[str],
    spared: Collection[str],
    only: Collection[int] | None,
    put_off: Collection[int],
) -> ColumnElement[bool]:
    """Return the condition that a job waits for its turn after one that this run will not push.

    That one is paused, ``put_off`` until the user acts, or not among ``only``; another worker may have it.
    """
    other: Any = _Other
    not_ours = [other.state == JobState.PAUSED, job_id_in(put_off, other)]
    if only is not None:
        not_ours.append(~job_id_in(only, other))
    return and_(
        JobRow.error_code.is_not(None),
        JobRow.error_code == TagNotYet.code,
        exists().where(*_is_ahead(now, dead_owners, spared), other.state != JobState.RUNNING, or_(*not_ours)),
    )


def _is_ahead(
    now: datetime, dead_owners: Collection[str], spared: Collection[str]
) -> tuple[ColumnElement[bool], ...]:
    """Return whether the other job sets the tag first."""
    other: Any = _Other
    same = and_(other.host == JobRow.host, other.repository == JobRow.repository, other.tag == JobRow.tag)
    blocks = or_(
        and_(JobRow.keeps_older.is_(True), other.finished_at.is_(None)),
        _blocks(other, False, now, dead_owners, spared),
    )
    return same, other.id < JobRow.id, blocks


def _blocks(
    table: Any, keeps_older: bool, now: datetime, dead_owners: Collection[str], spared: Collection[str]
) -> ColumnElement[bool]:
    unfinished: ColumnElement[bool] = table.finished_at.is_(None)
    if keeps_older:
        return unfinished
    return and_(unfinished, table.tagging_at.is_not(None), ~is_lapsed(table, now, dead_owners, spared))


def _sets_tag(table: Any) -> ColumnElement[bool]:
    """Return whether a job has set the tag, is about to, or will and keeps nothing older."""
    will = and_(table.finished_at.is_(None), table.keeps_older.is_(False))
    return or_(table.state == JobState.SUCCEEDED, table.tagging_at.is_not(None), will)


def _same(table: Any, job: JobRecord) -> ColumnElement[bool]:
    return and_(table.host == job.registry, table.repository == job.repository, table.tag == job.tag)
