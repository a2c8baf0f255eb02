"""Define leases of jobs and uploads: an owner, a fencing token and an expiry time.

The owner is a worker process. The token increases with every claim, so that a worker whose lease expired
cannot change what another one has taken over.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, Final

from pusher import retry
from pusher.dataclass import dataclass
from pusher.errors import LeaseLost
from pusher.store.connection import Connection
from pusher.store.records import JobRecord


@dataclass(frozen=True)
class OwnerLeases:
    """The leases of one owner, of jobs and uploads."""

    owner: str
    latest: datetime
    """When the last of them expires: another time shows that the owner was alive."""
    have_ended: bool
    """Whether one of them has expired by the store's clock."""


def lease_columns(owner: str, now: datetime, lease: float) -> dict[str, Any]:
    """Return the columns of a lease taken now for ``lease`` seconds."""
    return {"lease_owner": owner, "lease_expires_at": now + timedelta(seconds=lease)}


NO_LEASE: Final[dict[str, Any]] = {"lease_owner": None, "lease_expires_at": None}

NO_SPEED: Final[dict[str, Any]] = {"speed": None, "in_flight": None}
NOT_RUNNING: Final[dict[str, Any]] = {**NO_LEASE, **NO_SPEED, "tagging_at": None}
"""The columns of a job without a worker."""
NO_WAIT: Final[dict[str, Any]] = {"waiting_since": None, "waiting_reported": None}
"""The columns of a job that has not waited since it last made progress."""

LONGEST_WAIT: Final = timedelta(seconds=retry.LONGEST_WAIT)
"""Longest wait of a job: a longer one was recorded before a clock change."""
LONGEST_LEASE: Final = timedelta(hours=24)
"""Longest lease: a longer one was recorded before a clock change."""


def lease_values(
    now: datetime, dead_owners: Collection[str] = (), expired_owners: Collection[str] = ()
) -> dict[str, Any]:
    """Return the values for the conditions of this module."""
    return {
        "now": now,
        "longest_lease": now + LONGEST_LEASE,
        "longest_wait": now + LONGEST_WAIT,
        "dead_owners": set(dead_owners),
        "expired_owners": set(expired_owners),
    }


HAS_ENDED: Final = "(lease_expires_at <= :now OR lease_expires_at > :longest_lease)"
"""A lease has expired, also if the clock was set back."""

IS_DUE: Final = (
    "(state = 'waiting' AND (next_try_at <= :now OR next_try_at > :longest_wait OR jobs.id IN :waited))"
)
"""A job's wait is over, by the store's clock or the caller's (``waited``)."""

IS_HELD: Final = (
    "(id = :held_id AND state = 'running' AND lease_owner = :held_by AND lease_token = :held_token)"
)
"""The job still runs under a record's lease."""


def has_ended(table: str) -> str:
    """Return HAS_ENDED for a table."""
    return f"({table}.lease_expires_at <= :now OR {table}.lease_expires_at > :longest_lease)"


def is_lapsed(table: str) -> str:
    """Return the condition that a lease can be taken over: its owner is dead, or it has expired and its owner
    is one of ``expired_owners``, whose leases the caller has seen expired for long enough."""
    expired = f"{has_ended(table)} AND {table}.lease_owner IN :expired_owners"
    return f"({expired} OR {table}.lease_owner IN :dead_owners)"


def held(job: JobRecord) -> dict[str, Any]:
    """Return the values for IS_HELD."""
    return {"held_id": job.id, "held_by": job.lease_owner, "held_token": job.lease_token}


def require_lease(connection: Connection, job: JobRecord) -> None:
    """Lock the job's lease until the end of the transaction. Raises LeaseLost."""
    if connection.value(f"SELECT id FROM jobs WHERE {IS_HELD} FOR SHARE", **held(job)) is None:
        raise LeaseLost(f"job {job.id} no longer belongs to this worker")
