"""Claim jobs for a worker, under leases that it renews."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

from pusher.errors import LeaseLost
from pusher.store import destinations
from pusher.store.connection import Connection, time_if_set, time_of
from pusher.store.destinations import OlderJob
from pusher.store.engine import Database
from pusher.store.events import record
from pusher.store.job_changes import change_job
from pusher.store.job_rows import NO_ERROR, error_columns, job_of
from pusher.store.leases import (
    IS_HELD,
    NO_SPEED,
    NO_WAIT,
    NOT_RUNNING,
    OwnerLeases,
    held,
    is_lapsed,
    lease_columns,
    lease_values,
    require_lease,
)
from pusher.store.records import JobRecord, JobState, Machine, StoredError
from pusher.store.runnable import (
    ALL_LEASES,
    IS_FREE_TO_START,
    IS_IN_WINDOW,
    IS_RUNNABLE,
    IS_WORTH_WAITING_FOR,
    UNFINISHED,
    closed_windows,
    is_for_machine,
    machine_values,
    next_openings,
)
from pusher.store.schema import check_support
from pusher.store.writes import assignments, lock_rows


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
        expired_owners: Collection[str] = (),
        only: Collection[int] | None = None,
        at_work: Collection[int] | None = None,
        waited: Collection[int] = (),
        skipped: Collection[str] = (),
        last: Collection[str] = (),
        machine: Machine | None = None,
    ) -> JobRecord | None:
        """Take the next runnable job for ``lease`` seconds: highest priority, then lowest id.

        Runnable are queued jobs, waiting jobs that are due, and running jobs whose owner is among
        ``dead_owners``, or whose lease has expired and whose owner is among ``expired_owners``. ``only``
        restricts the choice to these ids. A job superseded by a newer one is ended instead.

        ``at_work``: ids that the owner still works on, in whatever state; they are skipped. Any other job
        under the owner's lease is one whose claim it never received, and is returned again.
        ``waited``: ids whose pause is over by the owner's own clock.
        ``skipped``: registries whose jobs are not taken; ``last``: those whose jobs are taken if there are no
        others.
        ``machine``: the owner's; without one, only jobs are claimed that any machine may work on.

        Raises StoreTooNew if a newer version of pusher has upgraded the store to what this one cannot use.
        """
        among = "" if only is None else "AND jobs.id IN :only"
        query = f"""SELECT * FROM jobs WHERE {IS_RUNNABLE} {among} AND host NOT IN :others
            ORDER BY priority DESC, id LIMIT 1 FOR UPDATE SKIP LOCKED"""
        exclusions = [{*skipped, *last}, {*skipped}] if last else [{*skipped}]
        values: dict[str, Any] = {
            "owner": owner,
            "at_work": at_work or (),
            "finds_unanswered": at_work is not None,
            "waited": waited,
            "only": only,
            **machine_values(machine),
        }
        with self._database.write() as connection:
            check_support(connection, self._database.label)
            now = self._database.now(connection)
            values |= lease_values(now, dead_owners, expired_owners)
            values["closed_windows"] = closed_windows(connection, now)
            while True:
                found = (connection.row(query, others=others, **values) for others in exclusions)
                row = next(filter(None, found), None)
                if row is None:
                    return None
                before = job_of(row)
                newer = destinations.newer_job(connection, before)
                if newer is None:
                    break
                destinations.supersede(connection, before, newer, now)
            changes = {
                **lease_columns(owner, now, lease),
                "state": JobState.RUNNING,
                "lease_token": before.lease_token + 1,
                "started_at": before.started_at or now,
                "next_try_at": None,
                "tagging_at": None,
                **NO_SPEED,
            }
            job = change_job(connection, before, changes)
            how = f"claimed by {owner}"
            if before.state == JobState.RUNNING and before.lease_owner != owner:
                how = f"taken over by {owner} from {before.lease_owner}, which is gone"
            _record_replacement(connection, before, now)
            record(connection, job.id, now, JobState.RUNNING, how)
        return job

    def has_waiting(
        self,
        dead_owners: Collection[str] = (),
        expired_owners: Collection[str] = (),
        *,
        only: Collection[int] | None = None,
        put_off: Collection[int] = (),
        machine: Machine | None = None,
    ) -> bool:
        """Return whether a job waits that will be runnable without the user.

        This excludes jobs ``put_off`` until the user acts, those not among ``only``, and those that set a tag
        after one of these. The other arguments are as for ``claim``.
        """
        now = self._database.now()
        among = "" if only is None else "AND jobs.id IN :only"
        query = f"SELECT id FROM jobs WHERE {IS_WORTH_WAITING_FOR} {among} LIMIT 1"
        values: dict[str, Any] = {
            "has_choice": only is not None,
            "only": only or (),
            "put_off": put_off,
            **machine_values(machine),
        }
        with self._database.read() as connection:
            values["closed_windows"] = closed_windows(connection, now)
            found = connection.value(query, **lease_values(now, dead_owners, expired_owners), **values)
            return found is not None

    def has_runnable(
        self,
        dead_owners: Collection[str] = (),
        expired_owners: Collection[str] = (),
        *,
        only: Collection[int] | None = None,
        machine: Machine | None = None,
    ) -> bool:
        """Return whether a queued job can start, or a running one be taken over.

        ``claim`` skips one whose row another transaction has. The arguments are as for ``claim``.
        """
        among = "" if only is None else "AND jobs.id IN :only"
        query = f"""SELECT id FROM jobs
            WHERE {UNFINISHED} AND {IS_IN_WINDOW} AND {is_for_machine("jobs")} {among}
            AND (state = 'queued' AND {IS_FREE_TO_START} OR state = 'running' AND {is_lapsed("jobs")})
            LIMIT 1"""
        with self._database.read() as connection:
            now = self._database.now(connection)
            values = {**lease_values(now, dead_owners, expired_owners), **machine_values(machine)}
            values |= {"only": only, "closed_windows": closed_windows(connection, now)}
            return connection.value(query, **values) is not None

    def seconds_to_next(self) -> float | None:
        """Return the seconds until a job is due, a window opens or a lease ends; negative if that is over.
        None if nothing of this is known."""
        query = f"""SELECT min(CASE state WHEN 'waiting' THEN next_try_at WHEN 'running' THEN lease_expires_at
            WHEN 'queued' THEN CASE WHEN not_before > :now THEN not_before END END)
            FROM jobs WHERE {UNFINISHED}"""
        with self._database.read() as connection:
            now = self._database.now(connection)
            due = [time_if_set(connection.value(query, now=now)), *next_openings(connection, now)]
            return min(((at - now).total_seconds() for at in due if at is not None), default=None)

    def leases(self) -> list[OwnerLeases]:
        """Return the owners of leases of jobs or uploads that were neither released nor taken over."""
        with self._database.read() as connection:
            rows = connection.rows(ALL_LEASES, **lease_values(self._database.now(connection)))
            return [
                OwnerLeases(row["lease_owner"], time_of(row["latest"]), bool(row["have_ended"]))
                for row in rows
            ]

    def owners(self) -> set[str]:
        """Return the owners of current leases of jobs or uploads."""
        return {each.owner for each in self.leases() if not each.have_ended}

    def renew(self, owner: str, lease: float) -> None:
        """Extend every lease of this owner, of jobs and uploads, to ``lease`` seconds from now."""
        for table in ("jobs", "uploads"):
            change = f"UPDATE {table} SET lease_expires_at = :until WHERE id IN :ids"
            with self._database.write() as connection:
                until = lease_columns(owner, self._database.now(connection), lease)["lease_expires_at"]
                ids = lock_rows(connection, table, "lease_owner = :owner", owner=owner)
                connection.execute(change, ids=ids, until=until)

    def record_speeds(self, owner: str, speeds: Mapping[int, tuple[int, int]]) -> None:
        """Record the speed of jobs that this owner pushes: bytes a second, and bytes of chunks in flight.

        A job that has a speed does not wait any more.
        """
        change = """UPDATE jobs SET speed = :speed, in_flight = :in_flight,
            waiting_since = CASE WHEN :speed > 0 THEN NULL ELSE waiting_since END
            WHERE id = :id AND state = 'running' AND lease_owner = :owner"""
        if not speeds:
            return
        with self._database.write() as connection:
            for job_id, (speed, in_flight) in sorted(speeds.items()):
                connection.execute(change, id=job_id, owner=owner, speed=speed, in_flight=in_flight)

    def record_silence(self, job: JobRecord, error: StoredError, seconds: float) -> None:
        """Record why a running job makes no progress, and for how many seconds it has made none, unless it
        waited before that. Nothing is recorded once the lease is lost."""
        now = self._database.now()
        values = {**error_columns(error), "since": now - timedelta(seconds=seconds)}
        change = f"""UPDATE jobs SET {assignments(error_columns(error))},
            waiting_since = COALESCE(waiting_since, :since) WHERE {IS_HELD}"""
        with self._database.write() as connection:
            if connection.execute(change, **values, **held(job)):
                record(connection, job.id, now, "waiting", error.message)

    def end_silence(self, job: JobRecord, message: str) -> None:
        """Record that what ``record_silence`` recorded is over."""
        now = self._database.now()
        change = f"UPDATE jobs SET {assignments(NO_ERROR)}, waiting_since = NULL WHERE {IS_HELD}"
        with self._database.write() as connection:
            if connection.execute(change, **NO_ERROR, **held(job)):
                record(connection, job.id, now, JobState.RUNNING, message)

    def take_tag(
        self, job: JobRecord, dead_owners: Collection[str] = (), expired_owners: Collection[str] = ()
    ) -> OlderJob | None:
        """Record that the job is about to set its tag; call this before each request that does.

        Returns the older job that must finish first, if any; then nothing is recorded. ``dead_owners`` and
        ``expired_owners`` as for ``claim``. Raises LeaseLost, also if a newer job has replaced this one.
        """
        now = self._database.now()
        with self._database.write() as connection:
            destinations.lock_destination(self._database, connection, job)
            destinations.lock_older(connection, job)
            require_lease(connection, job)
            newer = destinations.newer_job(connection, job)
            if newer is None:
                destinations.supersede_older(connection, job, now)
                older = destinations.job_to_wait_for(connection, job, now, dead_owners, expired_owners)
                if older is None:
                    connection.execute(
                        f"UPDATE jobs SET tagging_at = :now WHERE {IS_HELD}", now=now, **held(job)
                    )
                return older
            destinations.supersede(connection, job, newer, now)
        raise LeaseLost(f"job {newer} supersedes job {job.id}")

    def check_lease(self, job: JobRecord) -> None:
        """Raise LeaseLost if the job was paused, cancelled or taken over."""
        with self._database.read() as connection:
            if connection.value(f"SELECT id FROM jobs WHERE {IS_HELD}", **held(job)) is None:
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
        reason: str = "stopped",
    ) -> None:
        """Release the job: ``queued``, or ``waiting`` until ``next_try_at``.

        ``attempt``: whether to count an attempt. ``progress``: some was made, so that a wait is a new one.
        ``reason``: why, without an error, for the job's log.
        """
        if state not in (JobState.QUEUED, JobState.WAITING) or (state == JobState.WAITING) != (
            next_try_at is not None
        ):
            raise ValueError(f"a job is released as queued, or as waiting until a time; not as {state}")
        message = error.message if error else reason
        wait: dict[str, Any] = NO_WAIT if progress else {}
        if state == JobState.WAITING:
            before = None if progress else job.waiting_since
            wait = {**wait, "waiting_since": before or self._database.now()}
        self._leave(
            job,
            state,
            message,
            next_try_at=next_try_at,
            attempt=attempt,
            **wait,
            **error_columns(error),
        )

    def take_wait_report(self, job: JobRecord, code: str, *, after: float) -> bool:
        """Return whether to report that the job waits, and record that it was reported with this error.

        It is reported once it has waited for ``after`` seconds without progress; with 0 at once, also if the
        same wait was reported with another error.
        """
        if after:
            due = "waiting_since <= :since AND waiting_reported IS NULL"
        else:
            due = "(waiting_reported IS NULL OR waiting_reported <> :code)"
        change = f"""UPDATE jobs SET waiting_reported = :code
            WHERE id = :id AND lease_token = :token AND state = 'waiting' AND {due}"""
        since = self._database.now() - timedelta(seconds=after)
        with self._database.write() as connection:
            done = connection.execute(change, code=code, id=job.id, token=job.lease_token, since=since)
            return done == 1

    def release_to_machine(self, job: JobRecord) -> None:
        """Queue the job for the machine that has its image: the spool that it shares lacks blobs."""
        self._leave(job, JobState.QUEUED, "the spool lacks blobs of the image", attempt=False, spool=None)

    def record_in_spool(self, job: JobRecord, spool: str) -> None:
        """Record that this spool has all blobs that the job needs, and other jobs of the image's machine:
        machines that share the spool may work on them."""
        among = f"{UNFINISHED} AND machine = :machine AND config_digest = :config AND spool IS NULL"
        with self._database.write() as connection:
            ids = lock_rows(connection, "jobs", among, machine=job.machine, config=job.config_digest)
            connection.execute("UPDATE jobs SET spool = :spool WHERE id IN :ids", spool=spool, ids=ids)

    def succeed(self, job: JobRecord, digest: str) -> None:
        """End the job as succeeded: the manifest ``digest`` is pushed."""
        self._leave(
            job,
            JobState.SUCCEEDED,
            f"pushed {digest}",
            digest=digest,
            finished_at=self._database.now(),
            attempt=True,
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
            attempt=True,
            **NO_WAIT,
            **error_columns(error),
        )

    def _leave(self, job: JobRecord, state: JobState, message: str, *, attempt: bool, **values: Any) -> None:
        """End the lease, change the state, count an ``attempt`` and record the event."""
        changes = {"state": state, **values, **NOT_RUNNING}
        change = f"UPDATE jobs SET attempts = attempts + :attempt, {assignments(changes)} WHERE {IS_HELD}"
        with self._database.write() as connection:
            if connection.execute(change, attempt=int(attempt), **changes, **held(job)) == 0:
                raise LeaseLost(f"job {job.id} no longer belongs to this worker")
            record(connection, job.id, self._database.now(connection), state, message)


def _record_replacement(connection: Connection, job: JobRecord, now: datetime) -> None:
    """Record why a job starts although the one that it starts after did not succeed."""
    if job.started_at is not None or job.after is None:
        return
    if newer := destinations.replacements(connection, [job.after]).get(job.after):
        message = f"job {newer} has pushed to the destination of job {job.after}, which did not succeed"
        record(connection, job.id, now, "note", message)
