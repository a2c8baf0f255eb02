"""``pusher run``: claim jobs until none is runnable, push each, keep what happened."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Collection
from datetime import timedelta
from typing import Final

from pusher.config import Settings
from pusher.errors import (
    DiskFull,
    ExitCode,
    HomeUnusable,
    JobStateConflict,
    JobUnknown,
    LeaseLost,
    MachineExhausted,
    PusherError,
    Retry,
    Stopped,
    StoreError,
    TagNotYet,
    bug,
    of_machine,
)
from pusher.progress.base import Progress
from pusher.progress.format import human_seconds
from pusher.spool.spool import Spool
from pusher.store.outages import StoreOutages
from pusher.store.records import JobRecord, JobState, StoredError
from pusher.store.store import Store
from pusher.system import elapsed
from pusher.waiting import told
from pusher.worker.blob_sender import BlobSender
from pusher.worker.cleanup import delete_sessions, evict_blobs
from pusher.worker.control import Activity, Control
from pusher.worker.downloads import Downloads
from pusher.worker.job import JobPush, Tools
from pusher.worker.liveness import WorkerIdentity
from pusher.worker.name_lookup import UnresolvedNames
from pusher.worker.piped_archives import FOLDER, remove_if_unneeded
from pusher.worker.pool import BlobPool
from pusher.worker.preparation import BlobPreparer
from pusher.worker.rate import RateLimiter
from pusher.worker.registries import Registries
from pusher.worker.result import RunResult, summarize
from pusher.worker.shutdown import explain_lost_lease, join_while_moving, requeue, run_while_moving
from pusher.worker.signals import handle_signals

_LOG = logging.getLogger(__name__)
_STILL: Final = 10.0
"""Seconds after which a job of which nothing moves no longer counts as one that is worked on."""
_MOST_STILL: Final = 4
"""Times as many jobs as are worked on at once that may be begun because others stand still."""
_LATER: Final = {kind.code for kind in (DiskFull, HomeUnusable, MachineExhausted)}
"""Errors of a job that the user may have mended when he starts a run."""


def run(
    store: Store,
    settings: Settings,
    progress: Progress,
    *,
    forever: bool = False,
    wait: bool = False,
    only: Collection[int] | None = None,
    leave: Callable[[], None] = lambda: None,
) -> RunResult:
    """Work the queue, or the jobs in ``only``, until nothing is runnable, or for ever.

    With ``wait`` jobs that other workers have are waited for, as those in ``only`` always are.

    The first Ctrl-C, SIGTERM or SIGHUP finishes the chunks in flight, the next calls ``leave`` (to put the
    terminal in order) and ends the process, unless that costs bytes: then it says so, and the third does.
    A job store that is away is waited for, for ever with ``forever``. Raises StoreError, HomeUnusable.
    """
    control, activity = Control(), Activity()
    patience = StoreOutages(
        progress.note,
        limit=None if forever else settings.retry.store_run,
        stopping=lambda: control.stopping,
        back=activity.record_progress,
        policy=settings.retry,
    )
    heart, store = store.direct(), store.waiting_out(patience)
    spool = Spool(settings.spool)
    spool.sweep()
    registries = Registries(store, settings, progress.note)
    with WorkerIdentity(settings.workers, settings.lease) as identity:
        worker = _Worker(store, settings, progress, spool, registries, identity, control, activity)
        with (
            told(progress.note),
            handle_signals(
                control.stop, note=progress.note, at_stake=worker.bytes_at_stake, leave=leave
            ) as signals,
            identity.heartbeat(heart, lambda: worker.look(heart)),
        ):
            try:
                worker.work(forever=forever, wait=wait, only=only)
            finally:
                worker.close()  # chunks in flight may take minutes: leases are renewed until they are through
                registries.close()
        identity.release_dead_owners(store)
        result = worker.result(only)
    if signals.number:
        result.exit_code = ExitCode(128 + signals.number)
    return result


class _Worker:
    def __init__(
        self,
        store: Store,
        settings: Settings,
        progress: Progress,
        spool: Spool,
        registries: Registries,
        identity: WorkerIdentity,
        control: Control,
        activity: Activity,
    ) -> None:
        self._store = store
        self._settings = settings
        self._progress = progress
        self._spool = spool
        self._registries = registries
        self._identity = identity
        self._control = control
        self._activity = activity
        self._pool = BlobPool(settings.parallel)
        rate = settings.limit_rate
        limiter = RateLimiter(rate, progress.note) if rate is not None else None
        self._tools = Tools(
            BlobSender(store, settings, registries, identity, progress, self._activity, limiter),
            BlobPreparer(
                store,
                spool,
                settings,
                progress,
                self._activity,
                Downloads(spool, settings.retry, progress, self._activity, most_early=settings.parallel - 1),
                registries,
            ),
            self._pool,
        )
        self._changed = threading.Condition()
        self._active: dict[int, tuple[JobRecord, Control]] = {}
        self._threads: list[threading.Thread] = []
        self._touched: set[int] = set()
        self._put_off: set[int] = set()
        self._failures: dict[int, int] = {}
        self._names = UnresolvedNames(store, settings.retry)
        self._pauses: dict[int, float] = {}  # until when jobs wait, by a clock that nobody sets
        self._exit_codes: set[ExitCode] = set()
        self._fatal: PusherError | None = None
        self._forever = self._waits_for_others = False
        self._offline_since: float | None = None

    # --- the loop -----------------------------------------------------------------------------------------

    def work(self, *, forever: bool, wait: bool, only: Collection[int] | None) -> None:
        self._forever, self._waits_for_others = forever, wait or only is not None
        self._names.keeps_waiting = only is None
        # before any job takes one up; a registry that does not answer is left alone
        dead = self._identity.find_dead_owners(self._store)
        run_while_moving(
            lambda: delete_sessions(self._store, self._registries, dead), self._activity, self._control
        )
        self._hurry(only)
        while not self._control.stopping:
            job = self._claim(only) if self._has_room() else None
            if job is not None:
                self._start(job)
            elif self._active or forever or self._worth_waiting(only):
                with self._changed:
                    self._changed.wait(self._settings.retry.poll)
            else:
                return

    def _has_room(self) -> bool:
        """Whether to begin another job: jobs that stand still keep no place as long as threads are free."""
        with self._changed:
            controls = [control for _, control in self._active.values()]
        most = self._settings.parallel
        moving = sum(control.seconds_still < _STILL for control in controls)
        lent = moving < most and len(controls) < _MOST_STILL * most
        return len(controls) < most or (lent and self._pool.is_free)

    def _claim(self, only: Collection[int] | None) -> JobRecord | None:
        now = elapsed()
        with self._changed:
            at_work = set(self._active)
        return self._store.jobs.claim(
            self._identity.owner,
            lease=self._identity.lease,
            dead_owners=self._identity.find_dead_owners(self._store),
            spared=self._identity.find_doubtful_owners(self._store),
            only=only,
            at_work=at_work,
            waited={job_id for job_id, until in self._pauses.items() if until <= now},
        )

    def _hurry(self, only: Collection[int] | None) -> None:
        """What waits for something that the user does, as to make room on the disk, is tried now: he is here,
        or a job has made some."""
        for job in self._store.jobs.list(states=[JobState.WAITING], errors=_LATER):
            if only is None or job.id in only:
                with contextlib.suppress(JobUnknown, JobStateConflict):
                    self._store.jobs.retry(job.id)

    def _worth_waiting(self, only: Collection[int] | None) -> bool:
        """Whether some job waits for something that mends itself, and has not for too long, or another worker
        took one of the jobs that this run is for."""
        if self._waits_for_others and any(
            only is None or job.id in only for job in self._store.jobs.list(states=[JobState.RUNNING])
        ):
            self._activity.record_progress()
            return True
        if self._is_doubtful(only):
            return True
        dead = self._identity.find_dead_owners(self._store)
        doubtful = self._identity.find_doubtful_owners(self._store)
        if not self._store.jobs.has_waiting(dead, doubtful, only=only, put_off=self._put_off):
            return False
        patient = self._activity.seconds_idle < self._settings.give_up_after
        if not patient:
            idle = human_seconds(self._activity.seconds_idle)
            self._progress.note(
                f"no progress for {idle}: giving up, and nothing is lost; continue with pusher run, "
                "or with pusher run --forever, which never gives up"
            )
        return patient

    def _is_doubtful(self, only: Collection[int] | None) -> bool:
        """Whether a job runs under a lease that has just ended: soon it is renewed, or there to be taken."""
        others = self._identity.find_doubtful_owners(self._store) - {self._identity.owner}
        return bool(others) and any(
            job.lease_owner in others and (only is None or job.id in only)
            for job in self._store.jobs.list(states=[JobState.RUNNING])
        )

    def _start(self, job: JobRecord) -> None:
        self._pauses.pop(job.id, None)
        control = Control(self._control)
        with self._changed:
            self._active[job.id] = (job, control)
        self._touched.add(job.id)
        self._progress.job_started(job.id, job.image, job.destination)
        thread = threading.Thread(target=self._push, args=(job, control), name=f"job-{job.id}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads to be had
            with self._changed:
                del self._active[job.id]
            self._put_back(job, _known(error), done_before=0)
        else:
            self._threads = [*filter(threading.Thread.is_alive, self._threads), thread]

    def _push(self, job: JobRecord, control: Control) -> None:
        try:
            try:
                self._attempt(job, control)
            except LeaseLost:
                state, message = explain_lost_lease(self._store, job, self._identity.longest_stall)
                self._progress.job_ended(job.id, state, message)
                delete_sessions(self._store, self._registries, ())
        except Exception as error:  # nothing can be recorded any more; the lease runs out by itself
            self._fatal = _known(error)
            self._control.stop()
        finally:
            with self._changed:
                del self._active[job.id]
                self._changed.notify_all()

    def _attempt(self, job: JobRecord, control: Control) -> None:
        done_before = self._store.jobs.totals([job.id])[job.id].bytes_done
        try:
            digest = JobPush(self._tools, job, control).run()
        except Stopped:
            self._store.jobs.release(job, state=JobState.QUEUED, attempt=False)
            self._progress.job_ended(job.id, "queued", "stopped")
        except (StoreError, LeaseLost):
            raise
        except Exception as error:
            known = self._names.classify(_known(error), job.registry)
            if known.retry is Retry.NEVER:
                self._fail(job, known)
            else:
                self._put_back(job, known, done_before)
        else:
            self._store.jobs.succeed(job, digest)
            self._activity.record_progress()
            self._progress.job_ended(job.id, "succeeded", f"{job.destination}@{digest}")
            remove_if_unneeded(self._store, self._spool.root / FOLDER, job.source)
            with contextlib.suppress(HomeUnusable, DiskFull):  # this job needs the spool no more
                evict_blobs(self._store, self._spool, self._settings.spool_limit)
            delete_sessions(self._store, self._registries, ())  # those that were lost on the way
            waiting = frozenset(self._put_off)
            if waiting:
                self._hurry(waiting)  # what was just pushed needs no room any more
            self._put_off -= waiting

    def _fail(self, job: JobRecord, error: PusherError) -> None:
        self._store.jobs.fail(job, _stored(error))
        self._activity.record_progress()
        self._exit_codes.add(error.exit_code)
        self._progress.job_ended(job.id, "failed", error.message)

    def _put_back(self, job: JobRecord, error: PusherError, done_before: int) -> None:
        """The job waits: for the network, the registry, or (LATER) for the user."""
        if self._store.jobs.totals([job.id])[job.id].bytes_done > done_before:
            self._failures[job.id] = 0
        failures = self._failures.get(job.id, 0)
        self._failures[job.id] = failures + 1
        # until the older job has set the tag, nobody can claim this one
        pause = 0.0 if isinstance(error, TagNotYet) else self._settings.retry.job_pause(error, failures)
        if error.retry is Retry.LATER:
            self._put_off.add(job.id)
        self._pauses[job.id] = elapsed() + pause
        self._store.jobs.release(
            job,
            state=JobState.WAITING,
            next_try_at=self._store.now() + timedelta(seconds=pause),
            error=_stored(error),
            attempt=error.retry is not Retry.OFFLINE,
        )
        if error.retry is Retry.OFFLINE:
            self._tell_offline(job)
        self._progress.waiting(f"job {job.id}", pause, error.message)
        resumes = error.retry is not Retry.LATER
        self._progress.job_ended(job.id, "waiting", error.message, resumes=resumes)

    def _tell_offline(self, job: JobRecord) -> None:
        """Once, until something moves again."""
        if self._offline_since == self._activity.last_progress:
            return
        self._offline_since = self._activity.last_progress
        patience = "until it succeeds"
        if not self._forever:
            patience = f"for up to {human_seconds(self._settings.give_up_after)}"
        self._progress.note(
            f"no connection to {job.registry}: retrying, at least every "
            f"{self._settings.retry.job_offline:.0f} s, {patience}"
        )

    # --- from outside -------------------------------------------------------------------------------------

    def bytes_at_stake(self) -> int:
        """Bytes that would be sent again if the process ended now; 0 where it is not worth a word."""
        return self._tools.sender.bytes_worth_reporting()

    def look(self, store: Store) -> None:
        """Tell of those who do not answer and lend their places; have jobs leave that were paused, cancelled
        or taken over."""
        self._pool.lend_threads(self._registries.stalls.report())
        with self._changed:
            active = list(self._active.values())
        for job, control in active:
            try:
                store.jobs.check_lease(job)
            except LeaseLost:
                control.lose_lease()

    def close(self) -> None:
        """Wait for everything to leave, or give the jobs back of what stands still."""
        self._control.stop()
        if join_while_moving(self._threads, self._activity, self.bytes_at_stake):
            self._pool.close()
            return
        with self._changed:
            left = list(self._active.values())
        requeue(left, self._store, self._progress, self._identity.owner)

    def result(self, only: Collection[int] | None) -> RunResult:
        """What became of the jobs. Raises the error that ended the run, if one did."""
        if self._fatal is not None:
            raise self._fatal
        return summarize(self._store, self._touched, only, self._exit_codes)


def _known(error: Exception) -> PusherError:
    """The error in our words; what the machine could not give goes before what was made of it."""
    ours = isinstance(error, PusherError) and (error.retry is Retry.LATER or isinstance(error, StoreError))
    if not ours and (fault := of_machine(error)):
        return fault
    if isinstance(error, PusherError):
        return error
    _LOG.error("a bug", exc_info=error)
    return bug(error)


def _stored(error: PusherError) -> StoredError:
    return StoredError(error.code, error.message, error.hint)
