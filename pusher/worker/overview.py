"""Summarize jobs for users: how much is done, what they wait for, what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from pusher.dataclass import dataclass
from pusher.oci.digest import short
from pusher.progress.format import human_left, local_time, percent
from pusher.store.records import JobRecord, JobState, JobTotals
from pusher.store.store import Store
from pusher.text import printable
from pusher.units import human_bytes, human_share
from pusher.worker.blob_waits import BlobHolds
from pusher.worker.job_holds import JobHold, JobHolds
from pusher.worker.job_json import is_orphaned, seconds_left, sum_job
from pusher.worker.job_machines import JobMachine, JobMachines, describe_silence

_LONG_WAIT: Final = timedelta(minutes=1)
_WAIT_FOR_MACHINE: Final = frozenset({JobState.QUEUED, JobState.WAITING, JobState.RUNNING})
"""States of jobs that a worker on their machine would continue."""


@dataclass(frozen=True)
class JobOverview:
    """A job with the sums over its layers."""

    job: JobRecord
    totals: JobTotals
    orphaned: bool = False
    """Its worker died; the next one takes it over."""
    silence: float | None = None
    """Seconds for which its worker has given no sign of life, if that one is late; it may hang."""
    again: bool = True
    """Where it failed: trying again may help."""
    profile: str = ""
    """Name of the registry's profile, as far as an upload was opened."""
    machine: JobMachine | None = None
    """The machine that has its image, where several share the job store."""
    hold: JobHold | None = None
    """What keeps it from starting or continuing."""
    has_worker: bool = True
    """A worker is alive that may push it."""

    @property
    def bytes_shown(self) -> int:
        """Return the bytes that are done, and those in flight while a worker sends the job: on a slow link a
        chunk takes minutes, and the time left counts them, too."""
        is_sending = self.job.state is JobState.RUNNING and not self.orphaned and self.silence is None
        in_flight = (self.job.in_flight or 0) if is_sending else 0
        done, total = self.totals.bytes_done, self.totals.bytes_total
        return min(done + in_flight, max(done, total))


def read_overviews(store: Store, workers: Path, jobs: Sequence[JobRecord]) -> list[JobOverview]:
    """Return the overviews of jobs that still exist. ``workers``: the folder with the locks of workers."""
    ids, now, machines = [job.id for job in jobs], store.now(), JobMachines(store, workers, jobs)
    totals, hopeless = store.jobs.totals(ids), store.jobs.beyond_retry(ids)
    holds, blob_holds = JobHolds(store, jobs), BlobHolds(store, jobs)
    return [
        JobOverview(
            job,
            _sum_job(job, totals[job.id], workers, now),
            is_orphaned(job, workers, now),
            silence=machines.silence(job),
            again=job.id not in hopeless,
            machine=machines.of(job) if machines.are_several else None,
            hold=holds.of(job) or blob_holds.of(job),
            has_worker=machines.has_worker(job),
        )
        for job in jobs
        if job.id in totals
    ]


def _sum_job(job: JobRecord, totals: JobTotals, workers: Path, now: datetime) -> JobTotals:
    """Return the sums of a job. Without a manifest, more blobs may come."""
    totals = sum_job(job, totals, workers, now)
    return totals if job.has_manifest else replace(totals, sizes_known=False)


def share(overview: JobOverview) -> str:
    """Return the share of bytes that is done, or "" while the total is unknown."""
    if overview.job.state is JobState.SUCCEEDED:
        return "100%"
    if not overview.totals.bytes_total or not overview.totals.sizes_known:
        return ""
    totals = overview.totals
    is_done = totals.bytes_done >= totals.bytes_total
    return f"{percent(overview.bytes_shown, totals.bytes_total, is_done=is_done)}%"


def amount(overview: JobOverview) -> str:
    """Return ``1.2 / 3.4 GiB``, with ``+`` while uncompressed or awaited layers will add to it."""
    totals = overview.totals
    if not totals.bytes_total and not totals.sizes_known:
        return ""
    return human_share(overview.bytes_shown, totals.bytes_total) + ("" if totals.sizes_known else "+")


def note(overview: JobOverview, now: datetime, *, commands: bool = True) -> str:
    """Return details about the state of a job, in lines; with ``commands`` also how to continue it."""
    job, totals = overview.job, overview.totals
    reason = printable(job.error.message) if job.error else ""
    absence = overview.machine.absence(now) if overview.machine else ""
    run = " with: pusher run" if commands and not absence else ""
    then = " when a worker is free" if commands and overview.has_worker else run
    lines: list[str] = []
    match job.state:
        case JobState.WAITING:
            lines = [reason, _describe_resent(totals), *_describe_hold(overview, commands)]
            lines.append(_describe_wait(job, now))
            if overview.hold is None:
                lines.append(_describe_next_try(overview, now, run))
        case JobState.PAUSED:
            lines = [_describe_resent(totals), f"continue with: pusher resume {job.id}" if commands else ""]
        case JobState.RUNNING if overview.orphaned:
            lines = [f"interrupted; {_continues(totals, then)}"]
        case JobState.RUNNING if overview.silence is not None:
            lines = [describe_silence(overview.silence)]
            lines += [_continues(totals, run)] if job.has_lapsed(now) else []
        case JobState.QUEUED if overview.hold is not None:
            has_begun = totals.bytes_done or totals.bytes_at_risk
            lines = [*_describe_hold(overview, commands), _continues(totals, "") if has_begun else ""]
        case JobState.QUEUED if totals.bytes_done or totals.bytes_at_risk:
            lines = [_continues(totals, then)]
        case JobState.RECEIVING:
            lines = [reason, "its client sends the image"]
        case JobState.SUCCEEDED:
            lines = [f"sha256:{short(job.digest)}" if job.digest else ""]
        case JobState.SUPERSEDED:
            lines = [f"by the newer job {job.superseded_by}"]
        case JobState.FAILED:
            again = overview.again and commands
            lines = [reason, f"try again with: {_retry_command(job)}" if again else ""]
        case JobState.RUNNING:
            waits = [reason, _describe_wait(job, now)] if job.waiting_since else []
            waits += _describe_hold(overview, commands)
            lines = [speed] if (speed := _describe_speed(job, totals)) else waits
        case _:
            lines = [reason]
    if absence and job.state in _WAIT_FOR_MACHINE:
        lines += [absence, f"if the image is here, too: pusher move {job.id} --here" if commands else ""]
    return "\n".join(filter(None, lines))


def _retry_command(job: JobRecord) -> str:
    """Return how to try a failed job again: after a login, where that was what it lacked."""
    login = f"pusher login {job.registry}"
    needs_login = job.error is not None and login in job.error.hint
    return f"{login} && pusher retry {job.id}" if needs_login else f"pusher retry {job.id}"


def next_try(overview: JobOverview, now: datetime) -> datetime | None:
    """Return when a worker tries a waiting job again; None if that is now, or none is there to do it."""
    at = overview.job.next_try_at
    return at if at is not None and at > now and overview.has_worker else None


def _describe_next_try(overview: JobOverview, now: datetime, run: str) -> str:
    if (at := next_try(overview, now)) is not None:
        return f"next try in {human_left((at - now).total_seconds())}"
    if overview.has_worker:
        return "next try when a worker is free"
    return run and f"next try{run}"


def _describe_wait(job: JobRecord, now: datetime) -> str:
    """Return since when a job has waited, if that is not short."""
    since = job.waiting_since
    is_long = since is not None and now - since >= _LONG_WAIT
    return f"no progress since {local_time(since)}" if since is not None and is_long else ""


def _describe_hold(overview: JobOverview, commands: bool) -> tuple[str, str]:
    """Return what holds a job back, and with ``commands`` what the user can do."""
    hold = overview.hold
    return ("", "") if hold is None else (hold.text, hold.advice if commands else "")


def _describe_speed(job: JobRecord, totals: JobTotals) -> str:
    """Return how fast a job is sent and the time left, as far as they are known."""
    left = seconds_left(job, totals)
    parts = [f"{human_bytes(job.speed)}/s" if job.speed else "", f"{human_left(left)} left" if left else ""]
    return ", ".join(filter(None, parts))


def _continues(totals: JobTotals, run: str) -> str:
    """Return where the next run continues; ``run``: what starts it."""
    continues = f"continues at {human_bytes(totals.bytes_done)}{run}"
    return "; ".join(filter(None, [continues, _describe_resent(totals)]))


def _describe_resent(totals: JobTotals) -> str:
    """Return what may have to be sent again: some registries lose an upload that breaks inside a chunk."""
    if not totals.bytes_at_risk:
        return ""
    lost = human_bytes(totals.bytes_at_risk)
    return f"{lost} may have to be sent again: not every registry keeps an upload cut off inside a chunk"
