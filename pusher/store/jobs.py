"""Add and list jobs, and sum their progress."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from pusher.store import destinations
from pusher.store.connection import time_if_set
from pusher.store.job_changes import add_job, read_job
from pusher.store.job_decisions import JobDecisions
from pusher.store.job_filter import JobFilter
from pusher.store.job_rows import TOTALS, job_of
from pusher.store.leased_jobs import LeasedJobs
from pusher.store.records import JobRecord, JobState, JobTotals, NewJob


class Jobs(LeasedJobs, JobDecisions):
    """The queue, with the changes of a worker (LeasedJobs) and those of the user (JobDecisions)."""

    def add(self, new: NewJob) -> JobRecord:
        """Queue a job; unless it ``keeps_older``, unfinished older ones of its tag are superseded.

        Raises JobUnknown if the job that it starts ``after`` does not exist.
        """
        with self._database.write() as connection:
            if new.after is not None:
                read_job(connection, new.after)
            destinations.lock_destination(self._database, connection, new)
            return add_job(connection, new, self._database.now())

    def get(self, job_id: int) -> JobRecord:
        """Return one job. Raises JobUnknown."""
        with self._database.read() as connection:
            return read_job(connection, job_id)

    def of_ids(self, ids: Collection[int]) -> tuple[JobRecord, ...]:
        """Return those of the jobs that still exist, in the order of their ids."""
        with self._database.read() as connection:
            found = connection.rows("SELECT * FROM jobs WHERE id IN :ids ORDER BY id", ids=ids)
            return tuple(map(job_of, found))

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
        conditions = ["1 = 1"]
        if errors is not None:
            conditions.append("error_code IN :errors")
        if starts:
            conditions.append("substr(CAST(id AS TEXT), 1, :length) = :starts")
        others = " AND ".join(conditions)
        values = {"errors": errors, "starts": starts, "length": len(starts), "limit": limit}
        last = "ORDER BY id DESC" + ("" if limit is None else " LIMIT :limit")
        with self._database.read() as connection:
            if states is None:
                found = connection.rows(f"SELECT * FROM jobs WHERE {others} {last}", **values)
            else:  # one by one: the index has the ids of a state in their order
                each = f"SELECT * FROM jobs WHERE state = :state AND {others} {last}"
                found = [row for state in states for row in connection.rows(each, state=state, **values)]
            jobs = sorted(map(job_of, found), key=lambda job: job.id)
        return jobs if limit is None else jobs[max(0, len(jobs) - limit) :]

    def page(self, after: int, size: int) -> tuple[JobRecord, ...]:
        """Return the next jobs after an id, at most ``size``, in the order of their ids."""
        query = "SELECT * FROM jobs WHERE id > :after ORDER BY id LIMIT :size"
        with self._database.read() as connection:
            return tuple(job_of(row) for row in connection.rows(query, after=after, size=size))

    def find(self, wanted: JobFilter, offset: int, limit: int) -> tuple[JobRecord, ...]:
        """Return ``limit`` jobs after the first ``offset``: unfinished ones in the order in which they are
        pushed, then finished ones, the newest first."""
        where, values = wanted.condition(), wanted.values()
        query = f"SELECT * FROM jobs WHERE {where} AND finished_at IS {{}} LIMIT :limit OFFSET :offset"
        with self._database.read() as connection:
            unfinished = query.format("NULL ORDER BY priority DESC, id")
            found = connection.rows(unfinished, **values, limit=limit, offset=offset)
            if len(found) < limit:
                count = f"SELECT count(*) FROM jobs WHERE {where} AND finished_at IS NULL"
                before = connection.value(count, **values) if offset else 0
                rest = {"limit": limit - len(found), "offset": max(0, offset - before)}
                found += connection.rows(query.format("NOT NULL ORDER BY id DESC"), **values, **rest)
            return tuple(map(job_of, found))

    def superseded_by(self, job: JobRecord) -> tuple[JobRecord, ...]:
        """Return the older jobs that this one superseded."""
        query = "SELECT * FROM jobs WHERE superseded_by = :id ORDER BY id"
        with self._database.read() as connection:
            return tuple(map(job_of, connection.rows(query, id=job.id)))

    def list_failed(self) -> tuple[JobRecord, ...]:
        """Return the newest 100 failed jobs that can be retried, as no newer one sets their tag."""
        query = f"""SELECT * FROM jobs WHERE state = 'failed' AND NOT {destinations.HAS_NEWER}
            ORDER BY id DESC LIMIT 100"""
        with self._database.read() as connection:
            return tuple(job_of(row) for row in reversed(connection.rows(query)))

    def beyond_retry(self, job_ids: Collection[int]) -> frozenset[int]:
        """Return those of the jobs that failed and that no retry can help."""
        with self._database.read() as connection:
            return destinations.beyond_retry(connection, job_ids)

    def replacements(self, job_ids: Collection[int]) -> dict[int, int]:
        """Return which newer job replaces each of those of the jobs that failed or were cancelled."""
        with self._database.read() as connection:
            return destinations.replacements(connection, job_ids)

    def counts(self, text: str = "") -> dict[JobState, int]:
        """Return the number of jobs by state, with ``text`` as in JobFilter; states without jobs are left
        out."""
        among = JobFilter(text=text)
        query = f"SELECT state, count(*) AS jobs FROM jobs WHERE {among.condition()} GROUP BY state"
        with self._database.read() as connection:
            return {JobState(row["state"]): row["jobs"] for row in connection.rows(query, **among.values())}

    def oldest_queued(self) -> datetime | None:
        """Return when the oldest queued job was recorded; None without any."""
        query = "SELECT min(created_at) FROM jobs WHERE finished_at IS NULL AND state = 'queued'"
        with self._database.read() as connection:
            return time_if_set(connection.value(query))

    def totals(self, job_ids: Collection[int]) -> dict[int, JobTotals]:
        """Return sums over each job's blobs, each blob counted once. Unknown ids are left out."""
        with self._database.read() as connection:
            return {
                row["job_id"]: JobTotals(
                    int(row["total"]),
                    int(row["done"]),
                    int(row["sent"]),
                    int(row["wasted"]),
                    int(row["at_risk"]),
                    sizes_known=not row["unknown"],
                )
                for row in connection.rows(TOTALS, ids=job_ids)
            }

    def add_bytes_sent(self, job_id: int, count: int) -> None:
        """Count body bytes that belong to no blob (manifests)."""
        with self._database.write() as connection:
            connection.execute(
                "UPDATE jobs SET bytes_sent = bytes_sent + :count WHERE id = :id", count=count, id=job_id
            )
