"""What is no longer needed: sessions of cancelled jobs, finished jobs, blobs on disk."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final

from pusher.config import Settings
from pusher.errors import PusherError
from pusher.registry.ending import end_session
from pusher.spool.spool import Spool
from pusher.store.records import FINAL_STATES, JobRecord, JobState
from pusher.store.store import Store
from pusher.worker.presence import Presence
from pusher.worker.registries import Registries

_IMPATIENT: Final = 5.0
"""Seconds that ``pusher cancel`` waits for a registry: the session can be deleted by a later run as well."""
_SETTLED: Final = 60.0
"""Seconds after which a blob that no job needs is not one that a worker has just written."""


@dataclass(frozen=True)
class PruneResult:
    """What ``prune`` removed."""

    jobs: int
    blobs: int
    bytes: int


def cancel(store: Store, settings: Settings, job_ids: Collection[int]) -> list[JobRecord]:
    """Cancel jobs, and delete the upload sessions that only they needed, as far as the registry is in reach.

    Raises JobUnknown, JobStateConflict.
    """
    cancelled = [store.jobs.cancel(job_id) for job_id in job_ids]
    timeouts = replace(settings.timeouts, connect=_IMPATIENT, answer=_IMPATIENT)
    registries = Registries(store, replace(settings, timeouts=timeouts))
    try:
        delete_sessions(store, registries, Presence(settings.workers, settings.lease).dead_owners(store))
    finally:
        registries.close()
    return cancelled


def delete_sessions(store: Store, registries: Registries, dead_owners: Collection[str]) -> None:
    """Delete the sessions of cancelled jobs, and those that were lost, at their registries; what cannot be
    reached or is refused stays for later."""
    store.uploads.abandon_unneeded(dead_owners)
    there = _Reach(registries)
    for upload in store.uploads.abandoned():
        gone = upload.location is None or there.delete(upload.registry, upload.repository, upload.location)
        if gone is not None:
            store.uploads.deleted(upload, refused=not gone)
    for session in store.dead_sessions.all():
        gone = there.delete(session.registry, session.repository, session.location)
        if gone is not None:
            (store.dead_sessions.deleted if gone else store.dead_sessions.refused)(session)


class _Reach:
    """Deletes sessions at the registries that can be reached."""

    def __init__(self, registries: Registries) -> None:
        self._registries = registries
        self._unreachable: set[str] = set()

    def delete(self, registry: str, repository: str, location: str) -> bool | None:
        """Whether the session is gone; None if nobody could be asked."""
        if registry in self._unreachable:
            return None
        try:
            return end_session(self._registries.get(registry, repository).client, repository, location)
        except PusherError:
            self._unreachable.add(registry)
            return None


def prune(store: Store, settings: Settings, spool_limit: int | None = None) -> PruneResult:
    """Forget finished jobs, and remove blobs that no job needs until at most ``spool_limit`` bytes remain."""
    finished = [job.id for job in store.jobs.list(states=FINAL_STATES)]
    jobs = store.jobs.delete(finished)
    spool = Spool(settings.spool)
    spool.sweep()
    before = sum(1 for _ in spool.blobs())
    freed = evict(store, spool, spool_limit or 0)
    return PruneResult(jobs=jobs, blobs=before - sum(1 for _ in spool.blobs()), bytes=freed)


def evict(store: Store, spool: Spool, limit: int) -> int:
    """Remove blobs that no unfinished job needs, longest unused first; returns the bytes freed.

    While jobs run, what was used just now stays: its worker may not have recorded yet what it is for.
    """
    running = store.jobs.counts().get(JobState.RUNNING, 0)
    used_before = time.time() - _SETTLED if running else None
    return spool.evict(store.layers.needed_digests(), limit, used_before=used_before)
