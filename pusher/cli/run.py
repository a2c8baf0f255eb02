"""Implement ``pusher run``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from pusher.cli.auth_file import auth_file_option, with_auth_file
from pusher.cli.command import Command, progress_option
from pusher.cli.job_output import JobOutput, job_output_options
from pusher.cli.metrics import metrics_option, serve_metrics
from pusher.cli.options import worker_options
from pusher.cli.output import print_notice
from pusher.cli.password import login_options, with_password
from pusher.cli.settings import read_settings
from pusher.cli.store import open_store, runnable_jobs
from pusher.cli.work import report_held, report_result, work

if TYPE_CHECKING:
    from pusher.config import Settings
    from pusher.progress.base import Progress
    from pusher.store.records import JobRecord
    from pusher.store.store import Store
    from pusher.worker.job_holds import JobHold


@click.command(cls=Command)
@click.option("--forever", is_flag=True, help="Keep running, and wait for new jobs.")
@click.option("--wait", is_flag=True, help="Wait for jobs that other workers push, too.")
@click.option(
    "-d",
    "--detach",
    is_flag=True,
    help="Work in the background, and print the process ID. See pusher stop, pusher log --worker.",
)
@metrics_option
@login_options
@auth_file_option
@worker_options
@progress_option
@job_output_options
def run(
    forever: bool,
    wait: bool,
    detach: bool,
    metrics: str | None,
    password_stdin: bool,
    progress: str,
    **flags: Any,
) -> int:
    """Push the queued jobs, resuming where an earlier run stopped.

    Prints the reference with the digest of each image that was pushed.

    Exits when no job can continue: with 0 if all are finished or other workers push the rest, with 5 if some
    are left, such as paused ones. Jobs that only another machine can push do not count: see pusher workers.
    Ctrl-C finishes the chunks in flight and stops; run it again to continue.

    \b
    Example:
      pusher run --parallel 2 --limit-rate 2M
      pusher run --detach --forever
    """
    from pusher.worker.preload import load_worker

    settings = with_auth_file(read_settings(**flags), flags)
    output = JobOutput.read(flags, settings.workers, progress)
    detachment = None
    if detach:
        from pusher.cli.detach import Detachment, check_detached, start_in_background

        check_detached(flags, progress)
        detachment = Detachment.from_environment(settings)
        if detachment is None:
            return start_in_background(settings)
        output = replace(output, prints_digests=False)  # the log has them
    with open_store(settings, forever=forever) as store:
        registries = {job.registry for job in runnable_jobs(store)}
        settings = with_password(settings, registries, password_stdin=password_stdin, more_to_come=forever)
        with serve_metrics(store, metrics) as watch:
            if detachment is not None and not forever:
                startable, held = _look_ahead(store, settings, wait=wait)
                if not startable:
                    detachment = None  # it ends at once, and says so here
                else:
                    report_held(held)  # the worker may have ended by then
            if detachment is not None:
                detachment.detach()
            if forever:
                watch = _print_each_end(output, store, watch)
            if forever or registries:
                load_worker()
            result = work(store, settings, progress, forever=forever, wait=wait, watch=watch)
        if not forever:
            output.print_jobs(store, result.jobs)
    code = report_result(result, progress, single=False)
    code = output.finish(result.jobs, code)
    if detachment is not None:
        print_notice(f"Ended with exit code {code}.")
    return code


def _look_ahead(
    store: Store, settings: Settings, *, wait: bool
) -> tuple[list[JobRecord], list[tuple[JobRecord, JobHold]]]:
    """Return the jobs that a run can push now, and those that only time or the user frees."""
    from pusher.worker.job_holds import JobHolds
    from pusher.worker.job_json import is_sending
    from pusher.worker.machine import this_machine

    jobs, now, machine = runnable_jobs(store), store.now(), this_machine(settings)
    ours = [job for job in jobs if job.is_for(machine)]
    holds = JobHolds(store, ours)
    found = [(job, hold) for job in ours if (hold := holds.of(job)) is not None]
    held = {job.id for job, _ in found}
    startable = [
        job for job in ours if job.id not in held and (wait or not is_sending(job, settings.workers, now))
    ]
    return startable, [(job, hold) for job, hold in found if not hold.ends_in_run]


def _print_each_end(
    output: JobOutput, store: Store, watch: Callable[[Progress], Progress]
) -> Callable[[Progress], Progress]:
    return lambda progress: output.watch(store, watch(progress))
