"""Ten thousand finished jobs cost nothing where nobody asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pusher.store.connection import Connection
from pusher.store.records import UNFINISHED_STATES, JobState
from pusher.store.store import Store
from tests.support.databases import digest, new_job
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


def test_what_workers_and_status_ask_often_reads_no_finished_job(
    full: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the plan and not by the clock: every query goes through an index."""
    queued = full.jobs.add(new_job(tag="latest", registry="r", repository="p"))
    statements: list[tuple[str, Mapping[str, Any]]] = []
    run = Connection._run

    def remember(connection: Connection, cursor: Any, sql: str, values: Mapping[str, Any]) -> Any:
        if sql.split()[0] in ("SELECT", "UPDATE", "DELETE"):
            statements.append((sql, values))
        return run(connection, cursor, sql, values)

    monkeypatch.setattr(Connection, "_run", remember)
    jobs, uploads, blobs = full.jobs, full.uploads, full.blobs
    assert [job.id for job in jobs.list(states=UNFINISHED_STATES)] == [queued.id]
    assert [job.id for job in jobs.list(limit=1)] == [queued.id]
    assert not jobs.has_waiting(["x"], ["y"], put_off=[1])
    assert jobs.owners() == jobs.lapsed_owners() == set()
    assert jobs.list_failed() == ()
    claimed = jobs.claim("w", lease=30, dead_owners=["x"], spared=["y"], at_work=[], waited=[])
    assert claimed is not None
    assert claimed.id == queued.id
    jobs.renew("w", 30)
    jobs.check_lease(claimed)
    blobs.of_job(queued.id)
    jobs.totals([queued.id])
    upload = uploads.acquire("r", "p", digest("a"), owner="w", lease=30)
    assert upload is not None
    uploads.record_session(
        upload, location="http://r", chunk_size=1, min_chunk=None, max_chunk=None, profile="zot"
    )
    assert uploads.profiles([("r", "p")]) == {("r", "p"): "zot"}
    assert uploads.holders("r", digest("b")) == []
    assert uploads.abandon_unneeded() == 0
    assert uploads.list_abandoned() == []
    assert blobs.needed_digests([digest("a")]) == {digest("a")}
    assert jobs.take_tag(claimed) is None
    jobs.succeed(claimed, digest("f"))
    monkeypatch.undo()

    assert len(statements) >= 20
    explain = "EXPLAIN QUERY PLAN " if full._database.is_sqlite else "EXPLAIN "
    with full._database.read() as connection:
        for statement, values in statements:
            plan = connection.rows(explain + statement, **values)
            text = "\n".join(str(list(dict(row).values())[-1]) for row in plan) + "\n"  # type: ignore[call-overload]
            for table in ("jobs", "uploads", "job_blobs", "known_blobs"):
                whole = f"Seq Scan on {table}" in text or f"SCAN {table}\n" in text
                assert not whole or "LIMIT" in statement, (statement, text)
