"""Define leases of jobs and uploads: an owner, a fencing token and an expiry time.

The owner is a worker process. The token increases with every claim, so that a worker whose lease expired
cannot change what another one has taken over.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, bindparam, or_, select

from pusher import retry
from pusher.errors import LeaseLost
from pusher.store.models import JobRow, UploadRow
from pusher.store.records import JobRecord, JobState


def lease_columns(owner: str, now: datetime, lease: float) -> dict[str, Any]:
    """Return the columns of a lease taken now for ``lease`` seconds."""
    return {"lease_owner": owner, "lease_expires_at": now + timedelta(seconds=lease)}


NO_LEASE: dict[str, Any] = {"lease_owner": None, "lease_expires_at": None}

NOT_RUNNING: dict[str, Any] = {**NO_LEASE, "tagging_at": None}
"""The columns of a job without a worker."""
NO_WAIT: dict[str, Any] = {"waiting_since": None, "waiting_reported": None}
"""The columns of a job that has not waited since it last made progress."""

LONGEST_WAIT: Final = timedelta(seconds=retry.LONGEST_WAIT)
"""Longest wait of a job: a longer one was recorded before a clock change."""
LONGEST_LEASE: Final = timedelta(hours=24)
"""Longest lease: a longer one was recorded before a clock change."""


def has_ended(expires_at: Any, now: datetime) -> ColumnElement[bool]:
    """Return the condition that a lease has expired at ``now``, also if the clock was set back."""
    return or_(expires_at <= now, expires_at > now + LONGEST_LEASE)


def is_current(expires_at: Any, now: datetime) -> ColumnElement[bool]:
    """Return the negation of ``has_ended``, written out because no index is used for NOT."""
    return and_(expires_at > now, expires_at <= now + LONGEST_LEASE)


def job_id_in(ids: Collection[int], table: Any = JobRow) -> ColumnElement[bool]:
    """Return the condition that a job is one of ``ids``, which may exceed a statement's parameters."""
    among: Any = bindparam(None, sorted(set(ids)), expanding=True, literal_execute=True)
    condition: ColumnElement[bool] = table.id.in_(among)
    return condition


def is_lapsed(
    table: type[JobRow] | type[UploadRow],
    now: datetime,
    dead_owners: Collection[str],
    spared: Collection[str] = (),
) -> ColumnElement[bool]:
    """Return the condition that a lease can be taken over: it has expired and its owner is not ``spared``,
    or its owner is dead."""
    ended = and_(has_ended(table.lease_expires_at, now), table.lease_owner.not_in(set(spared)))
    return or_(ended, table.lease_owner.in_(set(dead_owners)))


def is_due(now: datetime, ids: Collection[int]) -> ColumnElement[bool]:
    """Return the condition that a job's wait is over, by the store's clock or the caller's (``ids``)."""
    next_try = JobRow.next_try_at
    return and_(
        JobRow.state == JobState.WAITING,
        or_(next_try <= now, next_try > now + LONGEST_WAIT, job_id_in(ids)),
    )


def is_held(job: JobRecord) -> ColumnElement[bool]:
    """Return the condition that the job still runs under the record's lease."""
    return and_(
        JobRow.id == job.id,
        JobRow.state == JobState.RUNNING,
        JobRow.lease_owner == job.lease_owner,
        JobRow.lease_token == job.lease_token,
    )


def require_lease(connection: Connection, job: JobRecord) -> None:
    """Lock the job's lease until the end of the transaction. Raises LeaseLost."""
    if connection.scalar(select(JobRow.id).where(is_held(job)).with_for_update(read=True)) is None:
        raise LeaseLost(f"job {job.id} no longer belongs to this worker")
