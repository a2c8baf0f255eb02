"""Report which jobs wait for a blob that another job is pushing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from pusher.oci.digest import short
from pusher.progress.base import Progress
from pusher.store.blob_waits import BlobWait
from pusher.store.records import JobRecord, JobState
from pusher.store.store import Store
from pusher.worker.control import Control
from pusher.worker.job_holds import JobHold

_LONG_WAIT: Final = 3.0
"""Seconds in which no byte of a job moved, after which its wait is reported."""


class BlobHolds:
    """What running jobs wait for, at one time."""

    def __init__(self, store: Store, jobs: Collection[JobRecord]) -> None:
        is_needed = any(job.state is JobState.RUNNING for job in jobs)
        self._waits = store.blob_waits.all() if is_needed else {}

    def of(self, job: JobRecord) -> JobHold | None:
        """Return what a job waits for; None if it is being sent, or waits for no other job."""
        wait = self._waits.get(job.id)
        if wait is None or job.speed or job.state is not JobState.RUNNING:
            return None
        return JobHold(
            f"waiting for layer sha256:{short(wait.digest)}, which job {wait.pushed_by} is pushing"
        )


class BlobWaitReports:
    """Reports the waits of one worker's jobs, each once."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._reported: dict[int, BlobWait] = {}

    def report(self, store: Store, active: Sequence[tuple[JobRecord, Control]]) -> None:
        """Report the jobs that have waited for long. Raises StoreError."""
        still = [job for job, control in active if control.seconds_still >= _LONG_WAIT]
        waits = store.blob_waits.all() if still else {}
        for job in still:
            wait = waits.get(job.id)
            if wait is not None and self._reported.get(job.id) != wait:
                self._reported[job.id] = wait
                text = f"which job {wait.pushed_by} is pushing"
                store.events.add(job.id, "blob-wait", f"waiting for layer {wait.digest}, {text}")
                self._progress.note(f"job {job.id}: waiting for layer sha256:{short(wait.digest)}, {text}")
        self._reported = {job.id: self._reported[job.id] for job, _ in active if job.id in self._reported}
