"""Run the worker under a display, and say how it ended."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from typing import TYPE_CHECKING, cast

import click

from pusher.cli.base import error_json, say, show_error, warn
from pusher.cli.verbose import log_is_json, logged_above
from pusher.errors import JobCancelled, JobSuperseded
from pusher.text import as_json

if TYPE_CHECKING:
    from pusher.config import Settings
    from pusher.progress.display import Mode
    from pusher.store.records import JobRecord
    from pusher.store.store import Store
    from pusher.worker.result import RunResult


def work(
    store: Store, settings: Settings, mode: str, *, forever: bool = False, only: Collection[int] | None = None
) -> RunResult:
    """Work the queue, or ``only`` these jobs, with the progress shown as ``mode`` says."""
    from pusher.progress.display import chosen, make_progress
    from pusher.worker.run import run

    stream = sys.stdout if mode == "json" else sys.stderr
    if mode == "auto" and log_is_json():
        mode = "none"
    drawn = chosen(cast("Mode", mode), stream)
    with (
        make_progress(drawn, stream, single=only is not None) as progress,
        logged_above(progress.log if drawn == "tty" else None),
    ):
        return run(store, settings, progress, forever=forever, only=only, leave=_leave)


def _leave() -> None:
    """The second Ctrl-C ends the process under the display: what comes next begins a line of its own."""
    if sys.stderr.isatty():
        os.write(sys.stderr.fileno(), b"\n")


def conclude(result: RunResult, mode: str, *, single: bool) -> int:
    """Print the errors, and the digest reference of a ``single`` job on stdout; the exit code.

    Raises JobCancelled or JobSuperseded where that happened to the ``single`` job.
    """
    if single and result.superseded:
        raise _superseded(result.superseded[0])
    if single and not (result.succeeded or result.failed or result.unfinished):
        raise JobCancelled("the job was cancelled")
    stopped = [job for job in result.unfinished if job.state == "queued"]
    for job in (*result.failed, *result.unfinished):
        if job not in stopped:
            show_error(*_complaint(job, single=single), code=job.error.code if job.error else "")
    if stopped:
        jobs = ", ".join(str(job.id) for job in stopped)
        warn(f"Stopped, and nothing is lost (job {jobs}). Continue with: pusher run")
    if mode == "json":
        click.echo(as_json(_as_json(result)))
    elif single:
        for job in result.succeeded:
            say(digest_reference(job))
    else:
        warn(_summary(result))
    return result.exit_code


def _superseded(job: JobRecord) -> JobSuperseded:
    return JobSuperseded(
        f"job {job.superseded_by} pushes to {job.destination} now and took the place of job {job.id}; what "
        "was sent is kept for it",
        hint=f"pusher status {job.superseded_by}, or pusher push --no-supersede where each is to set the tag",
    )


def digest_reference(job: JobRecord) -> str:
    """``registry/repository@sha256:...``: exactly what was pushed."""
    return f"{job.registry}/{job.repository}@{job.digest}"


def _complaint(job: JobRecord, *, single: bool) -> tuple[str, str]:
    """Sentence and hint about a job that did not succeed."""
    error = job.error
    if job.state == "failed":
        message = error.message if error else f"job {job.id} failed"
        hint = f"{error.hint}\n" if error and error.hint else ""
        hint += f"then: pusher retry {job.id} && pusher run"
        return message if single else f"job {job.id}, {job.image}: {message}", hint
    why = f": {error.message}" if error else ""
    return f"job {job.id}, {job.image}, is {job.state}{why}", _how_to_go_on(job)


def _how_to_go_on(job: JobRecord) -> str:
    if job.state == "paused":
        return f"continue with: pusher resume {job.id}, then pusher run"
    advice = f"{job.error.hint}\n" if job.error and job.error.hint else ""
    return f"{advice}continue with: pusher run"


def _summary(result: RunResult) -> str:
    counts = {"pushed": result.succeeded, "failed": result.failed, "unfinished": result.unfinished}
    counts["superseded"] = result.superseded
    parts = [f"{len(jobs)} {what}" for what, jobs in counts.items() if jobs]
    return f"Jobs: {', '.join(parts)}." if parts else "There is nothing to push: no job is queued."


def _as_json(result: RunResult) -> dict[str, object]:
    """The last of the JSON lines."""
    jobs = (*result.succeeded, *result.failed, *result.unfinished, *result.superseded)
    return {
        "type": "result",
        "exit_code": int(result.exit_code),
        "jobs": [
            {
                "id": job.id,
                "state": job.state,
                "reference": digest_reference(job) if job.digest else None,
                "error": error_json(job),
            }
            for job in jobs
        ],
    }
