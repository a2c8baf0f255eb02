"""Ten thousand finished jobs cost nothing where nobody asks for them."""

from __future__ import annotations

import pytest
from sqlalchemy import event

from pusher.store.records import JobState
from pusher.store.store import Store
from tests.support.databases import new_job
from tests.support.finished_jobs import add_finished_jobs

FINISHED = 10_000


@pytest.fixture
def full(store: Store) -> Store:
    add_finished_jobs(store, FINISHED)
    return store


def test_all_of_them_can_be_listed(full: Store) -> None:
    jobs = full.jobs.list()
    assert len(jobs) == FINISHED
    totals = full.jobs.totals([job.id for job in jobs])
    assert {(total.bytes_total, total.bytes_done) for total in totals.values()} == {(9, 9)}
    assert full.jobs.counts() == {JobState.SUCCEEDED: FINISHED}


def test_what_workers_and_status_ask_often_reads_no_finished_job(full: Store) -> None:
    """By the plan and not by the clock: every query on jobs goes through an index."""
    unfinished = set(JobState) - {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}
    queued = full.jobs.add(new_job())
    queries: list[tuple[str, object]] = []
    engine = full._database.engine

    @event.listens_for(engine, "before_cursor_execute")
    def remember(_c: object, _cursor: object, statement: str, parameters: object, *_rest: object) -> None:
        if statement.startswith("SELECT"):
            queries.append((statement, parameters))

    assert [job.id for job in full.jobs.list(states=unfinished)] == [queued.id]
    assert [job.id for job in full.jobs.list(limit=1)] == [queued.id]
    assert full.jobs.next_try_at() is None
    assert full.jobs.owners() == set()
    claimed = full.jobs.claim("w", lease=30)
    assert claimed is not None
    assert claimed.id == queued.id
    event.remove(engine, "before_cursor_execute", remember)

    assert len(queries) >= 5
    explain = "EXPLAIN QUERY PLAN " if full._database.is_sqlite else "EXPLAIN "
    with full._database.read() as connection:
        for statement, parameters in queries:
            plan = connection.exec_driver_sql(explain + statement, parameters).all()  # type: ignore[arg-type]
            text = "\n".join(str(row[-1]) for row in plan)
            assert "Seq Scan on jobs" not in text, statement
            assert "SCAN jobs\n" not in text + "\n" or "LIMIT" in statement, (statement, text)
