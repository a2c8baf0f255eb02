"""Several jobs for one tag: it ends at the image that was enqueued last."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from pusher.errors import JobStateConflict, LeaseLost, TagNotYet
from pusher.store.destinations import OlderJob
from pusher.store.records import JobRecord, JobState, StoredError
from pusher.store.store import Store
from tests.support.databases import FakeClock, digest, new_job

ERROR = StoredError("registry-refused", "the registry said no", "ask it why")
NOT_YET = StoredError(TagNotYet.code, "an older one first", "")


def add(store: Store, **changes: object) -> JobRecord:
    return store.jobs.add(new_job(**{"tag": "latest", **changes}))


def claim(store: Store, job: JobRecord, owner: str = "w") -> JobRecord:
    claimed = store.jobs.claim(owner, lease=30, only=[job.id])
    assert claimed is not None
    return claimed


def state(store: Store, job: JobRecord) -> JobState:
    return store.jobs.get(job.id).state


def turn(store: Store, job: JobRecord) -> int | None:
    """The job that goes first, when this one asks for the tag."""
    older = store.jobs.take_tag(job)
    return None if older is None else older.id


# --- superseding ------------------------------------------------------------------------------------------


def test_a_newer_job_supersedes_every_unfinished_older_one(store: Store, clock: FakeClock) -> None:
    queued, waiting, paused, running, done = (add(store, keeps_older=True) for _ in range(5))
    store.jobs.release(
        claim(store, waiting), state=JobState.WAITING, next_try_at=clock.now, error=ERROR, attempt=True
    )
    store.jobs.pause(paused.id)
    lease = claim(store, running)
    store.jobs.fail(claim(store, done), ERROR)
    clock.advance(1)

    newer = add(store)
    older = (queued, waiting, paused, running)
    assert [job.id for job in store.jobs.superseded_by(newer)] == [job.id for job in older]
    for job in older:
        after = store.jobs.get(job.id)
        assert (after.state, after.superseded_by, after.finished_at) == (
            JobState.SUPERSEDED,
            newer.id,
            clock.now,
        )
        event = store.events.of(job.id)[-1]
        assert (event.kind, event.message) == (
            "superseded",
            f"superseded by job {newer.id}, which is newer",
        )
    assert state(store, done) == JobState.FAILED
    with pytest.raises(LeaseLost):
        store.jobs.check_lease(lease)
    with pytest.raises(LeaseLost):
        store.jobs.succeed(lease, digest("f"))
    assert claim(store, newer).id == newer.id
    assert store.jobs.claim("w", lease=30) is None


@pytest.mark.parametrize(
    "elsewhere",
    [{"tag": "other"}, {"repository": "team/other"}, {"registry": "other.example"}, {"tag": None}],
)
def test_another_destination_is_not_touched(store: Store, elsewhere: dict[str, object]) -> None:
    one, other = add(store), add(store, **elsewhere)
    assert (state(store, one), state(store, other)) == (JobState.QUEUED, JobState.QUEUED)


def test_without_a_tag_nothing_is_set_back(store: Store) -> None:
    one, two = add(store, tag=None), add(store, tag=None)
    assert turn(store, claim(store, two)) is None
    assert turn(store, claim(store, one)) is None


def test_what_an_older_pusher_left_is_superseded_when_it_is_claimed(store: Store) -> None:
    """Its jobs know nothing of each other."""
    old, new = add(store), add(store, keeps_older=True)
    with store._database.write() as connection:
        connection.execute("UPDATE jobs SET keeps_older = (1 = 0)")
    claimed = store.jobs.claim("w", lease=30)
    assert claimed is not None
    assert claimed.id == new.id
    assert store.jobs.get(old.id).superseded_by == new.id


def test_a_push_that_was_cut_off_does_not_set_the_tag_back(store: Store) -> None:
    """The newer one succeeded while nobody knew of it."""
    old, new = add(store), add(store, keeps_older=True)
    store.jobs.succeed(claim(store, new), digest("f"))
    assert store.jobs.claim("w", lease=30) is None
    assert state(store, old) == JobState.SUPERSEDED


# --- the tag, in the order of enqueueing ------------------------------------------------------------------


def test_the_tag_waits_for_older_jobs_that_are_kept(store: Store, clock: FakeClock) -> None:
    old, new = add(store), add(store, keeps_older=True)
    newer = claim(store, new, "host-b/1")
    assert turn(store, newer) == old.id
    store.jobs.release(newer, state=JobState.WAITING, next_try_at=clock.now, error=NOT_YET, attempt=True)
    assert store.jobs.claim("host-b/1", lease=30, only=[new.id]) is None, "it is not its turn"
    older = claim(store, old, "host-a/1")
    assert store.jobs.claim("host-b/1", lease=30) is None
    assert turn(store, older) is None
    store.jobs.succeed(older, digest("e"))
    newer = claim(store, new, "host-b/1")
    assert turn(store, newer) is None
    store.jobs.succeed(newer, digest("f"))


@pytest.mark.parametrize("end", ["fail", "cancel"])
def test_an_older_job_that_ended_otherwise_keeps_nobody_waiting(store: Store, end: str) -> None:
    old, new = add(store), add(store, keeps_older=True)
    if end == "fail":
        store.jobs.fail(claim(store, old), ERROR)
    else:
        store.jobs.cancel(old.id)
    assert turn(store, claim(store, new)) is None


def test_a_paused_older_job_is_waited_for(store: Store) -> None:
    old, new = add(store), add(store, keeps_older=True)
    store.jobs.pause(old.id)
    older = store.jobs.take_tag(claim(store, new))
    assert older is not None
    assert (older.id, older.state) == (old.id, JobState.PAUSED)


# --- while the manifest is on its way ---------------------------------------------------------------------


def test_a_job_that_is_setting_the_tag_is_not_superseded_but_waited_for(
    store: Store, clock: FakeClock
) -> None:
    """Its request cannot be called back: the newer one comes after it."""
    old = claim(store, add(store), "host-a/1")
    assert turn(store, old) is None
    new = add(store)
    assert store.jobs.superseded_by(new) == ()
    newer = claim(store, new, "host-b/1")
    assert turn(store, newer) == old.id
    store.jobs.release(newer, state=JobState.WAITING, next_try_at=clock.now, error=NOT_YET, attempt=True)
    assert store.jobs.claim("host-b/1", lease=30) is None
    store.jobs.succeed(old, digest("e"))
    assert turn(store, claim(store, new, "host-b/1")) is None


def test_a_request_that_failed_is_not_repeated_once_there_is_a_newer_job(store: Store) -> None:
    old = claim(store, add(store))
    assert turn(store, old) is None
    new = add(store)
    with pytest.raises(LeaseLost, match=f"job {new.id} supersedes job {old.id}"):
        store.jobs.take_tag(old)
    assert state(store, old) == JobState.SUPERSEDED
    assert turn(store, claim(store, new)) is None


@pytest.mark.parametrize("how", ["lease ends", "known as dead"])
def test_who_died_while_setting_the_tag_keeps_nobody_waiting(
    store: Store, clock: FakeClock, how: str
) -> None:
    old = claim(store, add(store), "host-a/1")
    assert turn(store, old) is None
    new = add(store)
    newer = claim(store, new, "host-b/1")
    store.jobs.release(newer, state=JobState.WAITING, next_try_at=clock.now, error=NOT_YET, attempt=True)
    dead = ["host-a/1"] if how == "known as dead" else []
    expired = [] if dead else ["host-a/1"]
    if expired:
        clock.advance(31)
    newer_again = store.jobs.claim(
        "host-b/1", lease=30, dead_owners=dead, expired_owners=expired, only=[new.id]
    )
    assert newer_again is not None
    assert store.jobs.take_tag(newer_again) == OlderJob(old.id, old.image, JobState.RUNNING)
    assert store.jobs.take_tag(newer_again, dead, expired) is None
    assert store.jobs.claim("host-b/1", lease=30, dead_owners=dead, expired_owners=expired) is None
    assert state(store, old) == JobState.SUPERSEDED


# --- coming back ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["failed", "cancelled"])
def test_an_older_job_is_not_tried_again_after_a_newer_one_succeeded(store: Store, how: str) -> None:
    old = add(store)
    if how == "failed":
        store.jobs.fail(claim(store, old), ERROR)
    else:
        store.jobs.cancel(old.id)
    new = add(store, keeps_older=True)
    store.jobs.succeed(claim(store, new), digest("f"))
    before = store.jobs.get(old.id)
    with pytest.raises(
        JobStateConflict, match=f"back to an older image: job {new.id}, which is newer"
    ) as caught:
        store.jobs.retry(old.id)
    assert "pusher enqueue app:1 --to registry.example.com/team/app:latest" in caught.value.hint
    assert store.jobs.get(old.id) == before


def test_an_older_job_is_tried_again_where_the_newer_one_failed(store: Store) -> None:
    old, new = add(store), add(store)
    assert state(store, old) == JobState.SUPERSEDED
    with pytest.raises(JobStateConflict):
        store.jobs.retry(old.id)
    store.jobs.fail(claim(store, new), ERROR)
    again = store.jobs.retry(old.id)
    assert (again.state, again.superseded_by, again.finished_at) == (JobState.QUEUED, None, None)
    assert turn(store, claim(store, old)) is None
    store.jobs.retry(new.id)
    assert turn(store, claim(store, new)) is not None, "that one sets it first"


def test_a_failed_older_job_that_is_kept_goes_first_when_it_is_tried_again(store: Store) -> None:
    old, new = add(store), add(store, keeps_older=True)
    store.jobs.fail(claim(store, old), ERROR)
    store.jobs.retry(old.id)
    assert turn(store, claim(store, new)) == old.id


def test_nothing_older_is_tried_again_while_the_tag_is_set(store: Store) -> None:
    old, new = add(store), add(store, keeps_older=True)
    store.jobs.cancel(old.id)
    assert turn(store, claim(store, new)) is None
    with pytest.raises(JobStateConflict):
        store.jobs.retry(old.id)


# --- at once ----------------------------------------------------------------------------------------------


def test_of_jobs_that_are_added_at_once_exactly_the_newest_is_left(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        jobs = list(pool.map(lambda _: add(store), range(24)))
    newest = max(job.id for job in jobs)
    unfinished = store.jobs.list(states=[JobState.QUEUED])
    assert [job.id for job in unfinished] == [newest]
    assert len(store.jobs.list(states=[JobState.SUPERSEDED])) == 23


_ENQUEUE = """
import sys
from pusher.store.store import Store
from tests.support.databases import new_job
with Store.open(sys.argv[1]) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(10):
        store.jobs.add(new_job(tag="latest"))
"""


def test_two_processes_that_enqueue_at_once_agree(store: Store, url: str) -> None:
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", _ENQUEUE, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for host in hosts:
        assert host.stdout is not None
        assert host.stdout.readline() == "ready\n"
    for host in hosts:
        assert host.stdin is not None
        host.stdin.write("go\n")
        host.stdin.flush()
    for host in hosts:
        host.communicate(timeout=60)
        assert host.returncode == 0
    jobs = store.jobs.list()
    assert [job.state for job in jobs] == [JobState.SUPERSEDED] * 19 + [JobState.QUEUED]


def test_what_is_beyond_retry(store: Store) -> None:
    large = StoredError("layer-too-large", "a layer is over 5 GiB", "split it")
    jobs = [add(store, tag=tag) for tag in ("large", "old", "alone")]
    for job, error in zip(jobs, (large, ERROR, ERROR), strict=True):
        store.jobs.fail(claim(store, job), error)
    every = [job.id for job in jobs]
    assert store.jobs.beyond_retry(every) == {jobs[0].id}
    newer = add(store, tag="old")
    assert store.jobs.beyond_retry([*every, newer.id]) == {jobs[0].id, jobs[1].id}, "it will set the tag"
    store.jobs.cancel(newer.id)
    assert store.jobs.beyond_retry(every) == {jobs[0].id}
    assert store.jobs.beyond_retry([]) == frozenset()
