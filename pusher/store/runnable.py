"""Build query conditions: which jobs a worker can claim now, and which are worth waiting for."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, false, or_, select

from pusher.store.destinations import not_its_turn, waits_in_vain
from pusher.store.leases import is_due, is_lapsed, job_id_in
from pusher.store.models import JobRow, UploadRow
from pusher.store.records import JobState

UNFINISHED = JobRow.finished_at.is_(None)
"""The exact condition of the claim index, so that SQLite uses it."""


def is_runnable(
    owner: str,
    now: datetime,
    dead_owners: Collection[str],
    spared: Collection[str],
    at_work: Collection[int] | None,
    waited: Collection[int],
) -> ColumnElement[bool]:
    """Return whether ``owner`` can claim a job; the arguments are those of ``Jobs.claim``."""
    running = JobRow.state == JobState.RUNNING
    unanswered = false() if at_work is None else and_(running, JobRow.lease_owner == owner)
    return and_(
        UNFINISHED,
        or_(
            JobRow.state == JobState.QUEUED,
            and_(is_due(now, waited), ~not_its_turn(now, dead_owners, spared)),
            and_(running, JobRow.lease_owner != owner, is_lapsed(JobRow, now, dead_owners, spared)),
            unanswered,
        ),
        ~job_id_in(at_work or ()),
    )


def is_worth_waiting_for(
    now: datetime,
    dead_owners: Collection[str],
    spared: Collection[str],
    only: Collection[int] | None,
    put_off: Collection[int],
) -> ColumnElement[bool]:
    """Return whether a job waits and will be runnable; the arguments are those of ``Jobs.has_waiting``."""
    return and_(
        UNFINISHED,
        JobRow.state == JobState.WAITING,
        ~job_id_in(put_off),
        ~waits_in_vain(now, dead_owners, spared, only, put_off),
    )


def owners_where(jobs: ColumnElement[bool], uploads: ColumnElement[bool]) -> Any:
    """Select the owners of unfinished jobs and of uploads for which a condition holds."""
    return (
        select(JobRow.lease_owner)
        .where(UNFINISHED, JobRow.lease_owner.is_not(None), jobs)
        .union(select(UploadRow.lease_owner).where(UploadRow.lease_owner.is_not(None), uploads))
    )
