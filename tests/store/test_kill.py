"""Workers are killed while they commit; the store must be whole, and every change with its event."""

from __future__ import annotations

import random
import subprocess
import sys
import time

import psycopg
import pytest

from pusher.store import migrate
from pusher.store.records import DONE_STATES, BlobState, JobState
from pusher.store.store import Store
from tests.support.databases import REGISTRY, FakeClock, digest

KILLS = 8


def killed_after(url: str, owner: str, lines: int) -> list[str]:
    """Start a worker and kill it once it announced this many changes; what it announced."""
    command = [sys.executable, "-m", "tests.store.programs", "churn", url, owner]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        seen = [worker.stdout.readline() for _ in range(lines)]
        worker.kill()
        seen += worker.stdout.readlines()
    assert worker.returncode == -9
    if url.startswith("postgresql:"):
        _wait_for_its_session(url)
    return seen


def _wait_for_its_session(url: str) -> None:
    """A server may still run the last statement of a client that was killed, and commit."""
    query = """SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'"""
    with psycopg.connect(url, autocommit=True) as connection:
        while connection.execute(query).fetchone() != (0,):
            time.sleep(0.01)


@pytest.mark.crash
def test_a_killed_worker_leaves_a_whole_store(url: str) -> None:
    draw = random.Random(20260102)
    announced = 0
    for kill in range(KILLS):
        announced += len(killed_after(url, f"w{kill}", draw.randint(1, 120)))
    assert migrate.check(url).problems == ()
    with Store.open(url) as store:
        jobs = store.jobs.list()
        assert announced > len(jobs) > 0
        for job in jobs:
            check_job(store, job.id)
        unfinished = [job.id for job in jobs if job.state == JobState.RUNNING]
        dead = {f"w{kill}" for kill in range(KILLS)}
        taken = set()
        while (job_again := store.jobs.claim("heir", lease=30, dead_owners=dead)) is not None:
            taken.add(job_again.id)
        assert taken >= set(unfinished)


def check_job(store: Store, job_id: int) -> None:
    """One transaction wrote each of these pairs."""
    job, events = store.jobs.get(job_id), store.events.of(job_id)
    config, layer = store.blobs.of_job(job_id)
    assert events[-1].kind == job.state
    assert config.is_config
    if layer.state in DONE_STATES:
        assert layer.bytes_sent == 1000
    if job.state == JobState.SUCCEEDED:
        assert layer.state == BlobState.UPLOADED
        return
    if job.lease_owner is not None:
        upload = store.uploads.acquire(
            REGISTRY,
            f"{job.repository}/{job.id}",
            digest(job.lease_owner[-1]),
            owner=job.lease_owner,
            lease=1,
        )
        assert upload is not None
        assert upload.offset == layer.bytes_sent, "sent bytes are counted with the acknowledgement"
        assert upload.in_flight in (0, 100)


def test_an_open_transaction_dies_with_its_process(store: Store, clock: FakeClock, url: str) -> None:
    """The lock of a killed writer is free at once."""
    killed_after(url, "w", 1)
    before = len(store.jobs.list())
    killed_after(url, "w", 3)
    assert len(store.jobs.list()) > before
