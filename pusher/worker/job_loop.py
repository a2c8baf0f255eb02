"""Claim jobs until none is runnable, and push each in a thread of its own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection
from typing import Final

from pusher.errors import DiskFull, HomeUnusable, LeaseLost, MachineExhausted, PusherError, StoreError
from pusher.store.records import JobRecord
from pusher.store.store import Store
from pusher.system import elapsed
from pusher.units import human_seconds
from pusher.worker.blob_sender import BlobSender
from pusher.worker.blob_waits import BlobWaitReports
from pusher.worker.cleanup import delete_sessions, keep_limits
from pusher.worker.control import Control
from pusher.worker.hooks import Hooks
from pusher.worker.job_attempts import JobAttempts, known_error
from pusher.worker.job_claims import JobClaims
from pusher.worker.job_holds import describe_closed_window, is_outside_window
from pusher.worker.pool import BlobPool
from pusher.worker.preparation import BlobPreparer
from pusher.worker.queue_limits import QueueLimits
from pusher.worker.result import RunResult, summarize
from pusher.worker.shutdown import explain_lost_lease, join_while_moving, requeue, run_while_moving
from pusher.worker.wakeups import Wakeups
from pusher.worker.worker import Worker

_STALLED_AFTER: Final = 10.0
"""Seconds without a byte after which a job does not count towards ``parallel``."""
_TIDY_EVERY: Final = 3600.0
"""Seconds after which a run deletes what is beyond the limits; it does so at its end as well."""
_MAX_STALLED: Final = 4
"""How many times ``parallel`` jobs may run because others are stalled."""
_QUICK_THREADS: Final = 2
"""Threads for requests and blobs that take a few responses, besides those for ``parallel`` blobs."""


class JobLoop:
    """Claims jobs and pushes each in a thread of its own. The options are those of ``run``."""

    def __init__(
        self,
        worker: Worker,
        control: Control,
        hooks: Hooks,
        limits: QueueLimits,
        *,
        forever: bool,
        wait: bool,
        only: Collection[int] | None,
    ) -> None:
        self._store = worker.store
        self._settings = worker.settings
        self._progress = worker.progress
        self._spool = worker.spool
        self._registries = worker.registries
        self._identity = worker.identity
        self._activity = worker.activity
        self._control = control
        self._forever = forever
        self._only = only
        self._limits = limits
        self._pool = BlobPool(*self._count_threads())
        self._sender = BlobSender(worker, self._pool, limits.limiter, limits.turns)
        self._blob_waits = BlobWaitReports(worker.progress)
        self._wakeups = Wakeups(worker.store, worker.settings.retry, self._on_change)
        worker.registries.troubles.on_return = self._resume_jobs
        self._changed = threading.Condition()
        self._active: dict[int, tuple[JobRecord, Control]] = {}
        self._threads: list[threading.Thread] = []
        self._touched: set[int] = set()
        self._has_reported_wait = False
        self._began = worker.store.now()
        self._fatal: PusherError | None = None
        self._attempts = JobAttempts(
            self._sender,
            BlobPreparer(worker, lambda: limits.parallel - 1),
            hooks,
            forever=forever,
            one_job=only is not None,
        )
        self._claims = JobClaims(worker, self._attempts, only=only, waits_for_others=wait or only is not None)

    # --- the loop -----------------------------------------------------------------------------------------

    def work(self) -> None:
        """Push jobs until none is runnable, or the run is stopped."""
        # before a job resumes one of them; a registry that does not respond is skipped
        dead = self._identity.find_dead_owners(self._store)
        run_while_moving(
            lambda: delete_sessions(self._store, self._registries, dead), self._activity, self._control
        )
        self._attempts.retry_now(self._only)
        self._attempts.try_offline_jobs(self._only)
        tidied_at = elapsed()
        while not self._control.stopping:
            if elapsed() - tidied_at >= _TIDY_EVERY:
                tidied_at = elapsed()
                self._tidy()
            self._wakeups.expect()
            job = self._claim() if self._has_room() else None
            if job is not None:
                self._start(job)
            elif self._active or self._forever or self._is_worth_waiting():
                self._wait()
            else:
                self._tidy()
                return

    def _wait(self) -> None:
        """Wait until a job of this worker ends, a job changes, or it is time to look again."""
        idle = not self._active
        if idle and not self._has_reported_wait:
            self._has_reported_wait = True
            if wait := self._claims.describe_wait(self._touched):
                self._progress.note(wait)
        until = elapsed() + self._wakeups.seconds_to_wait(idle=idle, forever=self._forever)
        with self._changed:
            while not (self._wakeups.came or self._control.stopping) and idle == (not self._active):
                if (left := until - elapsed()) <= 0:
                    return
                self._changed.wait(min(left, self._settings.retry.poll))

    def _tidy(self) -> None:
        """Keep the job store and the spool within their limits; a failure of that does not end a run."""
        with contextlib.suppress(StoreError, DiskFull, HomeUnusable, MachineExhausted):
            # the result of a run that ends has to name its jobs
            until = None if self._forever else self._began
            keep_limits(self._store, self._settings, self._spool, self._touched, until=until)

    def _has_room(self) -> bool:
        """Return whether to start another job: stalled ones do not count while threads are free."""
        with self._changed:
            controls = [control for _, control in self._active.values()]
            if self._only is not None and self._active.keys() >= set(self._only):
                return False  # there is no other job to claim
        most = self._limits.parallel
        moving = sum(control.seconds_still < _STALLED_AFTER for control in controls)
        lent = moving < most and len(controls) < _MAX_STALLED * most
        return len(controls) < most or (lent and self._pool.is_free)

    def _claim(self) -> JobRecord | None:
        with self._changed:
            at_work = [job for job, _ in self._active.values()]
        return self._claims.claim(at_work)

    def _is_worth_waiting(self) -> bool:
        """Return whether a job will become runnable without the user, or another worker pushes one of this
        run's; False, with a note, after ``give_up_after`` without progress."""
        if self._claims.is_near():
            return True
        if not self._claims.has_waiting():
            return False
        if self._activity.seconds_idle < self._settings.give_up_after:
            return True
        idle = human_seconds(self._activity.seconds_idle)
        self._progress.note(
            f"no progress for {idle}: giving up, and nothing is lost; continue with pusher run, "
            "or with pusher run --forever, which never gives up"
        )
        return False

    def _start(self, job: JobRecord) -> None:
        self._attempts.forget_pause(job)
        control = Control(self._control)
        with self._changed:
            self._active[job.id] = (job, control)
        self._touched.add(job.id)
        self._progress.job_started(job.id, job.image, job.destination)
        thread = threading.Thread(target=self._push, args=(job, control), name=f"job-{job.id}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the system starts no more threads
            with self._changed:
                del self._active[job.id]
            self._attempts.put_back(job, known_error(error))
        else:
            self._threads = [*filter(threading.Thread.is_alive, self._threads), thread]

    def _push(self, job: JobRecord, control: Control) -> None:
        try:
            try:
                self._attempts.run(job, control)
            except LeaseLost:
                state, message = explain_lost_lease(self._store, job, self._identity.longest_stall)
                self._progress.job_ended(job.id, state, message)
                delete_sessions(self._store, self._registries, ())
        except Exception as error:  # nothing can be recorded any more; the lease expires
            self._fatal = known_error(error)
            self._control.stop()
        finally:
            with self._changed:
                del self._active[job.id]
                self._changed.notify_all()

    # --- called by other threads --------------------------------------------------------------------------

    def bytes_at_stake(self) -> int:
        """Return how many bytes must be sent again if the process ends now; 0 if they are few."""
        return self._sender.bytes_worth_reporting()

    def check_jobs(self, store: Store) -> None:
        """Report stalls and add threads meanwhile; stop jobs that were paused, cancelled or taken over, and
        those whose window has closed."""
        self._pool.lend_threads(self._registries.stalls.report())
        with self._changed:
            active = list(self._active.values())
        for job, control in active:
            _check_lease(store, job, control)
            if job.window is not None and is_outside_window(job, now := store.now()):
                control.stop(describe_closed_window(job, now))
        self._registries.troubles.report_outages()
        self._registries.troubles.record_silences(store, active)
        self._blob_waits.report(store, active)

    def _on_change(self, job_id: int | None) -> None:
        """Look for a job to claim, and stop that one if it was paused, cancelled or taken over."""
        with self._changed:
            self._wakeups.came = True
            self._changed.notify_all()
            job, control = self._active.get(job_id or 0, (None, self._control))
        if job is not None:
            with contextlib.suppress(StoreError, DiskFull):  # the heartbeat checks it again
                _check_lease(self._store.direct(), job, control)

    def _resume_jobs(self, registry: str) -> None:
        """Claim the jobs that wait for a registry, which has responded."""
        if self._attempts.end_pauses(registry):
            self._on_change(None)

    def follow_parallel(self) -> None:
        """Send as many blobs at a time as the queue's settings say now."""
        with contextlib.suppress(RuntimeError):  # the system starts no more threads
            self._pool.resize(*self._count_threads())

    def _count_threads(self) -> tuple[int, int]:
        """Return the number of threads that send, and that of quick ones."""
        parallel = self._limits.parallel
        return parallel, min(_QUICK_THREADS, parallel - 1)

    def close(self) -> None:
        """Wait for all threads; requeue the jobs of those that are stalled."""
        self._control.stop()
        self._wakeups.close()
        if join_while_moving(self._threads, self._activity, self.bytes_at_stake):
            self._pool.close()
            return
        with self._changed:
            left = list(self._active.values())
        requeue(left, self._store, self._progress, self._identity.owner)

    def result(self) -> RunResult:
        """Return how the jobs ended. Raises the error that ended the run, if one did."""
        if self._fatal is not None:
            raise self._fatal
        return summarize(
            self._store,
            self._touched,
            self._only,
            self._attempts.exit_codes,
            self._identity.machine,
            self._settings.workers,
            self._attempts.pushed,
        )


def _check_lease(store: Store, job: JobRecord, control: Control) -> None:
    """Stop a job that was paused, cancelled or taken over."""
    try:
        store.jobs.check_lease(job)
    except LeaseLost:
        control.lose_lease()
