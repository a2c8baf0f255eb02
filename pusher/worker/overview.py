"""Summarize jobs for users: how much is done, what they wait for, what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

from pusher.config.window import read_window
from pusher.dataclass import dataclass
from pusher.oci.digest import short
from pusher.progress.format import human_left, local_time, percent
from pusher.store.records import JobRecord, JobState, JobTotals
from pusher.store.store import Store
from pusher.text import printable
from pusher.units import human_bytes, human_share
from pusher.worker.job_json import is_orphaned, seconds_left, sum_job
from pusher.worker.job_machines import JobMachine, JobMachines

_WAIT_FOR_MACHINE: Final = frozenset({JobState.QUEUED, JobState.WAITING, JobState.RUNNING})
"""States of jobs that a worker on their machine would continue."""


@dataclass(frozen=True)
class JobOverview:
    """A job with the sums over its layers."""

    job: JobRecord
    totals: JobTotals
    orphaned: bool = False
    """Its worker died; the next one takes it over."""
    again: bool = True
    """Where it failed: trying again may help."""
    profile: str = ""
    """Name of the registry's profile, as far as an upload was opened."""
    machine: JobMachine | None = None
    """The machine that has its image, where several share the job store."""


def read_overviews(store: Store, workers: Path, jobs: Sequence[JobRecord]) -> list[JobOverview]:
    """Return the overviews of jobs that still exist. ``workers``: the folder with the locks of workers."""
    ids, now, machines = [job.id for job in jobs], store.now(), JobMachines(store, workers, jobs)
    totals, hopeless = store.jobs.totals(ids), store.jobs.beyond_retry(ids)
    return [
        JobOverview(
            job,
            _sum_job(job, totals[job.id], workers, now),
            is_orphaned(job, workers, now),
            again=job.id not in hopeless,
            machine=machines.of(job) if machines.are_several else None,
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
    return f"{percent(overview.totals.bytes_done, overview.totals.bytes_total)}%"


def amount(totals: JobTotals) -> str:
    """Return ``1.2 / 3.4 GiB``, with ``+`` while uncompressed or awaited layers will add to it."""
    if not totals.bytes_total and not totals.sizes_known:
        return ""
    return human_share(totals.bytes_done, totals.bytes_total) + ("" if totals.sizes_known else "+")


def note(overview: JobOverview, now: datetime, *, commands: bool = True) -> str:
    """Return details about the state of a job, in lines; with ``commands`` also how to continue it."""
    job, totals = overview.job, overview.totals
    reason = printable(job.error.message) if job.error else ""
    absence = overview.machine.absence(now) if overview.machine else ""
    run = " with: pusher run" if commands and not absence else ""
    lines: list[str] = []
    match job.state:
        case JobState.WAITING:
            after = max(0.0, (job.next_try_at - now).total_seconds()) if job.next_try_at else 0.0
            when = f"next try in {human_left(after)}" if after else run and f"next try{run}"
            lines = [reason, _describe_resent(totals), held_back(job, now) or when]
        case JobState.PAUSED:
            lines = [_describe_resent(totals), f"continue with: pusher resume {job.id}" if commands else ""]
        case JobState.RUNNING if overview.orphaned:
            lines = [f"interrupted; {_continues(totals, run)}"]
        case JobState.QUEUED if held := held_back(job, now):
            has_begun = totals.bytes_done or totals.bytes_at_risk
            lines = [held, _continues(totals, "") if has_begun else ""]
        case JobState.QUEUED if totals.bytes_done or totals.bytes_at_risk:
            lines = [_continues(totals, run)]
        case JobState.RECEIVING:
            lines = [reason, "its client sends the image"]
        case JobState.SUCCEEDED:
            lines = [f"sha256:{short(job.digest)}" if job.digest else ""]
        case JobState.SUPERSEDED:
            lines = [f"by the newer job {job.superseded_by}"]
        case JobState.FAILED:
            again = overview.again and commands
            lines = [reason, f"try again with: pusher retry {job.id}" if again else ""]
        case JobState.RUNNING:
            lines = [_describe_speed(job, totals)]
        case _:
            lines = [reason]
    if absence and job.state in _WAIT_FOR_MACHINE:
        lines += [absence, f"if the image is here, too: pusher move {job.id} --here" if commands else ""]
    return "\n".join(filter(None, lines))


def _describe_speed(job: JobRecord, totals: JobTotals) -> str:
    """Return how fast a job is sent and the time left, as far as they are known."""
    left = seconds_left(job, totals)
    parts = [f"{human_bytes(job.speed)}/s" if job.speed else "", f"{human_left(left)} left" if left else ""]
    return ", ".join(filter(None, parts))


def held_back(job: JobRecord, now: datetime) -> str:
    """Return when a job starts or continues, if a time or another job holds it back; "" otherwise."""
    if job.state not in (JobState.QUEUED, JobState.WAITING):
        return ""
    at = _earliest_start(job, now)
    when = "" if at is None else f"at {local_time(at)}"
    if is_outside_window(job, now):
        when += f" (window {job.window})"
    has_begun = job.started_at is not None
    if job.after is not None and not has_begun:
        return f"starts after job {job.after}" + (f", {when} at the earliest" if when else "")
    return when and f"{'continues' if has_begun else 'starts'} {when}"


def is_outside_window(job: JobRecord, now: datetime) -> bool:
    """Return whether the time of the day holds an unfinished job back."""
    return job.window is not None and not read_window(job.window).is_open(now)


def describe_closed_window(job: JobRecord, now: datetime) -> str:
    """Return why a job stops at the end of its window, and when it continues."""
    opens_at = read_window(job.window or "").opens_at(now)
    return f"its window {job.window} has closed; continues at {local_time(opens_at)}"


def _earliest_start(job: JobRecord, now: datetime) -> datetime | None:
    """Return the first time at which a job may be pushed; None if that is now."""
    at = now
    if job.state is JobState.QUEUED and job.not_before is not None:
        at = max(now, job.not_before)
    if job.window is not None:
        at = read_window(job.window).opens_at(at)
    return at if at > now else None


def _continues(totals: JobTotals, run: str) -> str:
    """Return where the next run continues; ``run``: what starts it."""
    continues = f"continues at {human_bytes(totals.bytes_done)}{run}"
    return "; ".join(filter(None, [continues, _describe_resent(totals)]))


def _describe_resent(totals: JobTotals) -> str:
    """Return what must be sent again: some registries lose an upload that breaks inside a chunk."""
    if not totals.bytes_at_risk:
        return ""
    lost = human_bytes(totals.bytes_at_risk)
    return f"{lost} will be sent again: the registry does not keep an upload that was cut off inside a chunk"
