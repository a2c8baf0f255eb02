"""End a run: wait for chunks in flight while bytes move, but not for stalled requests."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable
from typing import Final

from pusher.errors import DiskFull, JobUnknown, LeaseLost, StoreError
from pusher.progress.base import Progress
from pusher.store.records import JobRecord, JobState
from pusher.store.store import Store
from pusher.units import human_seconds
from pusher.worker.control import Activity, Control

_STALLED_AFTER: Final = 5.0
"""Seconds without a byte after which a run ends without waiting for a request or a look-up."""
_STALLED_AFTER_IF_COSTLY: Final = 20.0
"""The same if stopping costs bytes that must be sent again."""
_LOOK_EVERY: Final = 0.1


def join_while_moving(
    threads: Iterable[threading.Thread],
    activity: Activity,
    at_stake: Callable[[], int] = lambda: 0,
    leave: Callable[[], bool] = lambda: False,
) -> bool:
    """Wait for the threads; return False if some are left when nothing moves or ``leave`` returns true."""
    activity.record_movement()
    for thread in threads:
        while thread.is_alive():
            thread.join(_LOOK_EVERY)
            if leave() or activity.seconds_still >= (
                _STALLED_AFTER_IF_COSTLY if at_stake() else _STALLED_AFTER
            ):
                return not any(map(threading.Thread.is_alive, threads))
    return True


def run_while_moving(work: Callable[[], None], activity: Activity, control: Control) -> None:
    """Run ``work``; return once it is done, stalled, or ``control`` stops. An error of the job store is
    ignored, as the next use of the store raises it again."""

    def quietly() -> None:
        with contextlib.suppress(StoreError, DiskFull):
            work()

    thread = threading.Thread(target=quietly, name="aside", daemon=True)
    thread.start()
    join_while_moving([thread], activity, leave=lambda: control.stopping)


def requeue(left: Iterable[tuple[JobRecord, Control]], store: Store, progress: Progress, owner: str) -> None:
    """Requeue the jobs of stalled threads. If such a thread continues, nothing that it does is recorded."""
    for job, control in left:
        control.lose_lease()
        with contextlib.suppress(LeaseLost):
            store.jobs.release(job, state=JobState.QUEUED, attempt=False)
            progress.job_ended(job.id, "queued", "stopped without a response; continue with: pusher run")
    store.uploads.release_all(owner)


def explain_lost_lease(store: Store, job: JobRecord, longest_stall: float) -> tuple[str, str]:
    """Return the state of a job whose lease was lost, and a sentence about it. ``longest_stall``: seconds for
    which this worker renewed no lease."""
    try:
        now = store.jobs.get(job.id)
    except JobUnknown:
        return "taken", "it was cancelled and removed"
    if now.state == JobState.SUPERSEDED:
        said = f"job {now.superseded_by} pushes to {job.destination} now; what was sent is kept for it"
        return now.state, said
    why = f", because this worker was stopped for {human_seconds(longest_stall)}" if longest_stall else ""
    if now.state is JobState.SUCCEEDED:
        return "taken", f"another worker took it over and has pushed it{why}"
    if now.state is not JobState.RUNNING:
        return now.state, ""
    return "taken", f"another worker took it over{why}"
