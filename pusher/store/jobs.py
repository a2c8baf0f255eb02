"""Jobs: what to push, and the leases under which workers push it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    String,
    and_,
    cast,
    func,
    insert,
    select,
    update,
)

from pusher.errors import JobUnknown, LeaseLost, StoreLocked
from pusher.store import decisions, destinations
from pusher.store.destinations import Older
from pusher.store.engine import Database
from pusher.store.events import record
from pusher.store.job_blobs import batches
from pusher.store.job_rows import NO_ERROR, blob_rows, error_columns, job_of, totals_query
from pusher.store.leases import (
    NOT_RUNNING,
    grant,
    has_ended,
    held,
    holds,
    job_id_in,
    require_job,
)
from pusher.store.models import JobBlobRow, JobRow, UploadRow
from pusher.store.records import JobRecord, JobState, JobTotals, NewJob, StoredError
from pusher.store.runnable import UNFINISHED, is_runnable, is_worth_waiting_for, owners_where


class Jobs:
    """The queue.

    Methods that take a JobRecord are a worker's: they raise LeaseLost once the job does not run under the
    record's lease any more. Methods that take an id are the user's: JobUnknown, JobStateConflict.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- the queue's contents ---------------------------------------------------------------------------

    def add(self, new: NewJob) -> JobRecord:
        """Queue a job; unless it ``keeps_older``, unfinished older ones of its tag are superseded."""
        now = self._database.now()
        values = {
            "image": new.image,
            "source": dict(new.source),
            "config_digest": new.config_digest,
            "host": new.registry,
            "repository": new.repository,
            "tag": new.tag,
            "state": JobState.QUEUED,
            "priority": new.priority,
            "options": dict(new.options),
            "documents": [document.to_json() for document in new.documents],
            "keeps_older": new.keeps_older,
            "created_at": now,
        }
        with self._database.write() as connection:
            destinations.lock_destination(self._database, connection, new)
            key: Any = connection.execute(insert(JobRow).values(values)).inserted_primary_key
            job = _read(connection, key[0])
            connection.execute(insert(JobBlobRow), list(blob_rows(job.id, new)))
            record(connection, job.id, now, JobState.QUEUED, f"push {new.image} to {job.destination}")
            destinations.supersede_older(connection, job, now)
        return job

    def get(self, job_id: int) -> JobRecord:
        """One job."""
        with self._database.read() as connection:
            return _read(connection, job_id)

    def list(
        self,
        *,
        states: Collection[JobState] | None = None,
        errors: Collection[str] | None = None,
        starts: str = "",
        limit: int | None = None,
    ) -> list[JobRecord]:
        """Jobs in the order of their ids; with ``limit`` the newest ones. ``errors``: codes of their last
        errors; ``starts``: what the ids begin with."""
        query = select(JobRow).order_by(JobRow.id.desc()).limit(limit)
        if states is not None:
            query = query.where(JobRow.state.in_(sorted(states)))
        if errors is not None:
            query = query.where(JobRow.error_code.in_(sorted(errors)))
        if starts:
            query = query.where(cast(JobRow.id, String).startswith(starts, autoescape=True))
        with self._database.read() as connection:
            return [job_of(row) for row in connection.execute(query)][::-1]

    def page(self, after: int, size: int) -> tuple[JobRecord, ...]:
        """The next jobs after an id, at most ``size``, in the order of their ids."""
        query = select(JobRow).where(JobRow.id > after).order_by(JobRow.id).limit(size)
        with self._database.read() as connection:
            return tuple(job_of(row) for row in connection.execute(query))

    def superseded_by(self, job: JobRecord) -> tuple[JobRecord, ...]:
        """The older jobs that this one took the place of."""
        place = and_(JobRow.host == job.registry, JobRow.repository == job.repository, JobRow.tag == job.tag)
        query = (
            select(JobRow)
            .where(place, JobRow.id < job.id, JobRow.superseded_by == job.id)
            .order_by(JobRow.id)
        )
        with self._database.read() as connection:
            return tuple(job_of(row) for row in connection.execute(query))

    def failed(self, limit: int = 100) -> tuple[JobRecord, ...]:
        """The newest failed jobs that can be tried again: no newer one pushed to the same tag, or will."""
        query = (
            select(JobRow)
            .where(JobRow.state == JobState.FAILED, ~destinations.has_newer())
            .order_by(JobRow.id.desc())
            .limit(limit)
        )
        with self._database.read() as connection:
            return tuple(job_of(row) for row in connection.execute(query))[::-1]

    def beyond_retry(self, job_ids: Collection[int]) -> frozenset[int]:
        """Those of the jobs that have failed for good: trying them again cannot help."""
        with self._database.read() as connection:
            return destinations.beyond_retry(connection, job_ids)

    def counts(self) -> dict[JobState, int]:
        """How many jobs are in each state; states without jobs are left out."""
        query = select(JobRow.state, func.count().label("jobs")).group_by(JobRow.state)
        with self._database.read() as connection:
            return {row.state: row.jobs for row in connection.execute(query)}

    def totals(self, job_ids: Collection[int]) -> dict[int, JobTotals]:
        """Sums over each job's blobs; a blob that is several layers counts once. Unknown ids are left out."""
        found: dict[int, JobTotals] = {}
        with self._database.read() as connection:
            for batch in batches(sorted(job_ids)):
                for job_id, *sums, unknown in connection.execute(totals_query(batch)):
                    total, done, sent, wasted, at_risk = map(int, sums)
                    found[job_id] = JobTotals(total, done, sent, wasted, at_risk, sizes_known=not unknown)
        return found

    def add_bytes_sent(self, job_id: int, count: int) -> None:
        """Count body bytes that belong to no blob (manifests)."""
        with self._database.write() as connection:
            connection.execute(
                update(JobRow).where(JobRow.id == job_id).values(bytes_sent=JobRow.bytes_sent + count)
            )

    # --- the worker's side ------------------------------------------------------------------------------

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

        Runnable is what is queued, what waits and is due, and what runs under another owner's lease that
        ended, unless that owner is ``spared``, or whose owner is among ``dead_owners``. ``only`` restricts
        the choice to these ids. What a newer job supersedes is ended instead.

        ``at_work``: ids that the owner still works on, whatever became of them; they are left alone. Any
        other that runs under its own lease is one whose claim it was never told of, and is given again.
        ``waited``: ids whose pause is over, as the owner knows by a clock of its own.
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
                **grant(owner, now, lease),
                "state": JobState.RUNNING,
                "lease_token": before.lease_token + 1,
                "started_at": before.started_at or now,
                "next_try_at": None,
                "tagging_at": None,
            }
            job = _move(connection, before, values)
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

        Left out are the jobs ``put_off`` until the user acts, those not among ``only``, and those whose turn
        to set a tag comes after one of these. ``dead_owners`` and ``spared`` as for ``claim``.
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
        """Owners whose leases, of jobs or uploads, have not ended yet."""
        return self._owners(holds)

    def lapsed_owners(self) -> set[str]:
        """Owners of leases, of jobs or uploads, that ended and that nobody took over."""
        return self._owners(has_ended)

    def _owners(self, matches: Callable[[Any, datetime], ColumnElement[bool]]) -> set[str]:
        now = self._database.now()
        query = owners_where(matches(JobRow.lease_expires_at, now), matches(UploadRow.lease_expires_at, now))
        with self._database.read() as connection:
            return set(connection.scalars(query))

    def renew(self, owner: str, lease: float) -> None:
        """Extend every lease of this owner, of jobs and uploads, to ``lease`` seconds from now."""
        until = grant(owner, self._database.now(), lease)
        with self._database.write() as connection:
            connection.execute(update(JobRow).where(UNFINISHED, JobRow.lease_owner == owner).values(until))
        with self._database.write() as connection:
            connection.execute(update(UploadRow).where(UploadRow.lease_owner == owner).values(until))

    def take_tag(
        self, job: JobRecord, dead_owners: Collection[str] = (), spared: Collection[str] = ()
    ) -> Older | None:
        """Record that the job is about to set its tag; to be called before each request that does.

        Returns the older job that has to be through before; then nothing is recorded. ``dead_owners`` and
        ``spared`` as for ``claim``. Raises LeaseLost, also
        where a newer job has taken this one's place.
        """
        now = self._database.now()
        with self._database.write() as connection:
            destinations.lock_destination(self._database, connection, job)
            require_job(connection, job)
            newer = destinations.newer_job(connection, job)
            if newer is None:
                destinations.supersede_older(connection, job, now)
                older = destinations.job_to_wait_for(connection, job, now, dead_owners, spared)
                if older is None:
                    connection.execute(update(JobRow).where(held(job)).values(tagging_at=now))
                return older
            destinations.supersede(connection, job, newer, now)
        raise LeaseLost(f"job {newer} supersedes job {job.id}")

    def check_lease(self, job: JobRecord) -> None:
        """LeaseLost if the job was paused, cancelled or taken over."""
        with self._database.read() as connection:
            if connection.scalar(select(JobRow.id).where(held(job))) is None:
                raise LeaseLost(f"job {job.id} no longer belongs to this worker")

    def release(
        self,
        job: JobRecord,
        *,
        state: JobState,
        next_try_at: datetime | None = None,
        error: StoredError | None = None,
        attempt: bool,
    ) -> None:
        """Give the job back: ``queued``, or ``waiting`` until ``next_try_at``.

        ``attempt`` tells whether this counts as one.
        """
        if state not in (JobState.QUEUED, JobState.WAITING) or (state == JobState.WAITING) != (
            next_try_at is not None
        ):
            raise ValueError(f"a job is released as queued, or as waiting until a time; not as {state}")
        message = error.message if error else "stopped"
        self._leave(
            job,
            state,
            message,
            next_try_at=next_try_at,
            attempts=JobRow.attempts + int(attempt),
            **error_columns(error),
        )

    def succeed(self, job: JobRecord, digest: str) -> None:
        """The manifest ``digest`` is pushed."""
        self._leave(
            job,
            JobState.SUCCEEDED,
            f"pushed {digest}",
            digest=digest,
            finished_at=self._database.now(),
            attempts=JobRow.attempts + 1,
            **NO_ERROR,
        )

    def fail(self, job: JobRecord, error: StoredError) -> None:
        """Trying again does not help."""
        self._leave(
            job,
            JobState.FAILED,
            error.message,
            finished_at=self._database.now(),
            attempts=JobRow.attempts + 1,
            **error_columns(error),
        )

    def _leave(self, job: JobRecord, state: JobState, message: str, **values: Any) -> None:
        """End the lease with a change of state and its event."""
        now = self._database.now()
        with self._database.write() as connection:
            change = update(JobRow).where(held(job)).values(state=state, **values, **NOT_RUNNING)
            if connection.execute(change).rowcount == 0:
                raise LeaseLost(f"job {job.id} no longer belongs to this worker")
            record(connection, job.id, now, state, message)

    # --- the user's side --------------------------------------------------------------------------------

    def pause(self, job_id: int) -> JobRecord:
        """Keep the job from being worked on; a worker that has it notices at its next step."""
        return self._decide(job_id, decisions.PAUSE)

    def resume(self, job_id: int) -> JobRecord:
        """Queue a paused job again."""
        return self._decide(job_id, decisions.RESUME)

    def cancel(self, job_id: int) -> JobRecord:
        """End the job for good; its upload sessions are deleted once no other job needs them."""
        return self._decide(job_id, decisions.CANCEL)

    def retry(self, job_id: int) -> JobRecord:
        """Queue a failed or cancelled job again, or a waiting one at once."""
        return self._decide(job_id, decisions.RETRY)

    def _decide(self, job_id: int, decision: decisions.Decision) -> JobRecord:
        now = self._database.now()
        with self._database.write() as connection:
            destinations.lock_destination(self._database, connection, _read(connection, job_id))
            before = _read(connection, job_id, lock=True)
            if not decision.changes(job_id, before.state):
                return before
            if decision.to == JobState.QUEUED:
                newer = destinations.newer_job(connection, before)
                if newer is not None:
                    raise decisions.overtaken_error(before, newer)
            values: dict[str, Any] = {
                **NOT_RUNNING,
                "state": decision.to,
                "lease_token": before.lease_token + 1,
                "next_try_at": None,
                "finished_at": now if decision.to == JobState.CANCELLED else None,
                "superseded_by": None,
            }
            if decision.clears_error:
                values |= NO_ERROR
            job = _move(connection, before, values)
            record(connection, job_id, now, decision.to, decision.said)
        return job


def _read(connection: Connection, job_id: int, *, lock: bool = False) -> JobRecord:
    query = select(JobRow).where(JobRow.id == job_id)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise JobUnknown(f"there is no job {job_id}", hint="pusher status --all lists the jobs")
    return job_of(row)


def _move(connection: Connection, before: JobRecord, values: Mapping[str, Any]) -> JobRecord:
    """Change a job that is still as it was read, and read it again (RETURNING needs SQLite 3.35)."""
    unchanged = and_(
        JobRow.id == before.id, JobRow.state == before.state, JobRow.lease_token == before.lease_token
    )
    if connection.execute(update(JobRow).where(unchanged).values(values)).rowcount != 1:
        raise StoreLocked(
            f"job {before.id} was changed by another process at the same time", hint="try again"
        )
    return _read(connection, before.id)
