"""``pusher prune``."""

from __future__ import annotations

import click

from pusher.cli.base import Command, opened, read_settings, warn
from pusher.config import parse_size
from pusher.errors import ExitCode


@click.command(cls=Command)
@click.option(
    "--spool-limit",
    metavar="SIZE",
    default="0",
    show_default=True,
    help="How much of the blobs that no job needs to keep, like 5GiB.",
)
def prune(spool_limit: str) -> int:
    """Forget finished jobs and unneeded blobs.

    Compressed blobs that no job needs are deleted down to the limit, the longest unused first; those that are
    kept save compressing the same layer again.

    \b
    Example:
      pusher prune --spool-limit 5GiB
    """
    from pusher.progress.format import human_bytes
    from pusher.worker.cleanup import prune as prune_store

    limit = parse_size(spool_limit, "--spool-limit")
    settings = read_settings()
    with opened(settings) as store:
        result = prune_store(store, settings, limit)
    jobs = f"{result.jobs} finished job" + ("" if result.jobs == 1 else "s")
    blobs = f"{result.blobs} blob" + ("" if result.blobs == 1 else "s")
    warn(f"Removed {jobs} and {blobs}, {human_bytes(result.bytes)}.")
    return ExitCode.DONE
