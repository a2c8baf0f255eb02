"""Who works on what: leases with an owner, a fencing token and an end.

The owner is a worker process. The token grows with every claim, so that a worker that slept through its
lease cannot change what another one has taken over.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, or_, select

from pusher.errors import LeaseLost
from pusher.store.models import Job, Upload
from pusher.store.records import JobRecord, JobState


def grant(owner: str, now: datetime, lease: float) -> dict[str, Any]:
    """The columns of a lease taken now for ``lease`` seconds."""
    return {"lease_owner": owner, "lease_expires_at": now + timedelta(seconds=lease)}


NO_LEASE: dict[str, Any] = {"lease_owner": None, "lease_expires_at": None}


def lapsed(
    table: type[Job] | type[Upload], now: datetime, dead_owners: Collection[str]
) -> ColumnElement[bool]:
    """Whether a lease that somebody took binds nobody any more."""
    return or_(table.lease_expires_at <= now, table.lease_owner.in_(set(dead_owners)))


def held(job: JobRecord) -> ColumnElement[bool]:
    """Whether the job still runs under the lease that the caller was given."""
    return and_(
        Job.id == job.id,
        Job.state == JobState.RUNNING,
        Job.lease_owner == job.lease_owner,
        Job.lease_token == job.lease_token,
    )


def require_job(connection: Connection, job: JobRecord) -> None:
    """Hold the job's lease fast until the end of the transaction; LeaseLost if it is not ours."""
    if connection.scalar(select(Job.id).where(held(job)).with_for_update(read=True)) is None:
        raise LeaseLost(f"job {job.id} is not ours any more")
