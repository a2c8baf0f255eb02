"""Implement ``pusher move``."""

from __future__ import annotations

import click

from pusher.cli import completers
from pusher.cli.command import Command
from pusher.cli.output import print_error, print_notice
from pusher.cli.settings import read_settings
from pusher.cli.store import open_store, parse_job_id
from pusher.errors import CommandLineInvalid, ExitCode, PusherError


@click.command(cls=Command)
@click.argument("jobs", metavar="JOB...", nargs=-1, required=True, shell_complete=completers.jobs)
@click.option("--here", is_flag=True, help="To this machine.")
@click.option("--image", metavar="IMAGE", help="The same image, where it has another name or path here.")
def move(jobs: tuple[str, ...], here: bool, image: str | None) -> int:
    """Move jobs from a machine that is gone to this one.

    Where several machines share a job store, an image on one machine is pushed from there. If the same image
    is here, too, this machine can push it instead; what the registry has acknowledged is not sent again.

    \b
    Example:
      pusher move 3 --here
      pusher move 3 --here --image /backup/app.tar
    """
    from pusher.cli.queueing import advise_start
    from pusher.worker.move import move_here

    numbers = list(dict.fromkeys(parse_job_id(job) for job in jobs))
    if not here:
        raise CommandLineInvalid(
            "no machine given", hint=f"to move it to this one: pusher move {jobs[0]} --here"
        )
    if image is not None and len(numbers) > 1:
        raise CommandLineInvalid("--image is for one job", hint="move the others by commands of their own")
    settings, code = read_settings(), ExitCode.DONE
    with open_store(settings) as store:
        for number in numbers:
            try:
                job = move_here(store, settings, number, image)
            except PusherError as error:
                print_error(error.message, error.hint, error.code)
                code = error.exit_code
                continue
            if job.machine is None:
                print_notice(f"Job {number} can be pushed by any machine already.")
            else:
                start = f" {advise_start(store, [job], settings)}" if job.state == "queued" else ""
                print_notice(f"Job {number} is {job.state}, and is pushed from this machine.{start}")
    return code
