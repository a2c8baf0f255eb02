"""Whose turn it is to set a tag that several jobs push to."""

from __future__ import annotations

from collections.abc import Collection

from pusher.errors import TagHeld, TagNotYet
from pusher.store.records import JobRecord, JobState
from pusher.store.store import Store
from pusher.worker.liveness import Presence


def take_tag(store: Store, presence: Presence, job: JobRecord) -> None:
    """Record that the job is about to set its tag, before each request that does.

    Raises TagNotYet where an older job sets it first, LeaseLost where a newer one took the job's place.
    """
    older = store.jobs.take_tag(job, presence.dead_owners(store), presence.doubtful_owners(store))
    if older is None:
        return
    who = f"job {older.id}, {older.image}, sets {job.destination} first"
    if older.state is JobState.PAUSED:
        raise TagHeld(f"{who}, and is paused", hint=f"pusher resume {older.id}, or pusher cancel {older.id}")
    raise TagNotYet(who)


def may_move(
    store: Store, presence: Presence, job: JobRecord, only: Collection[int] | None, put_off: Collection[int]
) -> bool:
    """Whether a waiting job may go on while a run waits. One that waits for its turn may if the job whose
    turn it is can: not if that is paused, ``put_off`` until the user acts, or not among ``only``."""
    if job.error is None or job.error.code != TagNotYet.code:
        return True
    older = store.jobs.before(job, presence.dead_owners(store), presence.doubtful_owners(store))
    if older is None or older.state is JobState.RUNNING:
        return True
    ours = only is None or older.id in only
    return older.state is not JobState.PAUSED and ours and older.id not in put_off
