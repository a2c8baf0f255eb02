"""Describe jobs for programs: one object a job, for ``status --json`` and for hooks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from pusher.config.window import read_window
from pusher.errors.catalogue import error_as_json
from pusher.progress.counters import eta
from pusher.progress.format import rfc3339
from pusher.store.records import JobBlob, JobRecord, JobState, JobTotals
from pusher.store.store import Store
from pusher.worker.blob_waits import BlobHolds
from pusher.worker.job_holds import JobHold, JobHolds
from pusher.worker.job_machines import JobMachine, JobMachines, describe_silence

_MAY_WAIT: Final = (JobState.WAITING, JobState.RUNNING)
"""States of jobs in which a wait without progress is reported."""


def describe_jobs(store: Store, jobs: Sequence[JobRecord], workers: Path) -> list[dict[str, object]]:
    """Return an object for each job, without those that were pruned meanwhile.

    Fields may be added, never renamed. ``workers``: the folder of the workers' lock files.
    """
    ids, machines = [job.id for job in jobs], JobMachines(store, workers, jobs)
    holds, blob_holds = JobHolds(store, jobs), BlobHolds(store, jobs)
    totals, layers = store.jobs.totals(ids), store.blobs.of_jobs(ids)
    profiles = store.uploads.profiles([(job.registry, job.repository) for job in jobs])
    known = [(job, profiles.get((job.registry, job.repository))) for job in jobs if job.id in totals]
    now = store.now()
    return [
        _describe(
            job,
            sum_job(job, totals[job.id], workers, now),
            layers[job.id],
            profile,
            machines.of(job),
            _describe_silence(machines.silence(job)) or holds.of(job) or blob_holds.of(job),
            now,
            is_sending=is_sending(job, workers, now) and machines.silence(job) is None,
        )
        for job, profile in known
    ]


def describe_error(job: JobRecord) -> dict[str, object] | None:
    """Return the last error of a job."""
    return error_as_json(job.error.code, job.error.message, job.error.hint) if job.error else None


def sum_job(job: JobRecord, totals: JobTotals, workers: Path, now: datetime) -> JobTotals:
    """Return the sums of a job; bytes of an incomplete chunk count only while a worker sends it."""
    return totals if is_sending(job, workers, now) else totals.unattended()


def is_sending(job: JobRecord, workers: Path, now: datetime) -> bool:
    """Return whether a worker that lives pushes the job."""
    return job.state == JobState.RUNNING and not is_orphaned(job, workers, now)


def seconds_left(job: JobRecord, totals: JobTotals) -> float | None:
    """Return an estimate for a job that is being sent; None while its size or speed is not known."""
    if not totals.sizes_known or not job.speed:
        return None
    return eta(max(0, totals.bytes_total - totals.bytes_done - (job.in_flight or 0)), job.speed)


def is_orphaned(job: JobRecord, workers: Path, now: datetime) -> bool:
    """Return whether the job is listed as running in a process that is dead: its lock shows that here, on the
    machine that alone can take the job over its lease, which has expired at ``now``, by the store's clock."""
    if job.state != JobState.RUNNING or job.lease_owner is None:
        return False
    if job.machine is not None and job.has_lapsed(now):
        return True
    from pusher.worker.liveness import is_owner_dead  # imports filelock

    return is_owner_dead(workers, job.lease_owner)


def _describe(
    job: JobRecord,
    totals: JobTotals,
    layers: Sequence[JobBlob],
    profile: str | None,
    machine: JobMachine | None,
    hold: JobHold | None,
    now: datetime,
    *,
    is_sending: bool,
) -> dict[str, object]:
    speed, left = (job.speed, seconds_left(job, totals)) if is_sending else (None, None)
    if not is_sending:
        totals = totals.unattended()
    return {
        "id": job.id,
        "image": job.image,
        "destination": job.destination,
        "profile": profile,
        "state": job.state,
        "priority": job.priority,
        "labels": dict(job.labels),
        "after": job.after,
        "not_before": _time(job.not_before),
        "window": job.window,
        "window_opens_at": _window_opens_at(job, now),
        "held": {"reason": hold.text, "hint": hold.advice or None} if hold else None,
        "machine": machine.name if machine else None,
        "machine_id": job.machine,
        "machine_seen_at": _time(machine.seen_at) if machine else None,
        "attempts": job.attempts,
        "digest": job.digest,
        "bytes_total": totals.bytes_total,
        "bytes_done": totals.bytes_done,
        "bytes_sent": totals.bytes_sent,
        "bytes_wasted": totals.bytes_wasted,
        "bytes_per_second": speed,
        "seconds_left": None if left is None else round(left),
        "created_at": _time(job.created_at),
        "started_at": _time(job.started_at),
        "superseded_by": job.superseded_by,
        "finished_at": _time(job.finished_at),
        "next_try_at": _time(job.next_try_at),
        "waiting_since": _time(job.waiting_since) if job.state in _MAY_WAIT else None,
        "error": describe_error(job),
        "layers": [
            {
                "diff_id": layer.key,
                "digest": layer.digest,
                "size": layer.size,
                "offset": layer.offset,
                "state": layer.state,
            }
            for layer in layers
            if not layer.is_config
        ],
    }


def _describe_silence(seconds: float | None) -> JobHold | None:
    return None if seconds is None else JobHold(describe_silence(seconds))


def _window_opens_at(job: JobRecord, now: datetime) -> str | None:
    if job.window is None or job.finished_at is not None:
        return None
    opens_at = read_window(job.window).opens_at(now)
    return _time(opens_at) if opens_at > now else None


def _time(time: datetime | None) -> str | None:
    return None if time is None else rfc3339(time)
