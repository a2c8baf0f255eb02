"""Carry out a user's command for a job."""

from __future__ import annotations

from pusher.store.records import JobRecord
from pusher.store.store import Store


def decide(store: Store, verb: str, job_id: int) -> JobRecord:
    """Pause, resume, cancel or retry a job. ``verb``: a key of ``store.decisions.DECISIONS``.

    Raises JobUnknown, JobStateConflict, StoreError.
    """
    decision = {
        "pause": store.jobs.pause,
        "resume": store.jobs.resume,
        "cancel": store.jobs.cancel,
        "retry": store.jobs.retry,
    }[verb]
    job = decision(job_id)
    if verb == "retry":  # the registry may have raised the limits that were learned from its refusals
        store.facts.forget_limits(job.registry)
    return job
