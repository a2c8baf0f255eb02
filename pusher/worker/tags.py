"""Order the jobs that set the same tag."""

from __future__ import annotations

from pusher.errors import TagHeld, TagNotYet
from pusher.store.records import JobRecord, JobState
from pusher.store.store import Store
from pusher.worker.liveness import WorkerIdentity


def take_tag(store: Store, identity: WorkerIdentity, job: JobRecord) -> None:
    """Record that the job is about to set its tag, before each request that does so.

    Raises TagNotYet if an older job sets it first, TagHeld if that is paused, LeaseLost if a newer job has
    replaced this one.
    """
    older = store.jobs.take_tag(job, identity.find_dead_owners(store), identity.find_expired_owners(store))
    if older is None:
        return
    first = f"job {older.id}, {older.image}, sets {job.destination} first"
    if older.state is JobState.PAUSED:
        raise TagHeld(
            f"{first}, and is paused", hint=f"pusher resume {older.id}, or pusher cancel {older.id}"
        )
    raise TagNotYet(first)
