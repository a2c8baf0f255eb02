"""Run the worker under a display, and report how it ended."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, cast

import click

from pusher.cli.job_output import digest_reference, list_jobs
from pusher.cli.output import print_error, print_notice, printing_results, report_unwritable
from pusher.cli.verbose import is_log_json, is_quiet, redirect_log
from pusher.errors import ExitCode, JobCancelled, JobSuperseded, PusherError
from pusher.text import as_json

if TYPE_CHECKING:
    from pusher.cli.found_images import FoundImages
    from pusher.config import Settings
    from pusher.progress.base import Progress
    from pusher.progress.display import Display, Mode
    from pusher.store.records import JobRecord
    from pusher.store.store import Store
    from pusher.worker.job_holds import JobHold
    from pusher.worker.registries import Registries
    from pusher.worker.result import RunResult

_MAX_REPORTED: Final = 10
"""Jobs that are reported one by one at the end of a run."""

_CLEARED_WITHIN: Final = 1.0
"""Seconds that a second Ctrl-C gives a terminal that takes no output, as after Ctrl-S."""
_SIGNALS: Final = 128
"""An exit code above it is that of a signal."""
_MIN_REPORTED: Final = 1024 * 1024
"""Wasted bytes from which on they are reported."""


def work(
    store: Store,
    settings: Settings,
    mode: str,
    *,
    forever: bool = False,
    wait: bool = False,
    only: Collection[int] | None = None,
    watch: Callable[[Progress], Progress] = lambda progress: progress,
    registries: Registries | None = None,
) -> RunResult:
    """Push the queue, or ``only`` these jobs, and show the progress by ``mode``; ``forever``, ``wait`` and
    ``registries`` are those of ``worker.run``. ``watch`` wraps the progress between the worker and the
    display."""
    from pusher.progress.display import Display, choose_mode
    from pusher.worker.run import run

    stream = sys.stdout if mode == "json" else sys.stderr
    if is_quiet() or (mode == "auto" and is_log_json()):
        mode = "json" if mode == "json" else "none"
    drawn = choose_mode(cast("Mode", mode), stream)
    with (
        Display(drawn, stream, single=only is not None, several=only is None or len(only) > 1) as display,
        redirect_log(display.progress.log if drawn == "tty" else None),
    ):
        leave = partial(_leave, display)
        progress = watch(display.progress)
        return run(
            store,
            settings,
            progress,
            forever=forever,
            wait=wait,
            only=only,
            leave=leave,
            registries=registries,
        )


def _leave(display: Display) -> None:
    """Clear the display before a second Ctrl-C ends the process, and print how to continue."""
    if display.close(_CLEARED_WITHIN):
        print_notice("Stopped at once; what was acknowledged is kept. Continue with: pusher run")


def report_result(
    result: RunResult, mode: str, *, single: bool, pushed: int = 0, found: FoundImages | None = None
) -> int:
    """Print the errors and how the run ended; return the exit code. ``pushed``: how many jobs the run was
    for, if not for the queue; ``found``: the images that were not found.

    Raises JobCancelled or JobSuperseded with ``mode`` json if that is the state of the ``single`` job.
    """
    given_up = _given_up_error(result) if single else None
    if given_up is not None and mode == "json":
        raise given_up
    if given_up is not None:
        print_error(given_up.message, given_up.hint, given_up.code)
        return given_up.exit_code
    _report_errors(result, single=single)
    code = result.exit_code
    if code == ExitCode.DONE and len(result.succeeded) < pushed:  # cancelled, or superseded
        code = ExitCode.FAILED
    if found is not None:
        code = code or found.exit_code
    if mode != "json":
        if result.jobs or found is None:
            _report_ends(result, single=single)
        return code
    unwritable: list[PusherError] = []
    with printing_results(unwritable.append):
        errors = {"errors": found.errors_as_json()} if found is not None and found.errors else {}
        click.echo(as_json({**_as_json(result, code), **errors}))
    return report_unwritable(unwritable, code)


def _report_errors(result: RunResult, *, single: bool) -> None:
    """Print why jobs did not succeed, and how to continue."""
    queued = [job for job in result.unfinished if job.state == "queued"]
    held = [job for job in result.unfinished if job.id in result.holds]
    stopped = [job for job in queued if job not in held]
    running = [job for job in result.unfinished if job.state == "running"]
    silent = {job.id for worker in result.silent_workers for job in worker.jobs}
    taken = [job for job in running if job.id not in result.interrupted and job.id not in silent]
    interrupted = [job for job in running if job.id in result.interrupted]
    reported = [
        job
        for job in (*result.failed, *result.unfinished)
        if job.state != "queued" and job not in (*running, *held)
    ]
    alike: dict[object, list[JobRecord]] = {}
    for job in reported:  # in an outage all jobs have the same error
        alike.setdefault((job.state, job.error, job.id in result.beyond_retry), []).append(job)
    for jobs in list(alike.values())[:_MAX_REPORTED]:
        print_error(
            *_error_of(jobs, single=single, again=jobs[0].id not in result.beyond_retry),
            code=jobs[0].error.code if jobs[0].error else "",
        )
    if more := sum(map(len, list(alike.values())[_MAX_REPORTED:])):
        print_notice(f"... and {more} more jobs: pusher status")
    report_held([(job, result.holds[job.id]) for job in held])
    if taken:  # and reported by that worker
        them = "it" if len(taken) == 1 else "them"
        print_notice(
            f"Being pushed by another worker: {list_jobs(taken)}. To wait for {them}: pusher run --wait"
        )
    for worker in result.silent_workers:
        place = f"pid {worker.pid}" if worker.host is None else f"pid {worker.pid} on {worker.host}"
        its = "its" if len(worker.jobs) == 1 else "their"
        print_notice(f"{list_jobs(worker.jobs).capitalize()}: {its} worker ({place}) {worker.state}.")
        for advice in worker.advice:
            print_notice(f"  {advice}")
    if interrupted:  # their worker was killed
        print_notice(f"Interrupted in another worker: {list_jobs(interrupted)}. Continue with: pusher run")
    if stopped:
        print_notice(f"Stopped, and nothing is lost ({list_jobs(stopped)}). Continue with: pusher run")


def report_held(held: Sequence[tuple[JobRecord, JobHold]]) -> None:
    """Print what holds jobs back, and what the user can do."""
    for job, hold in held[:_MAX_REPORTED]:
        if hold.needs_user:
            print_error(f"job {job.id}, {job.image}, {hold.text}", hold.advice)
        else:
            print_notice(f"Job {job.id} {hold.text}: pusher run --forever waits for that.")
    if len(held) > _MAX_REPORTED:
        print_notice(f"... and {len(held) - _MAX_REPORTED} more jobs that do not start yet: pusher status")


def _report_ends(result: RunResult, *, single: bool) -> None:
    """Print how many bytes were wasted, and the sums of a run."""
    if result.bytes_wasted >= _MIN_REPORTED:
        from pusher.units import human_bytes

        wasted = human_bytes(result.bytes_wasted)
        print_notice(f"{wasted} wasted: uploads were lost, given up, or cut off inside a chunk.")
    if not single:
        if summary := _summary(result):
            print_notice(summary)
        if result.elsewhere:
            print_notice(f"For other machines: {list_jobs(result.elsewhere)}. See: pusher workers")
        if result.failed_before:
            print_notice(f"Failed earlier: {list_jobs(result.failed_before)}. {_advise_retry(result)}")


def _advise_retry(result: RunResult) -> str:
    """Return advice about the jobs that failed in earlier runs."""
    worth = [str(job.id) for job in result.failed_before if job.id not in result.beyond_retry]
    if not worth:
        return "See: pusher status"
    every = len(worth) == len(result.failed_before) > _MAX_REPORTED
    return f"Try again: pusher retry {'--all' if every else ' '.join(worth[:_MAX_REPORTED])} && pusher run"


def _given_up_error(result: RunResult) -> PusherError | None:
    """Return the error for the one job of a run if it was cancelled or superseded."""
    if result.cancelled:
        (job,) = result.cancelled
        return JobCancelled(
            f"job {job.id}, {job.image}, was cancelled",
            hint=f"to push it all the same: pusher retry {job.id} && pusher run",
        )
    if not result.superseded:
        return None
    (job,) = result.superseded
    return JobSuperseded(
        f"job {job.id} was superseded by job {job.superseded_by}, which pushes to {job.destination}; "
        "what was sent is kept for it",
        hint=f"see pusher status {job.superseded_by}; to keep both jobs, push with --no-supersede",
    )


def _error_of(jobs: Sequence[JobRecord], *, single: bool, again: bool) -> tuple[str, str]:
    """Return message and hint for jobs that did not succeed, all with the same error; ``again``: a retry may
    help."""
    job, error = jobs[0], jobs[0].error
    ids = " ".join(str(each.id) for each in jobs)
    named = f"job {job.id}, {job.image}" if len(jobs) == 1 else list_jobs(jobs)
    if job.state == "failed":
        message = error.message if error else f"{named} failed"
        hints = [error.hint] if error and error.hint else []
        if again:
            hints.append(f"then: pusher retry {ids} && pusher run")
        return message if single else f"{named}: {message}", "\n".join(hints)
    verb, comma = ("is", ",") if len(jobs) == 1 else ("are", "")
    why = f": {error.message}" if error else ""
    return f"{named}{comma} {verb} {job.state}{why}", _how_to_continue(job, ids)


def _how_to_continue(job: JobRecord, ids: str) -> str:
    if job.state == "paused":
        return f"continue with: pusher resume {ids} && pusher run"
    hint = job.error.hint if job.error else ""
    if hint.endswith("pusher run"):  # as of errors that commands without a job have, too
        return hint
    return f"{hint}\n" * bool(hint) + "continue with: pusher run"


def _summary(result: RunResult) -> str:
    """Return the number of jobs by result; "" for a run without jobs that a signal ended."""
    others = [job for job in result.succeeded if job.id in result.pushed_elsewhere]
    counts = {"pushed": [job for job in result.succeeded if job not in others]}
    counts |= {"pushed by another worker": others, "failed": result.failed, "unfinished": result.unfinished}
    counts |= {"superseded": result.superseded, "cancelled": result.cancelled}
    counts |= {"taken over by another worker": result.taken_over}
    parts = [f"{len(jobs)} {what}" for what, jobs in counts.items() if jobs]
    if parts:
        return f"Jobs: {', '.join(parts)}."
    if result.exit_code > _SIGNALS:
        return ""
    if result.elsewhere:
        return "Nothing to push here."
    return "Nothing to push" + ("." if result.failed_before else ": no jobs are queued.")


def _as_json(result: RunResult, code: int) -> dict[str, object]:
    """Return the last of the JSON lines."""
    from pusher.worker.job_json import describe_error

    return {
        "type": "result",
        "exit_code": int(code),
        "bytes_wasted": result.bytes_wasted,
        "jobs": [
            {
                "id": job.id,
                "state": job.state,
                "reference": digest_reference(job) if job.digest else None,
                "error": describe_error(job),
            }
            for job in result.jobs
        ],
    }
