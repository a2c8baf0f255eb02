"""``pusher run``."""

from __future__ import annotations

import click

from pusher.cli.base import (
    Command,
    chunk_size_option,
    opened,
    parallel_option,
    progress_option,
    read_settings,
    runnable,
)
from pusher.cli.password import login_options, with_password
from pusher.cli.work import conclude, work


@click.command(cls=Command)
@click.option("--forever", is_flag=True, help="Stay and wait for new jobs.")
@parallel_option
@chunk_size_option
@login_options
@progress_option
def run(
    forever: bool,
    parallel: str | None,
    chunk_size: str | None,
    username: str | None,
    password_stdin: bool,
    plain_http: bool,
    progress: str,
) -> int:
    """Push what is in the queue, going on where an earlier run stopped.

    Ends when no job is left that can go on. Ctrl-C finishes the chunks on their way and stops; run it again
    to continue.

    \b
    Example:
      pusher run --parallel 2 --chunk-size 50MiB
    """
    settings = read_settings(
        parallel=parallel, chunk_size=chunk_size, username=username, plain_http=plain_http
    )
    with opened(settings) as store:
        registries = {job.registry for job in runnable(store)}
        settings = with_password(settings, registries, password_stdin=password_stdin)
        result = work(store, settings, progress, forever=forever)
    return conclude(result, progress, single=False)
