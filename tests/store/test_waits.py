"""Since when a job waits without progress, and what of that was reported."""

from __future__ import annotations

from datetime import datetime, timedelta

from pusher.store import migrate
from pusher.store.records import JobRecord, JobState, StoredError
from pusher.store.store import Store
from tests.store.test_migrations import changing, make_store
from tests.support.databases import FakeClock, digest, new_job

_AWAY = StoredError("unreachable", "the registry is away", "wait")
_FULL = StoredError("disk-full", "the disk is full", "free some")


def _wait(store: Store, job_id: int, error: StoredError = _AWAY, *, progress: bool = False) -> JobRecord:
    """Claim the job, and let it wait after an attempt."""
    claimed = store.jobs.claim("w", lease=30, only=[job_id], waited=[job_id])
    assert claimed is not None
    later = store.now() + timedelta(seconds=5)
    store.jobs.release(
        claimed, state=JobState.WAITING, next_try_at=later, error=error, attempt=True, progress=progress
    )
    return store.jobs.get(job_id)


def _since(store: Store, job_id: int) -> datetime | None:
    return store.jobs.get(job_id).waiting_since


def test_a_wait_lasts_over_attempts_without_progress(store: Store, clock: FakeClock) -> None:
    began = clock.now
    job = store.jobs.add(new_job())
    assert job.waiting_since is None
    _wait(store, job.id)
    clock.advance(60)
    assert _wait(store, job.id).waiting_since == began
    clock.advance(60)
    assert _wait(store, job.id, progress=True).waiting_since == began + timedelta(seconds=120)


def test_a_wait_ends_with_the_job_and_when_the_user_stops_it(store: Store) -> None:
    ids = [store.jobs.add(new_job(tag=str(number))).id for number in range(5)]
    for job_id in ids:
        _wait(store, job_id)
    for end, job_id in zip((store.jobs.succeed, store.jobs.fail), ids, strict=False):
        claimed = store.jobs.claim("w", lease=30, only=[job_id], waited=[job_id])
        assert claimed is not None
        end(claimed, digest("f") if end == store.jobs.succeed else _FULL)  # type: ignore[operator]
    store.jobs.pause(ids[2])
    store.jobs.cancel(ids[3])
    store.jobs.add(new_job(tag="4"))
    assert store.jobs.get(ids[4]).state == JobState.SUPERSEDED
    assert [_since(store, job_id) for job_id in ids] == [None] * 5


def test_a_run_that_starts_and_retries_the_job_ends_no_wait(store: Store) -> None:
    job = store.jobs.add(new_job())
    assert store.jobs.take_wait_report(_wait(store, job.id, _FULL), "disk-full", after=0)
    store.jobs.retry(job.id)
    assert not store.jobs.take_wait_report(_wait(store, job.id, _FULL), "disk-full", after=0)


def test_a_long_wait_is_reported_once(store: Store, clock: FakeClock) -> None:
    job = store.jobs.add(new_job())
    waiting = _wait(store, job.id)
    assert not store.jobs.take_wait_report(waiting, "unreachable", after=300), "it is not long yet"
    clock.advance(300)
    again = _wait(store, job.id)
    assert not store.jobs.take_wait_report(waiting, "unreachable", after=300), "another worker had it since"
    assert store.jobs.take_wait_report(again, "unreachable", after=300)
    assert not store.jobs.take_wait_report(again, "unreachable", after=300)
    assert not store.jobs.take_wait_report(again, "response-unclear", after=300)
    moved = _wait(store, job.id, progress=True)
    clock.advance(300)
    assert store.jobs.take_wait_report(moved, "unreachable", after=300), "a new wait"


def test_what_the_user_must_do_is_reported_at_once_and_for_each_reason(
    store: Store, clock: FakeClock
) -> None:
    job = store.jobs.add(new_job())
    _wait(store, job.id)
    clock.advance(300)
    assert store.jobs.take_wait_report(_wait(store, job.id), "unreachable", after=300)
    full = _wait(store, job.id, _FULL)
    assert store.jobs.take_wait_report(full, "disk-full", after=0)
    assert not store.jobs.take_wait_report(full, "disk-full", after=0)
    assert store.jobs.take_wait_report(full, "home-unusable", after=0)


def test_a_job_that_waited_before_the_upgrade_waits_from_its_next_attempt(empty_url: str) -> None:
    make_store(empty_url, "0008")
    with changing(empty_url) as connection:
        connection.exec_driver_sql(
            """INSERT INTO jobs (id, image, source, config_digest, host, repository, tag, state, priority,
            attempts, options, documents, bytes_sent, created_at, next_try_at, lease_token, keeps_older)
            VALUES (7, 'app:1', '{}', 'sha256:c', 'r.example', 'app', '1', 'waiting', 0, 0, '{}', '[]', 0,
            '2026-01-01 00:00:00', '2026-01-01 00:00:00', 0, false)"""
        )
    assert migrate.upgrade(empty_url)[0] == "0008"
    with Store.open(empty_url) as store:
        assert _since(store, 7) is None
        assert _wait(store, 7).waiting_since is not None
