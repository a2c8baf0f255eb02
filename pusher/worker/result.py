"""How a run ended."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from pusher.errors import ExitCode, JobUnknown
from pusher.store.records import JobRecord, JobState
from pusher.store.store import Store


@dataclass
class RunResult:
    """How the jobs that a run touched ended."""

    exit_code: ExitCode = ExitCode.DONE
    succeeded: list[JobRecord] = field(default_factory=list)
    failed: list[JobRecord] = field(default_factory=list)
    unfinished: list[JobRecord] = field(default_factory=list)
    superseded: list[JobRecord] = field(default_factory=list)


def outcome(store: Store, job_ids: Collection[int], exit_codes: Collection[ExitCode]) -> RunResult:
    """What became of these jobs. ``exit_codes``: those of the errors for which jobs failed in this run."""
    result = RunResult()
    for job_id in sorted(job_ids):
        try:
            job = store.jobs.get(job_id)
        except JobUnknown:  # finished, and pruned meanwhile
            continue
        if job.state == JobState.SUCCEEDED:
            result.succeeded.append(job)
        elif job.state == JobState.FAILED:
            result.failed.append(job)
        elif job.state == JobState.SUPERSEDED:
            result.superseded.append(job)
        elif job.state != JobState.CANCELLED:
            result.unfinished.append(job)
    if result.failed:
        result.exit_code = next(iter(exit_codes)) if len(exit_codes) == 1 else ExitCode.FAILED
    elif result.unfinished:
        result.exit_code = ExitCode.UNFINISHED
    return result
