"""Claim jobs for a worker, under leases that it renews."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    func,
    or_,
    select,
    update,
)

from pusher.errors import LeaseLost
from pusher.store import destinations
from pusher.store.destinations import OlderJob
from pusher.store.engine import Database
from pusher.store.events import record
from pusher.store.job_changes import change_job
from pusher.store.job_rows import NO_ERROR, error_columns, job_of
from pusher.store.leases import (
    NO_WAIT,
    NOT_RUNNING,
    has_ended,
    is_current,
    is_held,
    job_id_in,
    lease_columns,
    require_lease,
)
from pusher.store.models import JobRow, UploadRow
from pusher.store.records import JobRecord, JobState, StoredError
from pusher.store.runnable import UNFINISHED, is_runnable, is_worth_waiting_for, owners_where


class LeasedJobs:
    """Claims and leases.

    Methods that take a JobRecord raise LeaseLost if the job no longer runs under the record's lease.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(
        self,
        owner: str,
        *,
        lease: float,
        dead_owners: Collection[str] = (),
        spared: Collection[str] = (),
        only: Collection[int] | None = None,
        at_work: Collection[int] | None = None,
        waited: Collection[int] = (),
    ) -> JobRecord | None:
        """Take the next runnable job for ``lease`` seconds: highest priority, then lowest id.

        Runnable are queued jobs, waiting jobs that are due, and running jobs whose lease has expired, unless
        its owner is ``spared``, or whose owner is among ``dead_owners``. ``only`` restricts the choice to
        these ids. A job superseded by a newer one is ended instead.

        ``at_work``: ids that the owner still works on, in whatever state; they are skipped. Any other job
        under the owner's lease is one whose claim it never received, and is returned again.
        ``waited``: ids whose pause is over by the owner's own clock.
        """
        now = self._database.now()
        runnable = is_runnable(owner, now, dead_owners, spared, at_work, waited)
        query = select(JobRow).where(runnable).order_by(JobRow.priority.desc(), JobRow.id).limit(1)
        if only is not None:
            query = query.where(job_id_in(only))
        with self._database.write() as connection:
            while True:
                row = connection.execute(query.with_for_update(skip_locked=True)).one_or_none()
                if row is None:
                    return None
                before = job_of(row)
                newer = destinations.newer_job(connection, before)
                if newer is None:
                    break
                destinations.supersede(connection, before, newer, now)
            values = {
                **lease_columns(owner, now, lease),
                "state": JobState.RUNNING,
                "lease_token": before.lease_token + 1,
                "started_at": before.started_at or now,
                "next_try_at": None,
                "tagging_at": None,
            }
            job = change_job(connection, before, values)
            how = f"claimed by {owner}"
            if before.state == JobState.RUNNING and before.lease_owner != owner:
                how = f"taken over by {owner} from {before.lease_owner}, which is gone"
            record(connection, job.id, now, JobState.RUNNING, how)
        return job

    def has_waiting(
        self,
        dead_owners: Collection[str] = (),
        spared: Collection[str] = (),
        *,
        only: Collection[int] | None = None,
        put_off: Collection[int] = (),
    ) -> bool:
        """Return whether a job waits that will be runnable without the user.

        This excludes jobs ``put_off`` until the user acts, those not among ``only``, and those that set a tag
        after one of these. ``dead_owners`` and ``spared`` as for ``claim``.
        """
        now = self._database.now()
        query = (
            select(JobRow.id).where(is_worth_waiting_for(now, dead_owners, spared, only, put_off)).limit(1)
        )
        if only is not None:
            query = query.where(job_id_in(only))
        with self._database.read() as connection:
            return connection.scalar(query) is not None

    def owners(self) -> set[str]:
        """Return the owners of current leases of jobs or uploads."""
        return self._owners(is_current)

    def lapsed_owners(self) -> set[str]:
        """Return the owners of expired leases of jobs or uploads that were not taken over."""
        return self._owners(has_ended)

    def _owners(self, matches: Callable[[Any, datetime], ColumnElement[bool]]) -> set[str]:
        now = self._database.now()
        query = owners_where(matches(JobRow.lease_expires_at, now), matches(UploadRow.lease_expires_at, now))
        with self._database.read() as connection:
            return set(connection.scalars(query))

    def renew(self, owner: str, lease: float) -> None:
        """Extend every lease of this owner, of jobs and uploads, to ``lease`` seconds from now."""
        until = lease_columns(owner, self._database.now(), lease)
        with self._database.write() as connection:
            connection.execute(update(JobRow).where(UNFINISHED, JobRow.lease_owner == owner).values(until))
        with self._database.write() as connection:
            connection.execute(update(UploadRow).where(UploadRow.lease_owner == owner).values(until))

    def take_tag(
        self, job: JobRecord, dead_owners: Collection[str] = (), spared: Collection[str] = ()
    ) -> OlderJob | None:
        """Record that the job is about to set its tag; call this before each request that does.

        Returns the older job that must finish first, if any; then nothing is recorded. ``dead_owners`` and
        ``spared`` as for ``claim``. Raises LeaseLost, also if a newer job has replaced this one.
        """
        now = self._database.now()
        with self._database.write() as connection:
            destinations.lock_destination(self._database, connection, job)
            require_lease(connection, job)
            newer = destinations.newer_job(connection, job)
            if newer is None:
                destinations.supersede_older(connection, job, now)
                older = destinations.job_to_wait_for(connection, job, now, dead_owners, spared)
                if older is None:
                    connection.execute(update(JobRow).where(is_held(job)).values(tagging_at=now))
                return older
            destinations.supersede(connection, job, newer, now)
        raise LeaseLost(f"job {newer} supersedes job {job.id}")

    def check_lease(self, job: JobRecord) -> None:
        """Raise LeaseLost if the job was paused, cancelled or taken over."""
        with self._database.read() as connection:
            if connection.scalar(select(JobRow.id).where(is_held(job))) is None:
                raise LeaseLost(f"job {job.id} no longer belongs to this worker")

    def release(
        self,
        job: JobRecord,
        *,
        state: JobState,
        next_try_at: datetime | None = None,
        error: StoredError | None = None,
        attempt: bool,
        progress: bool = False,
    ) -> None:
        """Release the job: ``queued``, or ``waiting`` until ``next_try_at``.

        ``attempt``: whether to count an attempt. ``progress``: some was made, so that a wait is a new one.
        """
        if state not in (JobState.QUEUED, JobState.WAITING) or (state == JobState.WAITING) != (
            next_try_at is not None
        ):
            raise ValueError(f"a job is released as queued, or as waiting until a time; not as {state}")
        message = error.message if error else "stopped"
        wait: dict[str, Any] = NO_WAIT if progress else {}
        if state == JobState.WAITING:
            now = self._database.now()
            since = now if progress else func.coalesce(JobRow.waiting_since, now)
            wait = {**wait, "waiting_since": since}
        self._leave(
            job,
            state,
            message,
            next_try_at=next_try_at,
            attempts=JobRow.attempts + int(attempt),
            **wait,
            **error_columns(error),
        )

    def take_wait_report(self, job: JobRecord, code: str, *, after: float) -> bool:
        """Return whether to report that the job waits, and record that it was reported with this error.

        It is reported once it has waited for ``after`` seconds without progress; with 0 at once, also if the
        same wait was reported with another error.
        """
        now = self._database.now()
        new = JobRow.waiting_reported.is_(None)
        due = JobRow.waiting_since <= now - timedelta(seconds=after)
        change = (
            update(JobRow)
            .where(JobRow.id == job.id, JobRow.lease_token == job.lease_token)
            .where(JobRow.state == JobState.WAITING)
            .where(due & new if after else or_(new, JobRow.waiting_reported != code))
            .values(waiting_reported=code)
        )
        with self._database.write() as connection:
            return connection.execute(change).rowcount == 1

    def succeed(self, job: JobRecord, digest: str) -> None:
        """End the job as succeeded: the manifest ``digest`` is pushed."""
        self._leave(
            job,
            JobState.SUCCEEDED,
            f"pushed {digest}",
            digest=digest,
            finished_at=self._database.now(),
            attempts=JobRow.attempts + 1,
            **NO_WAIT,
            **NO_ERROR,
        )

    def fail(self, job: JobRecord, error: StoredError) -> None:
        """End the job as failed: a retry does not help."""
        self._leave(
            job,
            JobState.FAILED,
            error.message,
            finished_at=self._database.now(),
            attempts=JobRow.attempts + 1,
            **NO_WAIT,
            **error_columns(error),
        )

    def _leave(self, job: JobRecord, state: JobState, message: str, **values: Any) -> None:
        """End the lease, change the state and record the event."""
        now = self._database.now()
        with self._database.write() as connection:
            change = update(JobRow).where(is_held(job)).values(state=state, **values, **NOT_RUNNING)
            if connection.execute(change).rowcount == 0:
                raise LeaseLost(f"job {job.id} no longer belongs to this worker")
            record(connection, job.id, now, state, message)
