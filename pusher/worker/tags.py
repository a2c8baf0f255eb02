"""Whose turn it is to set a tag that several jobs push to."""

from __future__ import annotations

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
