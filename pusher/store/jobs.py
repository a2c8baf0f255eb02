"""Add and list jobs, and sum their progress."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import (
    String,
    and_,
    cast,
    func,
    insert,
    select,
    update,
)

from pusher.store import destinations
from pusher.store.events import record
from pusher.store.job_blobs import batches
from pusher.store.job_changes import read_job
from pusher.store.job_decisions import JobDecisions
from pusher.store.job_filter import JobFilter
from pusher.store.job_rows import blob_rows, job_of, totals_query
from pusher.store.leased_jobs import LeasedJobs
from pusher.store.models import JobBlobRow, JobRow
from pusher.store.records import JobRecord, JobState, JobTotals, NewJob


class Jobs(LeasedJobs, JobDecisions):
    """The queue, with the changes of a worker (LeasedJobs) and of the user (JobDecisions)."""

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
            job = read_job(connection, key[0])
            connection.execute(insert(JobBlobRow), list(blob_rows(job.id, new)))
            record(connection, job.id, now, JobState.QUEUED, f"push {new.image} to {job.destination}")
            destinations.supersede_older(connection, job, now)
        return job

    def get(self, job_id: int) -> JobRecord:
        """Return one job. Raises JobUnknown."""
        with self._database.read() as connection:
            return read_job(connection, job_id)

    def list(
        self,
        *,
        states: Collection[JobState] | None = None,
        errors: Collection[str] | None = None,
        starts: str = "",
        limit: int | None = None,
    ) -> list[JobRecord]:
        """Return jobs in the order of their ids; with ``limit`` the newest ones. ``errors``: codes of their
        last errors; ``starts``: prefixes of the ids."""
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
        """Return the next jobs after an id, at most ``size``, in the order of their ids."""
        query = select(JobRow).where(JobRow.id > after).order_by(JobRow.id).limit(size)
        with self._database.read() as connection:
            return tuple(job_of(row) for row in connection.execute(query))

    def find(self, wanted: JobFilter, offset: int, limit: int) -> tuple[JobRecord, ...]:
        """Return ``limit`` jobs after the first ``offset``: unfinished ones, then others, newest first."""
        query = select(JobRow).where(wanted.condition()).order_by(JobRow.id.desc())
        unfinished, finished = JobRow.finished_at.is_(None), JobRow.finished_at.is_not(None)
        with self._database.read() as connection:
            found = connection.execute(query.where(unfinished).offset(offset).limit(limit)).all()
            if len(found) < limit:
                count = select(func.count()).select_from(JobRow).where(wanted.condition(), unfinished)
                before = connection.execute(count).scalar_one() if offset else 0
                rest = query.where(finished).offset(max(0, offset - before)).limit(limit - len(found))
                found = [*found, *connection.execute(rest)]
            return tuple(map(job_of, found))

    def superseded_by(self, job: JobRecord) -> tuple[JobRecord, ...]:
        """Return the older jobs that this one superseded."""
        place = and_(JobRow.host == job.registry, JobRow.repository == job.repository, JobRow.tag == job.tag)
        query = (
            select(JobRow)
            .where(place, JobRow.id < job.id, JobRow.superseded_by == job.id)
            .order_by(JobRow.id)
        )
        with self._database.read() as connection:
            return tuple(job_of(row) for row in connection.execute(query))

    def list_failed(self, limit: int = 100) -> tuple[JobRecord, ...]:
        """Return the newest failed jobs that can be retried, as no newer one sets their tag."""
        query = (
            select(JobRow)
            .where(JobRow.state == JobState.FAILED, ~destinations.has_newer())
            .order_by(JobRow.id.desc())
            .limit(limit)
        )
        with self._database.read() as connection:
            return tuple(job_of(row) for row in connection.execute(query))[::-1]

    def beyond_retry(self, job_ids: Collection[int]) -> frozenset[int]:
        """Return those of the jobs that failed and that no retry can help."""
        with self._database.read() as connection:
            return destinations.beyond_retry(connection, job_ids)

    def counts(self, text: str = "") -> dict[JobState, int]:
        """Return the number of jobs by state, with ``text`` as in JobFilter; states without jobs are left
        out."""
        among = JobFilter(text=text).condition()
        query = select(JobRow.state, func.count().label("jobs")).where(among).group_by(JobRow.state)
        with self._database.read() as connection:
            return {row.state: row.jobs for row in connection.execute(query)}

    def totals(self, job_ids: Collection[int]) -> dict[int, JobTotals]:
        """Return sums over each job's blobs, each blob counted once. Unknown ids are left out."""
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
