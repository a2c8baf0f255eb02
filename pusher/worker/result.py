"""Summarize how the jobs of a run ended."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import field
from pathlib import Path

from pusher.dataclass import dataclass
from pusher.errors import ExitCode, JobUnknown
from pusher.store.records import UNFINISHED_STATES, JobRecord, JobState, Machine
from pusher.store.store import Store
from pusher.worker.job_holds import JobHold, JobHolds
from pusher.worker.job_json import is_orphaned
from pusher.worker.silent_workers import SilentWorker, find_silent_workers


@dataclass
class RunResult:
    """How the jobs of a run ended, and the jobs left in the queue."""

    exit_code: ExitCode = ExitCode.DONE
    succeeded: list[JobRecord] = field(default_factory=list)
    failed: list[JobRecord] = field(default_factory=list)
    unfinished: list[JobRecord] = field(default_factory=list)
    superseded: list[JobRecord] = field(default_factory=list)
    cancelled: list[JobRecord] = field(default_factory=list)
    elsewhere: list[JobRecord] = field(default_factory=list)
    """Unfinished jobs that only other machines can work on; only in a run for the whole queue."""
    failed_before: list[JobRecord] = field(default_factory=list)
    """Failed in earlier runs and not superseded; only in a run for the whole queue."""
    holds: dict[int, JobHold] = field(default_factory=dict)
    """What keeps unfinished jobs from starting or continuing, by job."""
    pushed_elsewhere: frozenset[int] = frozenset()
    """Those of ``succeeded`` that another worker pushed."""
    taken_over: list[JobRecord] = field(default_factory=list)
    """Those of ``elsewhere`` that this run worked on."""
    interrupted: frozenset[int] = frozenset()
    """Jobs listed as running whose worker is dead, or has not renewed its lease in time."""
    silent_workers: list[SilentWorker] = field(default_factory=list)
    """Workers that have other running jobs, and give no sign of life."""
    beyond_retry: frozenset[int] = frozenset()
    """Failed jobs that no retry can fix."""
    bytes_wasted: int = 0
    """Bytes sent for these jobs, in this run and before, and lost."""

    @property
    def jobs(self) -> list[JobRecord]:
        """Return the jobs of this run, by ID."""
        jobs = (*self.succeeded, *self.failed, *self.unfinished, *self.superseded, *self.cancelled)
        return sorted(jobs, key=lambda job: job.id)


def summarize(
    store: Store,
    touched: Collection[int],
    only: Collection[int] | None,
    exit_codes: Collection[ExitCode],
    machine: Machine | None = None,
    workers: Path | None = None,
    pushed: Collection[int] | None = None,
) -> RunResult:
    """Return how the jobs ``touched`` ended, and ``only`` those that the run was for, or the whole queue.

    ``exit_codes``: of the errors for which jobs failed in this run. ``machine``: this one.
    ``workers``: the folder of the workers' lock files. ``pushed``: jobs that this worker has pushed to their
    end; None if it does not matter which one did.
    """
    result = RunResult()
    ids = {*touched, *(only or ())}
    if only is None:
        ids |= {job.id for job in store.jobs.list(states=UNFINISHED_STATES)}
        result.failed_before = [job for job in store.jobs.list_failed() if job.id not in ids]
    for job_id in sorted(ids):
        with suppress(JobUnknown):  # finished, and pruned meanwhile
            _add_job(result, store.jobs.get(job_id), machine if only is None else None)
    result.taken_over = [job for job in result.elsewhere if job.id in touched]
    if pushed is not None:
        result.pushed_elsewhere = frozenset(job.id for job in result.succeeded if job.id not in pushed)
    holds = JobHolds(store, result.unfinished)
    result.holds = {job.id: hold for job in result.unfinished if (hold := holds.of(job)) is not None}
    if workers is not None:
        now = store.now()
        result.interrupted = frozenset(
            job.id
            for job in result.unfinished
            if job.state == JobState.RUNNING and (job.has_lapsed(now) or is_orphaned(job, workers, now))
        )
        running = [job for job in result.unfinished if job.state == JobState.RUNNING]
        others = [job for job in running if job.id not in result.interrupted]
        result.silent_workers = find_silent_workers(store, workers, others) if others else []
    failed = (*result.failed, *result.failed_before)
    result.beyond_retry = store.jobs.beyond_retry([job.id for job in failed])
    ended = (*result.succeeded, *result.failed, *result.unfinished)
    totals = store.jobs.totals([job.id for job in ended if job.id in touched])
    result.bytes_wasted = sum(total.bytes_wasted for total in totals.values())
    result.exit_code = _exit_code(result, exit_codes, is_whole_queue=only is None)
    return result


def _add_job(result: RunResult, job: JobRecord, machine: Machine | None) -> None:
    """Add a job to the list of its state; one that only others than ``machine`` can work on to those."""
    match job.state:
        case JobState.SUCCEEDED:
            result.succeeded.append(job)
        case JobState.FAILED:
            result.failed.append(job)
        case JobState.SUPERSEDED:
            result.superseded.append(job)
        case JobState.CANCELLED:
            result.cancelled.append(job)
        case JobState.RECEIVING:  # the client sends the rest
            pass
        case _ if machine is not None and not job.is_for(machine):
            result.elsewhere.append(job)
        case _:
            result.unfinished.append(job)


def _exit_code(result: RunResult, exit_codes: Collection[ExitCode], *, is_whole_queue: bool) -> ExitCode:
    if result.failed:
        return next(iter(exit_codes)) if len(exit_codes) == 1 else ExitCode.FAILED
    # what runs now is pushed and reported by another worker: one that shares the queue has done its part
    is_left = any(
        not is_whole_queue or job.state != JobState.RUNNING or job.id in result.interrupted
        for job in result.unfinished
    )
    return ExitCode.UNFINISHED if is_left else ExitCode.DONE
