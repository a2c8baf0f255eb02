"""The conditions of queries: which jobs a worker can claim now, and which are worth waiting for."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from pusher.config.window import read_window
from pusher.store.connection import Connection
from pusher.store.destinations import IS_AHEAD, WAITS_FOR_TURN, is_replaced
from pusher.store.leases import HAS_ENDED, IS_DUE, is_lapsed
from pusher.store.records import Machine

UNFINISHED: Final = "jobs.finished_at IS NULL"
"""The exact condition of the claim index, so that SQLite uses it."""


def is_for_machine(table: str) -> str:
    """Return the condition that a machine can work on a job: any can, it has the image, or its spool has all
    blobs. The values are those of ``machine_values``."""
    shares = f"{table}.spool IS NOT NULL AND {table}.spool = :spool"
    return f"({table}.machine IS NULL OR {table}.machine = :machine OR {shares})"


def machine_values(machine: Machine | None) -> dict[str, str]:
    """Return the values for ``is_for_machine``; without a machine only jobs for any match."""
    if machine is None:
        return {"machine": "", "spool": ""}
    return {"machine": machine.id, "spool": machine.spool or ""}


IS_FREE_TO_START: Final = f"""(
    (jobs.not_before IS NULL OR jobs.not_before <= :now)
    AND (jobs.after_job IS NULL OR NOT EXISTS (
        SELECT 1 FROM jobs AS earlier
        WHERE earlier.id = jobs.after_job AND earlier.state NOT IN ('succeeded', 'superseded')
        AND NOT {is_replaced("earlier")}
    ))
)"""
"""Neither a time nor another job holds a queued job back; one that was pruned had ended."""

IS_IN_WINDOW: Final = "(jobs.time_window IS NULL OR jobs.time_window NOT IN :closed_windows)"
"""The job may be pushed at this time of the day."""

IS_RUNNABLE: Final = f"""(
    {UNFINISHED}
    AND {is_for_machine("jobs")}
    AND {IS_IN_WINDOW}
    AND (
        state = 'queued' AND {IS_FREE_TO_START}
        OR state = 'receiving' AND EXISTS (
            SELECT 1 FROM job_blobs WHERE job_blobs.job_id = jobs.id AND job_blobs.state = 'ready'
        )
        OR {IS_DUE} AND NOT ({WAITS_FOR_TURN} AND EXISTS (SELECT 1 FROM jobs AS other WHERE {IS_AHEAD}))
        OR state = 'running' AND lease_owner <> :owner AND {is_lapsed("jobs")}
        OR state = 'running' AND lease_owner = :owner AND :finds_unanswered
    )
    AND jobs.id NOT IN :at_work
)"""
"""``owner`` can claim a job; the other values are those of ``Jobs.claim``."""

_NOT_OURS: Final = f"""(
    other.state = 'paused' OR other.id IN :put_off OR :has_choice AND other.id NOT IN :only
    OR NOT {is_for_machine("other")} OR other.time_window IN :closed_windows
)"""
"""This run will not push the other job."""

IS_WORTH_WAITING_FOR: Final = f"""(
    {UNFINISHED}
    AND {is_for_machine("jobs")}
    AND {IS_IN_WINDOW}
    AND state = 'waiting'
    AND jobs.id NOT IN :put_off
    AND NOT (
        {WAITS_FOR_TURN}
        AND EXISTS (
            SELECT 1 FROM jobs AS other WHERE {IS_AHEAD} AND other.state <> 'running' AND {_NOT_OURS}
        )
    )
)"""
"""A job waits and will be runnable; the values are those of ``Jobs.has_waiting``.

It will not be if it waits for its turn after one that this run will not push: that one is paused, ``put_off``
until the user acts, not among ``only``, another machine's, or outside of its window; another worker may have
it.
"""


def closed_windows(connection: Connection, now: datetime) -> list[str]:
    """Return the windows of unfinished jobs that are closed at ``now``, by the local time of this machine."""
    query = "SELECT DISTINCT time_window FROM jobs WHERE finished_at IS NULL AND time_window IS NOT NULL"
    return [text for text in connection.column(query) if not read_window(text).is_open(now)]


def next_openings(connection: Connection, now: datetime) -> list[datetime]:
    """Return when each closed window of unfinished jobs opens."""
    return [read_window(text).opens_at(now) for text in closed_windows(connection, now)]


ALL_LEASES: Final = f"""
    SELECT lease_owner, max(lease_expires_at) AS latest,
        max(CASE WHEN {HAS_ENDED} THEN 1 ELSE 0 END) AS have_ended
    FROM (
        SELECT lease_owner, lease_expires_at FROM jobs WHERE lease_owner IS NOT NULL
        UNION ALL SELECT lease_owner, lease_expires_at FROM uploads WHERE lease_owner > ''
    ) AS leases GROUP BY lease_owner"""
"""The owners of running jobs and of uploads; with IS NOT NULL SQLite reads all uploads."""
