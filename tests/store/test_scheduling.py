"""Which job starts when: after another, not before a time, by priority; and jobs by their labels."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pusher.errors import JobStateConflict, JobUnknown
from pusher.store.job_filter import JobFilter
from pusher.store.records import JobRecord, JobState, StoredError
from pusher.store.store import Store
from pusher.worker.job_holds import JobHold, JobHolds
from tests.support.databases import FakeClock, digest, new_job


def claim(store: Store) -> JobRecord | None:
    return store.jobs.claim("w", lease=60)


def end(store: Store, job: JobRecord, state: JobState) -> None:
    claimed = store.jobs.claim("w", lease=60, only=[job.id])
    assert claimed is not None
    if state is JobState.SUCCEEDED:
        store.jobs.succeed(claimed, digest("f"))
    else:
        store.jobs.fail(claimed, StoredError("broken", "it is broken", "fix it"))


def test_a_job_after_another_starts_once_that_one_has_succeeded(store: Store) -> None:
    first = store.jobs.add(new_job(tag="1"))
    second = store.jobs.add(new_job(tag="2", after=first.id, priority=9))
    assert (second.after, store.jobs.get(second.id).after) == (first.id, first.id)
    end(store, first, JobState.FAILED)
    assert claim(store) is None
    store.jobs.retry(first.id)
    end(store, first, JobState.SUCCEEDED)
    assert (claim(store) or first).id == second.id


def test_a_job_that_was_superseded_or_pruned_holds_no_other_back(store: Store) -> None:
    first = store.jobs.add(new_job(tag="1"))
    second = store.jobs.add(new_job(tag="2", after=first.id))
    newer = store.jobs.add(new_job(tag="1"))
    assert store.jobs.get(first.id).state is JobState.SUPERSEDED
    store.jobs.pause(newer.id)
    assert (claim(store) or newer).id == second.id


def test_a_job_after_one_that_there_is_not(store: Store) -> None:
    with pytest.raises(JobUnknown):
        store.jobs.add(new_job(after=7))
    assert store.jobs.list() == []


def test_a_job_starts_no_sooner_than_its_time(store: Store, clock: FakeClock) -> None:
    at = clock.now + timedelta(hours=2)
    job = store.jobs.add(new_job(not_before=at))
    assert store.jobs.get(job.id).not_before == at
    clock.advance(2 * 3600 - 1)
    assert claim(store) is None
    clock.advance(1)
    assert (claim(store) or job).state is JobState.RUNNING


def test_priority(store: Store) -> None:
    first, second = store.jobs.add(new_job(tag="1")), store.jobs.add(new_job(tag="2"))
    assert store.jobs.set_priority(second.id, 5).priority == 5
    assert (claim(store) or first).id == second.id
    assert [event.message for event in store.events.of(second.id) if event.kind == "priority"] == ["0 -> 5"]
    store.jobs.cancel(first.id)
    with pytest.raises(JobStateConflict, match="has ended"):
        store.jobs.set_priority(first.id, 1)


def test_filters(store: Store) -> None:
    for tag, labels in (("0", {"a": "1"}), ("1", {"a": "1", "b": "x'y%\\"}), ("2", {})):
        store.jobs.add(new_job(tag=tag, labels=labels))

    def found(**wanted: Any) -> list[str]:
        return sorted(str(job.tag) for job in store.jobs.find(JobFilter(**wanted), 0, 9))

    assert found(labels={"a": "1"}) == ["0", "1"]
    assert found(labels={"a": "1", "b": "x'y%\\"}) == ["1"]
    assert found(labels={"b": "x"}) == []
    assert found(registries=[new_job().registry]) == ["0", "1", "2"]
    assert found(registries=["other.example"]) == []


def test_a_job_is_claimed_within_its_window_alone(store: Store, clock: FakeClock) -> None:
    def hours(first: int, last: int) -> str:
        """A window from and to whole hours after now."""
        return "-".join(f"{(clock.now + timedelta(hours=n)).astimezone():%H:%M}" for n in (first, last))

    closed = store.jobs.add(new_job(tag="1", window=hours(2, 3), priority=9))
    other = store.jobs.add(new_job(tag="2", window=hours(-1, 1)))
    assert store.jobs.get(closed.id).window == hours(2, 3)
    assert (claim(store) or closed).id == other.id
    assert claim(store) is None
    assert not store.jobs.has_runnable()
    store.jobs.cancel(other.id)
    assert store.jobs.seconds_to_next() == pytest.approx(2 * 3600, abs=60), "to the minute that it opens"
    clock.advance(2 * 3600)
    assert store.jobs.has_runnable()
    claimed = claim(store)
    assert claimed is not None
    assert claimed.id == closed.id
    store.jobs.release(claimed, state=JobState.WAITING, next_try_at=clock.now, attempt=True)
    assert store.jobs.has_waiting()
    clock.advance(3600)
    assert not store.jobs.has_waiting(), "nothing that comes by itself within this run"
    assert store.jobs.claim("w", lease=60, only=[closed.id]) is None


def hold_of(store: Store, job: JobRecord) -> JobHold:
    hold = JobHolds(store, [job]).of(job)
    assert hold is not None
    return hold


@pytest.mark.parametrize("how", ["failed", "cancelled"])
def test_a_newer_success_for_the_destination_lets_the_job_after_start(store: Store, how: str) -> None:
    """The older one cannot be tried again: it would move the tag back."""
    first = store.jobs.add(new_job(tag="1"))
    second = store.jobs.add(new_job(tag="2", after=first.id, priority=9))
    third = store.jobs.add(new_job(tag="3", after=second.id))
    if how == "failed":
        end(store, first, JobState.FAILED)
    else:
        store.jobs.cancel(first.id)
    other = store.jobs.add(new_job(tag="other"))
    end(store, other, JobState.SUCCEEDED)
    assert store.jobs.replacements([first.id]) == {}
    hold = hold_of(store, second)
    assert hold.advice == f"to try it again: pusher retry {first.id}"
    newer = store.jobs.add(new_job(tag="1"))
    hold = hold_of(store, second)
    assert hold.ends_in_run
    assert not hold.needs_user
    assert hold.text.endswith(f"or after job {newer.id} for the same destination")
    hold = hold_of(store, third)
    assert not hold.needs_user, "only what comes before it is held"
    store.jobs.pause(newer.id)
    hold = hold_of(store, second)
    assert hold.advice == f"to continue it: pusher resume {newer.id}"
    assert claim(store) is None
    store.jobs.resume(newer.id)
    end(store, newer, JobState.SUCCEEDED)
    with pytest.raises(JobStateConflict):
        store.jobs.retry(first.id)
    assert JobHolds(store, [second]).of(second) is None
    hold = hold_of(store, third)
    assert (hold.text, hold.advice) == (f"starts after job {second.id}", "")
    assert (claim(store) or first).id == second.id
    notes = [event.message for event in store.events.of(second.id) if event.kind == "note"]
    assert notes == [f"job {newer.id} has pushed to the destination of job {first.id}, which did not succeed"]


def test_a_newer_job_that_starts_after_the_one_that_waits_for_it(store: Store) -> None:
    first = store.jobs.add(new_job(tag="1"))
    second = store.jobs.add(new_job(tag="2", after=first.id))
    end(store, first, JobState.FAILED)
    store.jobs.add(new_job(tag="1", after=second.id))
    hold = hold_of(store, second)
    assert hold.needs_user
