"""A hundred thousand finished jobs and a long queue cost nothing where nobody asks for them."""

from __future__ import annotations

from typing import Final

import pytest

from pusher.store.events import MAX_EVENTS
from pusher.store.records import JobState
from pusher.store.store import Store
from tests.store.every_statement import StatementLog, places, use_everything
from tests.support.finished_jobs import add_events, add_finished_jobs, add_queued_jobs

_FINISHED: Final = 100_000
_QUEUED: Final = 5_000
_MOST: Final = {"sqlite": 250_000, "postgresql": 12_000}
"""What reading the queue a few times takes. Every finished job is 100,000 rows, or 300,000 steps and more."""
_MAX_OF_A_CLAIM: Final = {"sqlite": 5_000, "postgresql": 500}
"""What each claim does besides the claim. Every queued job is 5,000 rows, or 25,000 steps and more."""
_READ_ALL: Final = {
    "Jobs.counts": "counts all of them, by an index alone",
    "JobBlobs.needed_digests.<locals>.<setcomp>": "PostgreSQL reads all blobs, not those of the queue",
}


def test_all_of_them_can_be_listed(store: Store) -> None:
    add_finished_jobs(store, 10_000)
    jobs = store.jobs.list()
    assert len(jobs) == 10_000
    totals = store.jobs.totals([job.id for job in jobs])
    assert {(total.bytes_total, total.bytes_done) for total in totals.values()} == {(9, 9)}
    assert store.jobs.counts() == {JobState.SUCCEEDED: 10_000}


def test_no_statement_reads_every_job(kind: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each statement is run on a full store; what it looks at is counted, no time is measured."""
    if kind == "postgresql":
        _keep_statistics(store)
    add_finished_jobs(store, _FINISHED)
    add_queued_jobs(store, _FINISHED + 1, _QUEUED)
    add_events(store, _FINISHED, MAX_EVENTS + 1)
    log = StatementLog()
    with log.watching(monkeypatch):
        use_everything(store, _FINISHED + 1, trimmed=_FINISHED)
    assert sorted(places() - log.passed) == [], "use_everything has to call what runs these statements"
    for issued in log.issued:
        assert issued.effort <= _MOST[kind] or issued.function in _READ_ALL, issued
    of_claims = [issued for issued in log.issued if issued.function == "LeasedJobs.leases"]
    assert of_claims
    for issued in of_claims:
        assert issued.effort <= _MAX_OF_A_CLAIM[kind], issued


def _keep_statistics(store: Store) -> None:
    """Have no autovacuum change the plans in the middle of a test."""
    with store._database.write() as connection:
        for table in ("jobs", "job_blobs", "events", "uploads", "known_blobs"):
            connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
