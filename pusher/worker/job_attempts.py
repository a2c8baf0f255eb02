"""Run attempts at jobs: push each and record the outcome."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection
from datetime import timedelta
from typing import Final

from pusher.errors import (
    DiskFull,
    EngineNotRunning,
    ExitCode,
    HomeUnusable,
    JobStateConflict,
    JobUnknown,
    LeaseLost,
    MachineExhausted,
    PipedArchiveUnusable,
    PusherError,
    RegistryUnreachable,
    Retry,
    SourceError,
    Stopped,
    StoreError,
    TagNotYet,
    bug,
    find_lost_disk,
    find_machine_error,
)
from pusher.store.records import JobRecord, JobState, StoredError
from pusher.system import elapsed
from pusher.units import human_seconds
from pusher.worker import piped_archives
from pusher.worker.blob_sender import BlobSender
from pusher.worker.cleanup import delete_sessions, evict_blobs
from pusher.worker.control import Control
from pusher.worker.hooks import Hooks
from pusher.worker.job_push import JobPush
from pusher.worker.machine import check_shared_spool
from pusher.worker.name_lookup import UnresolvedNames
from pusher.worker.preparation import BlobPreparer
from pusher.worker.received_blobs import ReceivedBlobs
from pusher.worker.registry_troubles import is_registry_away

_LOG = logging.getLogger(__name__)
_USER_ERRORS: Final = {kind.code for kind in (DiskFull, HomeUnusable, MachineExhausted)}
"""Errors that the user may have fixed by the time a run starts."""
_OFFLINE_ERRORS: Final = {kind.code for kind in (RegistryUnreachable, EngineNotRunning)}
_MOST_RESUMED: Final = 1000
"""Jobs that a run tries at its start before their time; the others have to wait half a minute at most."""


class JobAttempts:
    """Runs one worker's attempts at its jobs. Thread-safe: each job has a thread of its own.

    ``one_job``: the run is for jobs that a user waits for. ``forever``: it never gives up.
    """

    def __init__(
        self,
        sender: BlobSender,
        preparer: BlobPreparer,
        hooks: Hooks,
        *,
        forever: bool,
        one_job: bool,
    ) -> None:
        worker = sender.worker
        self._sender = sender
        self._preparer = preparer
        self._hooks = hooks
        self._forever = forever
        self._identity = worker.identity
        self._settings = worker.settings
        self._store = worker.store
        self._spool = worker.spool
        self._registries = worker.registries
        self._progress = worker.progress
        self._activity = worker.activity
        self._piped = worker.spool.root / piped_archives.FOLDER
        self._names = UnresolvedNames(worker.store, worker.settings.retry)
        self._names.keeps_waiting = not one_job
        self._failures: dict[int, int] = {}
        self._pauses: dict[int, float] = {}  # until when jobs wait, by a clock that cannot be set
        self._offline_jobs: dict[int, str] = {}  # the registries that paused jobs wait for
        self._resumed_early: set[int] = set()
        self._offline_since: float | None = None
        self.put_off: set[int] = set()
        """Jobs that wait until the user acts."""
        self.pushed: set[int] = set()
        """Jobs that this worker has pushed to their end."""
        self.exit_codes: set[ExitCode] = set()
        """Exit codes of the errors for which jobs failed."""

    def due(self) -> set[int]:
        """Return the jobs whose pause is over."""
        now = elapsed()
        return {job_id for job_id, until in list(self._pauses.items()) if until <= now}

    def forget_pause(self, job: JobRecord) -> None:
        """Forget the pause of a job that was claimed."""
        self._pauses.pop(job.id, None)
        self._offline_jobs.pop(job.id, None)

    def end_pauses(self, registry: str) -> bool:
        """Make the jobs due that wait for a registry, which has responded; return whether there are any.

        Each only once until it makes progress: it may wait for another host, such as the storage that the
        registry redirects to.
        """
        waiting = [job_id for job_id, name in list(self._offline_jobs.items()) if name == registry]
        for job_id in waiting:
            self._offline_jobs.pop(job_id, None)
            self._resumed_early.add(job_id)
            self._pauses[job_id] = elapsed()
        return bool(waiting)

    def retry_now(self, only: Collection[int] | None) -> None:
        """Queue the jobs that wait for the user, e.g. for disk space: a run has started or a job freed
        some."""
        for job in self._store.jobs.list(states=[JobState.WAITING], errors=_USER_ERRORS):
            if only is None or job.id in only:
                with contextlib.suppress(JobUnknown, JobStateConflict):
                    self._store.jobs.retry_by_itself(job.id)

    def try_offline_jobs(self, only: Collection[int] | None) -> None:
        """Make the jobs due that wait for a registry or an engine: it may be back as a run starts."""
        waiting = self._store.jobs.list(
            states=[JobState.WAITING], errors=_OFFLINE_ERRORS, limit=_MOST_RESUMED
        )
        for job in waiting:
            if only is None or job.id in only:
                self._pauses[job.id] = elapsed()

    def run(self, job: JobRecord, control: Control) -> None:
        """Push a claimed job and record the outcome. Raises StoreError, LeaseLost."""
        done_before = self._bytes_done(job)
        if self._is_borrowed(job):
            self._spool.revalidate()
        try:
            if not job.has_manifest:
                whole = ReceivedBlobs(self._sender, job, control).send()
                if whole is None:
                    self._progress.job_ended(job.id, "receiving", "more of the image is awaited")
                    return
                job = whole
                self._progress.job_started(job.id, job.image, job.destination)
            digest = JobPush(self._sender, self._preparer, job, control).run()
        except Stopped:
            progress, reason = self._bytes_done(job) > done_before, control.reason or "stopped"
            self._store.jobs.release(
                job, state=JobState.QUEUED, attempt=False, progress=progress, reason=reason
            )
            self._progress.job_ended(job.id, "queued", reason)
        except (StoreError, LeaseLost):
            raise
        except Exception as error:
            known = self._names.classify(known_error(error), job.registry)
            if isinstance(known, SourceError | HomeUnusable):
                known = self._find_spool_error() or known
            if isinstance(known, SourceError) and self._is_borrowed(job):
                self._store.jobs.release_to_machine(job)
                self._progress.job_ended(job.id, "queued", "its machine has to push it")
            elif known.retry is Retry.NEVER:
                self._fail(job, known)
            else:
                self.put_back(job, known, done_before)
        else:
            self._succeed(job, digest)

    def _find_spool_error(self) -> PusherError | None:
        """Return the error if the shared spool is not mounted any more, and no blob is lost."""
        try:
            check_shared_spool(self._identity.machine, self._settings)
        except PusherError as error:
            return error
        return None

    def _is_borrowed(self, job: JobRecord) -> bool:
        """Return whether the image is on another machine, and only its blobs in the spool that it shares."""
        machine = self._identity.machine
        return machine is not None and job.machine not in (None, machine.id)

    def _succeed(self, job: JobRecord, digest: str) -> None:
        self._store.jobs.succeed(job, digest)
        self.pushed.add(job.id)
        self._registries.troubles.record_success(job.registry)
        self._activity.record_progress()
        self._progress.job_ended(job.id, "succeeded", f"{job.destination}@{digest}")
        self._hooks.run_success(job)
        piped_archives.remove_if_unneeded(self._store, self._piped, job.source)
        # the job does not need the spool any more
        with contextlib.suppress(HomeUnusable, DiskFull, MachineExhausted):
            evict_blobs(self._store, self._spool, self._settings.spool_limit)
        delete_sessions(self._store, self._registries, ())  # those that this job has lost
        waiting = frozenset(self.put_off)
        if waiting:
            self.retry_now(waiting)  # this push has freed disk space
        self.put_off -= waiting

    def _fail(self, job: JobRecord, error: PusherError) -> None:
        error = piped_archives.explain_damage(error, self._piped, job)
        self._store.jobs.fail(job, _to_stored_error(error))
        if isinstance(error, PipedArchiveUnusable):
            piped_archives.remove_damaged(self._store, self._piped, job)
        self._activity.record_progress()
        self.exit_codes.add(error.exit_code)
        self._progress.job_ended(job.id, "failed", error.message)
        self._hooks.run_failure(job)

    def put_back(self, job: JobRecord, error: PusherError, done_before: int = 0) -> None:
        """Record that the job waits: for the network, the registry, or (LATER) for the user."""
        progress = self._bytes_done(job) > done_before
        if progress:
            self._failures[job.id] = 0
            self._resumed_early.discard(job.id)
        failures = self._failures.get(job.id, 0)
        self._failures[job.id] = failures + 1
        # it cannot be claimed before the older job has set the tag
        pause = 0.0 if isinstance(error, TagNotYet) else self._settings.retry.job_pause(error, failures)
        if error.retry is Retry.LATER:
            self.put_off.add(job.id)
        self._pauses[job.id] = elapsed() + pause
        if is_registry_away(error) and job.id not in self._resumed_early:
            self._offline_jobs[job.id] = job.registry
        self._store.jobs.release(
            job,
            state=JobState.WAITING,
            next_try_at=self._store.now() + timedelta(seconds=pause),
            error=_to_stored_error(error),
            attempt=error.retry is not Retry.OFFLINE,
            progress=progress,
        )
        troubles = self._registries.troubles
        is_known_away = job.registry in troubles.away() or troubles.has_just_returned(job.registry)
        troubles.record_failure(job.registry, error, pause)
        if error.retry is Retry.OFFLINE and not is_known_away:
            self._report_offline(job, error)
        self._progress.waiting(f"job {job.id}", pause, error.message, fault=error.code, registry=job.registry)
        resumes = error.retry is not Retry.LATER
        self._progress.job_ended(job.id, "waiting", error.message, resumes=resumes)
        self._hooks.run_waiting(job, error, for_user=not resumes)

    def _bytes_done(self, job: JobRecord) -> int:
        totals = self._store.jobs.totals([job.id])
        return totals[job.id].bytes_done if job.id in totals else 0  # other jobs may have what it received

    def _report_offline(self, job: JobRecord, error: PusherError) -> None:
        """Report that the registry, or the engine, is unreachable, once until bytes move again."""
        if self._offline_since == self._activity.last_progress:
            return
        self._offline_since = self._activity.last_progress
        what = error.message if isinstance(error, SourceError) else f"no connection to {job.registry}"
        patience = "until it succeeds"
        if not self._forever:
            patience = f"for up to {human_seconds(self._settings.give_up_after)}"
        limit = self._names.limit(error, job.registry)
        if limit is not None and (self._forever or limit < self._settings.give_up_after):
            what = f"the host {job.registry.partition(':')[0]} cannot be found"
            patience = f"for up to {human_seconds(limit)}, since nothing was ever pushed there from here"
        self._progress.note(
            f"{what}: retrying, at least every {self._settings.retry.job_offline:.0f} s, {patience}"
        )


def known_error(error: Exception) -> PusherError:
    """Return the error as a PusherError; a limit of the machine takes precedence over its consequences."""
    ours = isinstance(error, PusherError) and (error.retry is Retry.LATER or isinstance(error, StoreError))
    if not ours and (fault := find_machine_error(error)):
        return fault
    if isinstance(error, PusherError):
        return error
    if isinstance(error, OSError) and (fault := find_lost_disk(error)):  # those of sockets are PusherErrors
        return fault
    _LOG.error("a bug", exc_info=error)
    return bug(error)


def _to_stored_error(error: PusherError) -> StoredError:
    return StoredError(error.code, error.message, error.hint)
