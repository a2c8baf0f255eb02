"""Which machine may work on a job, and which machines and workers there are."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pusher.store import migrate
from pusher.store.records import JobState, Machine
from pusher.store.store import Store
from tests.store.test_migrations import changing, make_store
from tests.support.databases import REGISTRY, REPOSITORY, FakeClock, digest, new_job

A = Machine("id-a", "build-a", "/home/a", "spool-1")
B = Machine("id-b", "build-b", "/home/b", "spool-1")
C = Machine("id-c", "build-c", "/home/c")


def register(store: Store, worker: str, machine: Machine, lease: float = 30) -> None:
    store.workers.register(worker, machine, pid=7, version="1.2", lease=lease)


def test_a_job_whose_image_is_on_one_machine_is_claimed_there_alone(store: Store) -> None:
    job = store.jobs.add(new_job(machine=A.id))
    for machine in (None, B, C):
        assert store.jobs.claim("w", lease=30, machine=machine) is None
    claimed = store.jobs.claim("w", lease=30, machine=A)
    assert claimed is not None
    assert (claimed.id, claimed.machine) == (job.id, A.id)


def test_a_job_of_no_machine_is_claimed_by_any(store: Store) -> None:
    for machine in (None, B, C):
        store.jobs.add(new_job())
        assert store.jobs.claim("w", lease=30, machine=machine) is not None


def test_what_a_dead_machine_ran_is_not_taken_over_by_one_without_the_image(
    store: Store, clock: FakeClock
) -> None:
    local, remote = store.jobs.add(new_job(machine=A.id)), store.jobs.add(new_job())
    for _ in range(2):
        assert store.jobs.claim("a", lease=30, machine=A) is not None
    clock.advance(31)
    taken = store.jobs.claim("b", lease=30, machine=B, expired_owners=["a"])
    assert taken is not None
    assert taken.id == remote.id
    assert store.jobs.claim("b", lease=30, machine=B, expired_owners=["a"]) is None
    again = store.jobs.claim("a2", lease=30, machine=A, expired_owners=["a"])
    assert again is not None
    assert again.id == local.id


def test_a_run_waits_for_the_jobs_of_its_machine_alone(store: Store, clock: FakeClock) -> None:
    store.jobs.add(new_job(machine=A.id))
    job = store.jobs.claim("w", lease=30, machine=A)
    assert job is not None
    store.jobs.add(new_job(machine=A.id))
    assert store.jobs.has_runnable(machine=A)
    assert not store.jobs.has_runnable(machine=B)
    later = clock.now + timedelta(minutes=1)
    store.jobs.release(job, state=JobState.WAITING, next_try_at=later, attempt=True)
    assert store.jobs.has_waiting(machine=A)
    assert not store.jobs.has_waiting(machine=B)
    assert not store.jobs.has_waiting()


def test_a_run_does_not_wait_for_a_tag_that_another_machine_sets_first(
    store: Store, clock: FakeClock
) -> None:
    store.jobs.add(new_job(tag="1", machine=A.id))
    newer = store.jobs.add(new_job(tag="1", machine=B.id, keeps_older=True))
    claimed = store.jobs.claim("b", lease=30, machine=B)
    assert claimed is not None
    assert store.jobs.take_tag(claimed) is not None
    with store._database.write() as connection:  # as JobAttempts does after TagNotYet
        connection.execute(
            """UPDATE jobs SET state = 'waiting', error_code = 'tag-not-yet', next_try_at = :now,
            lease_owner = NULL, lease_expires_at = NULL WHERE id = :id""",
            now=clock.now,
            id=newer.id,
        )
    assert not store.jobs.has_waiting(machine=B)
    assert store.jobs.claim("a", lease=30, machine=A) is not None
    assert store.jobs.has_waiting(machine=B), "the other machine is at it"


def test_what_each_machine_receives_is_a_job_of_its_own(store: Store) -> None:
    for machine, blob in ((A, "a"), (B, "b"), (A, "d")):
        store.received_jobs.add_blob(
            image="app:1",
            folder=machine.home,
            registry=REGISTRY,
            repository=REPOSITORY,
            digest=digest(blob),
            size=10,
            machine=machine.id,
        )
    first, second = store.jobs.list()
    assert (first.machine, second.machine) == (A.id, B.id)
    assert [len(store.blobs.of_job(job.id)) for job in (first, second)] == [2, 1]
    assert [job.id for job in store.received_jobs.list_incomplete(B.id)] == [second.id]
    pushed = store.received_jobs.add_manifest(new_job(machine=B.id, config_digest=digest("b")))
    assert (pushed.id, pushed.machine) == (second.id, B.id)
    assert store.received_jobs.list_incomplete(B.id) == []
    assert [job.id for job in store.received_jobs.list_incomplete()] == [first.id]


def test_workers_are_listed_while_they_renew_their_leases(store: Store, clock: FakeClock) -> None:
    register(store, "a/1", A)
    began = clock.now
    clock.advance(20)
    register(store, "a/2", A)
    assert store.workers.renew("a/1", 30)
    one, two = store.workers.all()
    assert (one.id, one.machine, one.pid, one.version) == ("a/1", A.id, 7, "1.2")
    assert (one.started_at, one.seen_at) == (began, clock.now)
    assert one.expires_at == clock.now + timedelta(seconds=30)
    assert two.started_at == clock.now
    clock.advance(30)
    assert one.is_gone(clock.now)
    assert not store.workers.renew("unknown", 30)


def test_a_machine_was_seen_when_one_of_its_workers_was(store: Store, clock: FakeClock) -> None:
    store.workers.record_machine(B)
    register(store, "a/1", A)
    clock.advance(20)
    store.workers.renew("a/1", 30)
    a, b = store.workers.machines()
    assert (a.machine, b.machine) == (A, B)
    assert a.seen_at - b.seen_at == timedelta(seconds=20)
    clock.advance(5)
    store.workers.remove(["a/1"])
    assert store.workers.all() == []
    assert store.workers.machines()[0].seen_at == clock.now


def test_a_machine_that_changes_is_recorded_as_it_is_now(store: Store) -> None:
    store.workers.record_machine(A)
    renamed = Machine(A.id, "other", "/elsewhere", None)
    store.workers.record_machine(renamed)
    assert [each.machine for each in store.workers.machines()] == [renamed]


def test_workers_and_machines_that_are_gone_are_forgotten(store: Store, clock: FakeClock) -> None:
    for machine in (A, B, C):
        register(store, f"{machine.name}/1", machine)
    store.workers.remove(["build-a/1", "build-b/1"])
    store.jobs.add(new_job(machine=B.id))
    clock.advance(86400 + 29)
    store.workers.forget(clock.now - timedelta(days=30))
    assert len(store.workers.all()) == 1
    clock.advance(2)
    store.workers.forget(clock.now - timedelta(days=30))
    assert store.workers.all() == []
    assert len(store.workers.machines()) == 3
    store.workers.forget(clock.now)
    assert [each.machine.id for each in store.workers.machines()] == [B.id], "a job needs its name"


@pytest.fixture
def old_url(empty_url: str, kind: str) -> str:
    """A store of the version before machines were recorded, with a queued job."""
    make_store(empty_url, "0014")
    with changing(empty_url) as connection:
        connection.exec_driver_sql(
            """INSERT INTO jobs (image, source, config_digest, host, repository, tag, state, priority,
            attempts, options, bytes_sent, created_at, lease_token)
            VALUES ('app.tar', '{"kind": "oci-archive"}', 'sha256:c', 'r.example', 'app', '1', 'queued', 0,
            0, '{}', 0, '2026-01-01 00:00:00', 0)"""
        )
    return empty_url


def test_jobs_of_before_are_for_any_machine_as_they_were(old_url: str) -> None:
    """Then an image had to be on every machine with a worker."""
    assert migrate.upgrade(old_url)[0] == "0014"
    with Store.open(old_url) as store:
        (job,) = store.jobs.list()
        assert (job.machine, job.spool) == (None, None)
        assert store.jobs.claim("b", lease=30, machine=B) is not None
        assert store.workers.machines() == []
