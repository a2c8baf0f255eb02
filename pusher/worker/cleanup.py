"""Remove what is no longer needed: sessions of cancelled jobs, finished jobs, blobs on disk."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from pusher.config import Settings
from pusher.dataclass import dataclass
from pusher.errors import PusherError, Stopped
from pusher.registry.upload.deletion import delete_session
from pusher.spool.spool import Spool
from pusher.store.migrate import remove_old_copies
from pusher.store.records import JobRecord, JobState
from pusher.store.store import Store
from pusher.worker import piped_archives
from pusher.worker.liveness import WorkerIdentity
from pusher.worker.registries import Registries

_CANCEL_TIMEOUT: Final = 5.0
"""Seconds that ``pusher cancel`` waits for a registry: the session can be deleted by a later run as well."""
_UNUSED_AFTER: Final = 60.0
"""Seconds after which a blob that the job store does not know is not one that a worker has just written."""
_KEEP_COPIES: Final = 7 * 86400.0
"""Seconds for which ``prune`` keeps the copy of the job store made by an upgrade."""


@dataclass(frozen=True)
class PruneResult:
    """What ``prune`` removed, or would remove."""

    jobs: int
    known: int
    """Rows of the job store about blobs and manifests that no job needs."""
    blobs: int
    bytes: int
    """In the spool."""
    store_bytes: int = 0
    """By which the job store's file became smaller."""


def cancel(store: Store, settings: Settings, job_ids: Collection[int]) -> list[JobRecord]:
    """Cancel jobs, and delete the upload sessions that only they needed at registries that can be reached.

    Raises JobUnknown, JobStateConflict.
    """
    cancelled = [store.jobs.cancel(job_id) for job_id in job_ids]
    timeouts = replace(settings.timeouts, connect=_CANCEL_TIMEOUT, answer=_CANCEL_TIMEOUT)
    registries = Registries(store, replace(settings, timeouts=timeouts))
    try:
        delete_sessions(
            store, registries, WorkerIdentity(settings.workers, settings.lease).find_dead_owners(store)
        )
    finally:
        registries.close()
    return cancelled


def delete_sessions(store: Store, registries: Registries, dead_owners: Collection[str]) -> None:
    """Delete the sessions of cancelled jobs, and lost ones, at their registries; keep for later those that
    cannot be reached or are refused."""
    store.abandoned.mark_unneeded(dead_owners)
    there = _Reach(registries)
    for upload in store.abandoned.all():
        gone = upload.location is None or there.delete(upload.registry, upload.repository, upload.location)
        if gone is not None:
            store.abandoned.record_deletion(upload, refused=not gone)
    for session in store.dead_sessions.all():
        gone = there.delete(session.registry, session.repository, session.location)
        if gone is not None:
            (store.dead_sessions.remove if gone else store.dead_sessions.record_refusal)(session)


class _Reach:
    """Deletes sessions at the registries that can be reached."""

    def __init__(self, registries: Registries) -> None:
        self._registries = registries
        self._unreachable: set[str] = set()

    def delete(self, registry: str, repository: str, location: str) -> bool | None:
        """Delete a session; return whether it is gone, None if the registry cannot be reached."""
        if registry in self._unreachable:
            return None
        try:
            return delete_session(self._registries.get(registry, repository).client, repository, location)
        except (PusherError, Stopped):
            self._unreachable.add(registry)
            return None


def prune(
    store: Store,
    settings: Settings,
    spool_limit: int = 0,
    *,
    older_than: timedelta = timedelta(0),
    dry_run: bool = False,
) -> PruneResult:
    """Delete jobs that finished longer ago than ``older_than``, with data that only they needed, and unneeded
    blobs until at most ``spool_limit`` bytes remain; with ``dry_run`` only count."""
    spool = Spool(settings.spool, is_shared=settings.spool_folder is not None)
    if not dry_run:
        spool.sweep()
    unneeded = _find_unneeded(store, spool, spool_limit)
    if not dry_run:
        spool.remove_all(unneeded)
    kept = {digest for digest, _, _ in spool.blobs()} - {digest for digest, _ in unneeded}
    # a moment later, so that what finished just now is older than nothing
    before = store.now() - older_than + timedelta(milliseconds=1)
    forgotten = store.retention.prune(before, blobs=kept, dry_run=dry_run)
    if not dry_run:
        piped_archives.remove_unneeded(store, spool)
        remove_old_copies(settings.database_url, max(older_than.total_seconds(), _KEEP_COPIES))
    freed = sum(size for _, size in unneeded)
    in_use = dry_run or store.jobs.owners()
    smaller = 0 if in_use else store.retention.compact()
    return PruneResult(forgotten.jobs, forgotten.known, len(unneeded), freed, smaller)


def keep_limits(
    store: Store, settings: Settings, spool: Spool, job_ids: Collection[int], *, until: datetime | None
) -> None:
    """Delete what is beyond the limits: jobs that finished long ago, and not after ``until``; blobs that no
    job needs; the oldest events of ``job_ids``; workers and machines that are gone. Runs do it by
    themselves."""
    evict_blobs(store, spool, settings.spool_limit)
    store.events.trim(job_ids)
    remove_old_copies(settings.database_url, _KEEP_COPIES)
    before = store.now() - timedelta(seconds=settings.keep_jobs)
    store.workers.forget(before)
    before = min(before, until or before)
    if store.retention.has_expired(before):
        store.retention.prune(before, blobs={digest for digest, _, _ in spool.blobs()})


def evict_blobs(store: Store, spool: Spool, limit: int) -> int:
    """Remove blobs that no unfinished job needs, longest unused first; returns the bytes freed."""
    piped_archives.remove_unneeded(store, spool)
    return spool.remove_all(_find_unneeded(store, spool, limit))


def _find_unneeded(store: Store, spool: Spool, limit: int) -> list[tuple[str, int]]:
    """Return digests and sizes of blobs to remove, so that unneeded ones take at most ``limit`` bytes.

    While jobs run, keep blobs written just now that the job store does not know: the worker has not recorded
    yet which job needs them.
    """
    now = spool.now()
    found = spool.all_files()
    if sum(size for _, size, _ in found) <= limit:
        return []
    keep = store.blobs.needed_digests([digest for digest, _, _ in found])
    if not store.jobs.counts().get(JobState.RUNNING, 0):
        return spool.find_unneeded(keep, limit)
    fresh = {digest for digest, _, used in found if used >= now - _UNUSED_AFTER}
    keep |= fresh - store.blobs.known_digests(fresh)
    return spool.find_unneeded(keep, limit, used_before=now)
