"""Find out what holds jobs back: a time, a window of the day, or another job."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from pusher.config.window import read_window
from pusher.dataclass import dataclass
from pusher.progress.format import local_time
from pusher.store.records import JobRecord, JobState
from pusher.store.store import Store

_STARTABLE: Final = (JobState.QUEUED, JobState.WAITING)
_OVER: Final = (JobState.SUCCEEDED, JobState.SUPERSEDED)
"""States of a job in which those after it may start."""
_STUCK: Final = {
    JobState.FAILED: ("failed", "to try it again: pusher retry {0}"),
    JobState.CANCELLED: ("was cancelled", "to try it again: pusher retry {0}"),
    JobState.PAUSED: ("is paused", "to continue it: pusher resume {0}"),
}
"""States of a job that no worker ends, with what users read and can do."""
_LONGEST_CHAIN: Final = 100


@dataclass(frozen=True)
class JobHold:
    """Why a job does not start or continue yet."""

    text: str
    """Such as ``starts after job 2``, for a sentence whose subject is the job."""
    advice: str = ""
    """What the user can do, where no worker ever ends this; else ""."""

    ends_in_run: bool = False
    """A run that pushes what can be pushed now gets to the job, too."""

    @property
    def needs_user(self) -> bool:
        """Return whether waiting does not help."""
        return bool(self.advice)


class JobHolds:
    """What holds each of some jobs back, at the time of the job store."""

    def __init__(self, store: Store, jobs: Iterable[JobRecord]) -> None:
        self._now = store.now()
        self._earlier, self._newer = _read_earlier(store, jobs)
        self._known: dict[int, tuple[JobHold | None, JobRecord | None]] = {}
        """Of an earlier job, its hold, and the job that no worker ends: itself, or one before it."""

    def of(self, job: JobRecord) -> JobHold | None:
        """Return what holds a job back; None if a worker may have it now, or it has ended."""
        chain: list[JobRecord] = []
        at = self._earlier.get(job.after or 0)
        while at is not None and at.id not in self._known:
            chain.append(at)
            at = self._earlier.get(at.after or 0)
        for earlier in reversed(chain):  # the first one first: a chain may have thousands of jobs
            self._known[earlier.id] = self._describe(earlier), self._find_stuck(earlier)
        return self._describe(job)

    def _describe(self, job: JobRecord) -> JobHold | None:
        if job.state not in _STARTABLE:
            return None
        at = _earliest_start(job, self._now)
        when = "" if at is None else f"at {local_time(at)}"
        if is_outside_window(job, self._now):
            when += f" (window {job.window})"
        has_begun = job.started_at is not None
        if not has_begun and (after := self._describe_earlier(job)) is not None:
            if when and not after.needs_user:
                return replace(after, text=f"{after.text}, {when} at the earliest", ends_in_run=False)
            return after
        return JobHold(f"{'continues' if has_begun else 'starts'} {when}") if when else None

    def _describe_earlier(self, job: JobRecord) -> JobHold | None:
        """Return the hold by the job that this one starts after; None without one that is unfinished."""
        before = self._earlier.get(job.after or 0)
        if before is None or self._is_over(before):
            return None
        text = f"starts after job {before.id}"
        newer = self._find_newer(before, job)
        if newer is not None:
            text += f", which {_STUCK[before.state][0]}, or after job {newer.id} for the same destination"
        hold, stuck = self._known[before.id]
        stuck = stuck if newer is None else newer if newer.state in _STUCK else None
        if stuck is None:
            return JobHold(text, ends_in_run=hold is None or hold.ends_in_run)
        what, advice = _STUCK[stuck.state]
        link = ", which" if stuck in (before, newer) else f", and job {stuck.id} before that"
        return JobHold(f"{text}{link} {what}", advice.format(stuck.id))

    def _is_over(self, job: JobRecord) -> bool:
        """Return whether those after a job may start: it is done, or a newer one has pushed there."""
        newer = self._newer.get(job.id)
        return job.state in _OVER or (newer is not None and newer.state is JobState.SUCCEEDED)

    def _find_newer(self, before: JobRecord, job: JobRecord) -> JobRecord | None:
        """Return the job that will push to the destination of ``before`` instead; None if that one starts
        after ``job`` itself."""
        newer = self._newer.get(before.id)
        return None if newer is not None and newer.after == job.id else newer

    def _find_stuck(self, job: JobRecord) -> JobRecord | None:
        """Return this job, or one before it, that no worker ends."""
        if job.state in _STUCK:
            return None if self._is_over(job) else job
        before = self._earlier.get(job.after or 0)
        if job.state in _OVER or job.started_at or before is None or before.id not in self._known:
            return None
        if (newer := self._find_newer(before, job)) is not None:
            return newer if newer.state in _STUCK else None
        return self._known[before.id][1]


def _read_earlier(
    store: Store, jobs: Iterable[JobRecord]
) -> tuple[dict[int, JobRecord], dict[int, JobRecord]]:
    """Return the jobs that these start after, those before them, and so on, by their IDs; and of those that
    did not succeed the newer jobs for the same destinations."""
    found: dict[int, JobRecord] = {}
    later: Sequence[JobRecord] = [job for job in jobs if job.state in _STARTABLE]
    for _ in range(_LONGEST_CHAIN):
        missing = {job.after for job in later if job.after is not None} - found.keys()
        if not missing:
            break
        later = store.jobs.of_ids(missing)
        found |= {job.id: job for job in later}
        later = [job for job in later if job.state not in _OVER]
    ended = [job.id for job in found.values() if job.state in (JobState.FAILED, JobState.CANCELLED)]
    newer = store.jobs.replacements(ended) if ended else {}
    newest = {job.id: job for job in store.jobs.of_ids(set(newer.values()))} if newer else {}
    return found, {job_id: newest[other] for job_id, other in newer.items() if other in newest}


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
