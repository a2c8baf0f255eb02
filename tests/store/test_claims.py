"""Who gets which job, for how long, and who may still change it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from datetime import timedelta

import pytest

from pusher.errors import LeaseLost, TagNotYet
from pusher.store.records import BlobState, JobRecord, JobState, StoredError
from pusher.store.store import Store
from tests.support.databases import REGISTRY, REPOSITORY, FakeClock, digest, new_job

ERROR = StoredError("registry-busy", "busy", "wait")


def claim(store: Store, owner: str = "w", **options: object) -> JobRecord:
    job = store.jobs.claim(owner, lease=30, **options)  # type: ignore[arg-type]
    assert job is not None
    return job


def test_the_highest_priority_comes_first_then_the_lowest_id(store: Store, clock: FakeClock) -> None:
    low, first, second = (store.jobs.add(new_job(priority=p)).id for p in (-1, 5, 5))
    jobs = [claim(store) for _ in range(3)]
    assert [job.id for job in jobs] == [first, second, low]
    assert store.jobs.claim("w", lease=30) is None
    assert jobs[0].state == JobState.RUNNING
    assert jobs[0].started_at == clock.now
    assert jobs[0].lease_expires_at == clock.now + timedelta(seconds=30)
    assert store.events.of(first)[-1].kind == "running"


def test_only_restricts_the_choice(store: Store) -> None:
    ids = [store.jobs.add(new_job()).id for _ in range(3)]
    assert store.jobs.claim("w", lease=30, only=[]) is None
    assert claim(store, only=[ids[2]]).id == ids[2]
    assert store.jobs.claim("w", lease=30, only=[ids[2]]) is None


def test_a_waiting_job_is_claimed_when_it_is_due(store: Store, clock: FakeClock) -> None:
    jobs = [store.jobs.add(new_job()).id for _ in range(2)]
    for seconds in (60, 20):
        store.jobs.release(
            claim(store),
            state=JobState.WAITING,
            next_try_at=clock.now + timedelta(seconds=seconds),
            error=ERROR,
            attempt=True,
        )
    assert [store.jobs.get(job).next_try_at for job in jobs] == [
        clock.now + timedelta(seconds=seconds) for seconds in (60, 20)
    ]
    clock.advance(19.9)
    assert store.jobs.claim("w", lease=30) is None
    started = store.jobs.get(jobs[1]).started_at
    clock.advance(0.1)
    again = claim(store)
    assert (again.id, again.attempts, again.next_try_at, again.started_at) == (jobs[1], 1, None, started)


def test_a_lease_that_ended_is_taken_over_and_the_sleeper_is_fenced_off(
    store: Store, clock: FakeClock
) -> None:
    store.jobs.add(new_job())
    sleeper = claim(store, "sleeper")
    clock.advance(29.9)
    assert store.jobs.claim("heir", lease=30) is None
    clock.advance(0.1)
    assert store.jobs.claim("heir", lease=30, expired_owners=["other"]) is None
    heir = claim(store, "heir", expired_owners=["sleeper"])
    assert heir.lease_token > sleeper.lease_token
    assert "sleeper" in store.events.of(heir.id)[-1].message

    waiting = {"state": JobState.QUEUED, "attempt": False}
    late: list[Callable[[], object]] = [
        lambda: store.jobs.check_lease(sleeper),
        lambda: store.jobs.succeed(sleeper, digest("f")),
        lambda: store.jobs.fail(sleeper, ERROR),
        lambda: store.jobs.release(sleeper, **waiting),  # type: ignore[arg-type]
        lambda: store.blobs.set_done(sleeper, digest("a"), BlobState.EXISTS),
        lambda: store.blobs.clear_done(sleeper, [digest("a")]),
        lambda: store.blobs.set_blob(sleeper, digest("1"), digest=digest("b"), size=1, media_type="m"),
    ]
    before = (store.jobs.get(heir.id), store.blobs.of_job(heir.id), store.events.of(heir.id))
    for call in late:
        with pytest.raises(LeaseLost):
            call()
    assert (store.jobs.get(heir.id), store.blobs.of_job(heir.id), store.events.of(heir.id)) == before
    store.jobs.succeed(heir, digest("f"))


def test_a_dead_owner_s_job_is_taken_at_once(store: Store) -> None:
    store.jobs.add(new_job())
    claim(store, "dead")
    assert store.jobs.claim("heir", lease=30, dead_owners=["other"]) is None
    assert claim(store, "heir", dead_owners=["other", "dead"]).lease_owner == "heir"


def test_owners_are_those_whose_leases_have_not_ended(store: Store, clock: FakeClock) -> None:
    store.jobs.add(new_job())
    claim(store, "a")
    clock.advance(20)
    store.uploads.acquire(REGISTRY, REPOSITORY, digest("a"), owner="b", lease=30)
    assert store.jobs.owners() == {"a", "b"}
    clock.advance(10)
    assert store.jobs.owners() == {"b"}


def test_renewing_extends_every_lease_of_the_owner_and_no_other(store: Store, clock: FakeClock) -> None:
    for _ in range(3):
        store.jobs.add(new_job())
    mine, mine_too, other = claim(store, "a"), claim(store, "a"), claim(store, "b")
    upload = store.uploads.acquire(REGISTRY, REPOSITORY, digest("a"), owner="a", lease=30)
    clock.advance(20)
    store.jobs.renew("a", 30)
    clock.advance(15)
    assert store.jobs.owners() == {"a"}
    assert claim(store, "c", expired_owners=["a", "b"]).id == other.id
    for job in (mine, mine_too):
        store.jobs.check_lease(job)
    assert upload is not None
    where = (REGISTRY, REPOSITORY, digest("a"))
    assert store.uploads.acquire(*where, owner="c", lease=30, expired_owners=["a", "b"]) is None


@pytest.mark.parametrize("attempt", [True, False])
def test_a_job_given_back_can_be_claimed_again(store: Store, attempt: bool) -> None:
    store.jobs.add(new_job())
    job = claim(store)
    store.jobs.release(job, state=JobState.QUEUED, attempt=attempt)
    after = store.jobs.get(job.id)
    assert (after.state, after.attempts, after.lease_owner) == (JobState.QUEUED, int(attempt), None)
    with pytest.raises(LeaseLost):
        store.jobs.release(job, state=JobState.QUEUED, attempt=attempt)
    assert claim(store).lease_token == job.lease_token + 1


@pytest.mark.parametrize("state", [JobState.PAUSED, JobState.SUCCEEDED, JobState.WAITING])
def test_a_job_is_not_released_to_a_state_that_makes_no_sense(store: Store, state: JobState) -> None:
    store.jobs.add(new_job())
    with pytest.raises(ValueError, match="released as"):
        store.jobs.release(claim(store), state=state, attempt=True)


def test_many_threads_never_claim_the_same_job(store: Store) -> None:
    ids = [store.jobs.add(new_job()).id for _ in range(40)]

    def work(owner: int) -> list[int]:
        mine = []
        while (job := store.jobs.claim(f"t{owner}", lease=30)) is not None:
            mine.append(job.id)
        return mine

    with ThreadPoolExecutor(8) as pool:
        claimed = [job_id for mine in pool.map(work, range(8)) for job_id in mine]
    assert sorted(claimed) == ids


def test_several_processes_never_claim_the_same_job(store: Store, url: str) -> None:
    ids = [store.jobs.add(new_job()).id for _ in range(40)]
    command = [sys.executable, "-m", "tests.store.programs", "claim", url]
    workers = [
        subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in ("a", "b", "c")
    ]
    for worker in workers:  # all have opened the store before the first claims
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    claimed = [int(line) for out in [w.communicate()[0] for w in _started(workers)] for line in out.split()]
    assert sorted(claimed) == ids
    assert {worker.returncode for worker in workers} == {0}


def _started(workers: list[subprocess.Popen[str]]) -> list[subprocess.Popen[str]]:
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    return workers


def test_nobody_takes_his_own_job_over(store: Store, clock: FakeClock) -> None:
    """A worker that slept through its lease still works on what it has."""
    store.jobs.add(new_job())
    job = claim(store, "sleeper")
    clock.advance(3600)
    assert store.jobs.claim("sleeper", lease=30) is None
    assert store.jobs.claim("sleeper", lease=30, at_work=[job.id]) is None
    store.jobs.renew("sleeper", 30)
    assert store.jobs.claim("other", lease=30, expired_owners=["sleeper"]) is None
    store.jobs.succeed(job, digest("f"))


def test_a_claim_whose_answer_was_lost_is_given_again(store: Store) -> None:
    store.jobs.add(new_job())
    lost = claim(store, "w")
    again = claim(store, "w", at_work=[])
    assert (again.id, again.lease_token) == (lost.id, lost.lease_token + 1)
    assert "taken over" not in store.events.of(lost.id)[-1].message


def test_what_its_owner_still_works_on_is_left_alone(store: Store) -> None:
    """Paused and resumed before its thread has noticed."""
    job = store.jobs.get(store.jobs.add(new_job()).id)
    claim(store, "w")
    store.jobs.pause(job.id)
    store.jobs.resume(job.id)
    assert store.jobs.claim("w", lease=30, at_work=[job.id]) is None
    assert claim(store, "w", at_work=[]).id == job.id


def test_an_expired_lease_is_kept_by_whom_nobody_has_seen_expired(store: Store, clock: FakeClock) -> None:
    """The clock may have been set since the worker last looked."""
    store.jobs.add(new_job())
    claim(store, "a")
    store.uploads.acquire(REGISTRY, REPOSITORY, digest("a"), owner="b", lease=30)
    until = clock.now + timedelta(seconds=30)
    assert sorted(map(astuple, store.jobs.leases())) == [("a", until, False), ("b", until, False)]
    clock.advance(30)
    assert sorted(map(astuple, store.jobs.leases())) == [("a", until, True), ("b", until, True)]
    where = (REGISTRY, REPOSITORY, digest("a"))
    for expired in ([], ["other"]):
        assert store.jobs.claim("c", lease=30, expired_owners=expired) is None
        assert store.uploads.acquire(*where, owner="c", lease=30, expired_owners=expired) is None
    assert claim(store, "c", dead_owners=["a"]).lease_owner == "c"
    assert store.uploads.acquire(*where, owner="c", lease=30, expired_owners=["b"]) is not None


def test_a_clock_that_is_set_just_before_a_claim_takes_nothing_over(store: Store, clock: FakeClock) -> None:
    """The worker looked a moment ago: then all leases were current, but for those of one that is gone."""
    jobs = [store.jobs.add(new_job()).id for _ in range(2)]
    claim(store, "gone")
    clock.advance(40)
    living = claim(store, "living")
    upload = store.uploads.acquire(REGISTRY, REPOSITORY, digest("a"), owner="living", lease=30)
    expired = {each.owner for each in store.jobs.leases() if each.have_ended}
    clock.advance(5 * 86400)
    assert claim(store, "heir", expired_owners=expired).id == jobs[0]
    assert store.jobs.claim("heir", lease=30, expired_owners=expired, at_work=jobs[:1]) is None
    where = (REGISTRY, REPOSITORY, digest("a"))
    assert store.uploads.acquire(*where, owner="heir", lease=30, expired_owners=expired) is None
    assert store.uploads.is_leased_by_others(REGISTRY, digest("a"), owner="heir", expired_owners=expired)
    store.jobs.check_lease(living)
    assert upload is not None


@pytest.mark.parametrize("days", [-2, -0.2])
def test_a_clock_that_was_set_back_makes_no_job_wait(store: Store, clock: FakeClock, days: float) -> None:
    job_id = store.jobs.add(new_job()).id
    pause = clock.now + timedelta(seconds=60)
    store.jobs.release(claim(store), state=JobState.WAITING, next_try_at=pause, error=ERROR, attempt=True)
    assert store.jobs.claim("w", lease=30) is None
    clock.advance(days * 86400)
    assert claim(store).id == job_id


def test_a_pause_is_over_when_the_worker_knows_it(store: Store, clock: FakeClock) -> None:
    job_id = store.jobs.add(new_job()).id
    pause = clock.now + timedelta(seconds=60)
    store.jobs.release(claim(store), state=JobState.WAITING, next_try_at=pause, error=ERROR, attempt=True)
    assert store.jobs.claim("w", lease=30, waited=[job_id + 1]) is None
    assert claim(store, waited=[job_id]).id == job_id


def test_a_lease_of_a_clock_that_was_set_back_ends(store: Store, clock: FakeClock) -> None:
    """Nobody is known to be dead: its owner ran on another machine that shares the file."""
    store.jobs.add(new_job())
    job = claim(store, "gone")
    upload = store.uploads.acquire(REGISTRY, REPOSITORY, digest("a"), owner="gone", lease=30)
    assert upload is not None
    clock.advance(-2 * 86400)
    assert store.jobs.owners() == set()
    assert [each.have_ended for each in store.jobs.leases()] == [True]
    assert store.jobs.claim("heir", lease=30) is None, "a living owner renews it in a moment"
    assert claim(store, "heir", expired_owners=["gone"]).id == job.id
    where = (REGISTRY, REPOSITORY, digest("a"))
    assert store.uploads.acquire(*where, owner="heir", lease=30, expired_owners=["gone"]) is not None


def test_any_number_of_ids_restricts_a_claim(store: Store) -> None:
    """More than a statement can have parameters: after hours offline every job of a queue has had a pause."""
    job = store.jobs.add(new_job())
    many = range(1, 70_000)
    assert store.jobs.claim("w", lease=30, only=many, at_work=many, waited=many) is None
    assert not store.jobs.has_waiting(only=many, put_off=many)
    assert claim(store, only=many, waited=many).id == job.id


def test_whether_a_job_waits_for_what_the_run_can_bring_about(store: Store) -> None:
    def wait(job_id: int, code: str) -> None:
        job = claim(store, only=[job_id])
        error = StoredError(code, "", "")
        store.jobs.release(
            job, state=JobState.WAITING, next_try_at=store.now() + timedelta(1), error=error, attempt=True
        )

    older, newer = (store.jobs.add(new_job(tag="t", keeps_older=True)).id for _ in range(2))
    assert not store.jobs.has_waiting(), "queued jobs do not wait"
    wait(newer, TagNotYet.code)
    assert store.jobs.has_waiting()
    assert not store.jobs.has_waiting(only=[newer]), "nobody pushes the older one"
    assert not store.jobs.has_waiting(put_off=[older])
    assert not store.jobs.has_waiting(put_off=[newer])
    assert not store.jobs.has_waiting(only=[older])
    other = claim(store, "other", only=[older])
    assert store.jobs.has_waiting(only=[newer]), "another worker does"
    store.jobs.release(other, state=JobState.QUEUED, attempt=False)
    store.jobs.pause(older)
    assert not store.jobs.has_waiting()
    store.jobs.resume(older)
    wait(older, "registry-unreachable")
    assert store.jobs.has_waiting()
    assert not store.jobs.has_waiting(only=[newer])
    store.jobs.succeed(claim(store, only=[older], waited=[older]), digest("f"))
    assert store.jobs.has_waiting(only=[newer])


def test_jobs_of_registries_in_trouble(store: Store) -> None:
    """Those of one that is away go last, whatever their priority; those of a silent one are left."""
    away = store.jobs.add(new_job(registry="away.example", priority=9)).id
    silent = store.jobs.add(new_job(registry="silent.example", priority=8)).id
    well = store.jobs.add(new_job()).id
    found = [
        store.jobs.claim("w", lease=30, last=["away.example"], skipped=["silent.example"]) for _ in range(3)
    ]
    assert [job and job.id for job in found] == [well, away, None]
    assert claim(store).id == silent


def test_a_silence_is_recorded_until_it_is_over(store: Store, clock: FakeClock) -> None:
    store.jobs.add(new_job())
    job = claim(store)
    store.jobs.record_silence(job, ERROR, 10)
    stored = store.jobs.get(job.id)
    assert (stored.state, stored.error) == (JobState.RUNNING, ERROR)
    assert stored.waiting_since == clock.now - timedelta(seconds=10)
    assert store.events.of(job.id)[-1].message == "busy"
    store.jobs.record_speeds("w", {job.id: (0, 0)})
    assert store.jobs.get(job.id).waiting_since is not None
    store.jobs.record_speeds("w", {job.id: (5, 0)})
    assert store.jobs.get(job.id).waiting_since is None
    store.jobs.record_silence(job, ERROR, 10)
    store.jobs.end_silence(job, "it responds again")
    stored = store.jobs.get(job.id)
    assert (stored.error, stored.waiting_since) == (None, None)
    store.jobs.pause(job.id)
    store.jobs.record_silence(job, ERROR, 10)
    assert store.jobs.get(job.id).error is None, "it is this worker's job no more"
