"""Implement ``pusher run``: set up a worker, and end it in order."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from typing import cast

from pusher.config import Settings
from pusher.errors import ExitCode, StoreError
from pusher.progress.base import Progress
from pusher.spool.spool import Spool
from pusher.store.outages import StoreOutages
from pusher.store.store import Store
from pusher.system import tune_malloc
from pusher.waiting import report_silence_to
from pusher.worker.control import Activity, Control
from pusher.worker.hooks import Hooks
from pusher.worker.job_loop import JobLoop
from pusher.worker.job_speeds import JobSpeeds
from pusher.worker.liveness import WorkerIdentity
from pusher.worker.machine import this_machine
from pusher.worker.queue_limits import QueueLimits
from pusher.worker.registries import Registries
from pusher.worker.result import RunResult
from pusher.worker.signals import handle_signals
from pusher.worker.worker import Worker


def run(
    store: Store,
    settings: Settings,
    progress: Progress,
    *,
    forever: bool = False,
    wait: bool = False,
    only: Collection[int] | None = None,
    leave: Callable[[], None] = lambda: None,
    registries: Registries | None = None,
) -> RunResult:
    """Push the jobs of the queue, or those in ``only``, until none is runnable, or forever.

    With ``wait`` it also waits for jobs that other workers push, as it always does for those in ``only``.

    The first Ctrl-C, SIGTERM or SIGHUP finishes the chunks in flight, the next calls ``leave`` (to put the
    terminal in order) and ends the process, unless that costs bytes: then it says so, and the third does.
    Waits for an unavailable job store, without limit with ``forever``. ``registries``: those in which the
    images were found; they are closed at the end. Raises StoreError, HomeUnusable.
    """
    tune_malloc()
    control, activity = Control(), Activity()
    speeds = JobSpeeds(progress)
    progress = cast("Progress", speeds)
    outages = StoreOutages(
        progress.note,
        limit=None if forever else settings.retry.store_run,
        stopping=lambda: control.stopping,
        back=activity.record_progress,
        policy=settings.retry,
    )
    identity = WorkerIdentity(settings.workers, settings.lease, this_machine(settings))
    heart, store = store.direct(), store.waiting_out(outages, identity.journal(store))
    spool = Spool(settings.spool, is_shared=settings.spool_folder is not None)
    spool.sweep()
    limits = QueueLimits(settings, progress.note)
    limiter = limits.limiter
    registries = registries or Registries(store, settings)
    registries.begin_run(store, progress.note, limiter.rate, limiter.is_held_back, control.wait)
    worker = Worker(identity, settings, store, spool, registries, progress, activity)
    hooks = Hooks(settings.hooks, store, settings.workers, progress.note)
    with identity:
        with contextlib.suppress(StoreError):  # the heartbeat tries again
            identity.register(store)
        limits.update(store, identity.owner)
        loop = JobLoop(worker, control, hooks, limits, forever=forever, wait=wait, only=only)
        with (
            report_silence_to(progress.note),
            handle_signals(
                control.stop, note=progress.note, at_stake=loop.bytes_at_stake, leave=leave
            ) as signals,
            identity.heartbeat(heart, lambda: loop.check_jobs(heart)),
            limits.follow(heart, identity.owner, loop.follow_parallel),
            speeds.recording(heart, identity.owner),
        ):
            try:
                loop.work()
            finally:
                loop.close()  # chunks in flight may take minutes: leases are renewed until they are done
                hooks.close(lambda: signals.number != 0)
                registries.close()
        identity.release_dead_owners(store)
        with contextlib.suppress(StoreError):  # then it is gone once it does not renew its leases
            store.workers.remove([identity.owner])
        result = loop.result()
    if signals.number:
        result.exit_code = ExitCode(128 + signals.number)
    return result
