"""Implement ``pusher run``."""

from __future__ import annotations

import click

from pusher.cli.command import Command, progress_option
from pusher.cli.metrics import metrics_option, serve_metrics
from pusher.cli.options import worker_options
from pusher.cli.password import login_options, with_password
from pusher.cli.settings import read_settings
from pusher.cli.store import open_store, runnable_jobs
from pusher.cli.work import report_result, work


@click.command(cls=Command)
@click.option("--forever", is_flag=True, help="Keep running, and wait for new jobs.")
@click.option("--wait", is_flag=True, help="Wait for jobs that other workers push, too.")
@metrics_option
@login_options
@worker_options
@progress_option
def run(
    forever: bool, wait: bool, metrics: str | None, password_stdin: bool, progress: str, **flags: object
) -> int:
    """Push the queued jobs, resuming where an earlier run stopped.

    Exits when no job can continue: with 0 if all are finished, with 5 if some are not, such as paused ones.
    Ctrl-C finishes the chunks in flight and stops; run it again to continue.

    \b
    Example:
      pusher run --parallel 2 --limit-rate 2M
    """
    settings = read_settings(**flags)
    with open_store(settings, forever=forever) as store:
        registries = {job.registry for job in runnable_jobs(store)}
        settings = with_password(settings, registries, password_stdin=password_stdin, more_to_come=forever)
        with serve_metrics(store, metrics) as watch:
            result = work(store, settings, progress, forever=forever, wait=wait, watch=watch)
    return report_result(result, progress, single=False)
