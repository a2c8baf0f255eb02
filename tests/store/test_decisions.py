"""Every decision of a user, in every state of a job."""

from __future__ import annotations

import pytest

from pusher.errors import JobStateConflict, JobUnknown, LeaseLost
from pusher.store.records import JobRecord, JobState, StoredError
from pusher.store.store import Store
from tests.support.databases import FakeClock, digest, new_job

ERROR = StoredError("registry-refused", "the registry said no", "ask it why")
S = JobState

BECOMES: dict[str, dict[JobState, JobState | None]] = {
    "pause": dict.fromkeys((S.RECEIVING, S.QUEUED, S.RUNNING, S.WAITING), S.PAUSED) | {S.PAUSED: None},
    "resume": {S.PAUSED: S.QUEUED} | dict.fromkeys((S.RECEIVING, S.QUEUED, S.RUNNING, S.WAITING)),
    "cancel": dict.fromkeys((S.RECEIVING, S.QUEUED, S.RUNNING, S.WAITING, S.PAUSED), S.CANCELLED)
    | {S.CANCELLED: None},
    "retry": dict.fromkeys((S.WAITING, S.FAILED, S.CANCELLED, S.SUPERSEDED), S.QUEUED)
    | {S.RECEIVING: None, S.QUEUED: None, S.RUNNING: None},
}
"""None: allowed, and nothing changes. A state that is missing: refused."""


def job_in(store: Store, state: JobState, clock: FakeClock) -> JobRecord:
    """A job that came to this state the way jobs do."""
    if state == S.RECEIVING:
        store.received_jobs.add_blob(
            image="app", folder="/x", registry="r.example", repository="app", digest=digest("a"), size=1
        )
        return store.jobs.get(1)
    job = store.jobs.add(new_job())
    if state == S.QUEUED:
        return job
    claimed = store.jobs.claim("w", lease=30)
    assert claimed is not None
    match state:
        case S.WAITING:
            store.jobs.release(claimed, state=state, next_try_at=clock.now, error=ERROR, attempt=True)
        case S.SUCCEEDED:
            store.jobs.succeed(claimed, digest("f"))
        case S.FAILED:
            store.jobs.fail(claimed, ERROR)
        case S.PAUSED:
            store.jobs.pause(job.id)
        case S.CANCELLED:
            store.jobs.cancel(job.id)
        case S.SUPERSEDED:
            newer = store.jobs.add(new_job(tag=job.tag))
            store.jobs.cancel(newer.id)  # what it took the place of may be tried again
    return store.jobs.get(job.id)


@pytest.mark.parametrize("state", list(JobState))
@pytest.mark.parametrize("decision", list(BECOMES))
def test_decision(store: Store, clock: FakeClock, decision: str, state: JobState) -> None:
    before = job_in(store, state, clock)
    assert before.state == state
    events = len(store.events.of(before.id))
    clock.advance(1)
    decide = getattr(store.jobs, decision)

    if state not in BECOMES[decision]:
        with pytest.raises(
            JobStateConflict, match=f"job {before.id} (is|has) {state} and cannot be"
        ) as caught:
            decide(before.id)
        assert caught.value.hint
        assert store.jobs.get(before.id) == before
        return
    after = decide(before.id)
    assert after == store.jobs.get(before.id)
    expected = BECOMES[decision][state]
    if expected is None:
        assert after == before
        assert len(store.events.of(before.id)) == events
        return
    assert after.state == expected
    assert after.lease_owner is None
    assert after.lease_token == before.lease_token + 1
    assert after.next_try_at is None
    assert after.finished_at == (clock.now if expected == S.CANCELLED else None)
    assert [event.kind for event in store.events.of(before.id)][events:] == [expected]
    if decision == "retry":
        assert after.error is None


@pytest.mark.parametrize("decision", list(BECOMES))
def test_an_unknown_job_is_named(store: Store, decision: str) -> None:
    with pytest.raises(JobUnknown, match="no job 12"):
        getattr(store.jobs, decision)(12)


@pytest.mark.parametrize("decision", ["pause", "cancel"])
def test_the_worker_of_a_stopped_job_notices(store: Store, decision: str) -> None:
    store.jobs.add(new_job())
    job = store.jobs.claim("w", lease=30)
    assert job is not None
    store.jobs.check_lease(job)
    getattr(store.jobs, decision)(job.id)
    with pytest.raises(LeaseLost):
        store.jobs.check_lease(job)
    with pytest.raises(LeaseLost):
        store.jobs.succeed(job, digest("f"))
    assert store.jobs.get(job.id).digest is None


def test_a_paused_job_that_runs_again_is_not_the_old_worker_s(store: Store) -> None:
    """Same owner, same state: only the token tells the two leases apart."""
    store.jobs.add(new_job())
    old = store.jobs.claim("w", lease=30)
    assert old is not None
    store.jobs.pause(old.id)
    store.jobs.resume(old.id)
    new = store.jobs.claim("w", lease=30)
    assert new is not None
    assert (new.id, new.lease_owner) == (old.id, old.lease_owner)
    with pytest.raises(LeaseLost):
        store.jobs.fail(old, ERROR)
    store.jobs.check_lease(new)
