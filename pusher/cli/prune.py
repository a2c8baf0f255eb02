"""Implement ``pusher prune``."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import click

from pusher.cli.command import Command
from pusher.cli.output import print_notice
from pusher.cli.settings import read_settings
from pusher.cli.store import open_store
from pusher.config import parse_age, parse_size
from pusher.errors import ExitCode

if TYPE_CHECKING:
    from pusher.worker.cleanup import PruneResult


@click.command(cls=Command)
@click.option(
    "--older-than",
    metavar="AGE",
    default="7d",
    show_default=True,
    help="Delete jobs that finished longer ago than this, such as 12h, 30d or 4w; 0 deletes all.",
)
@click.option(
    "--spool-limit",
    metavar="SIZE",
    default="0",
    show_default=True,
    help="Keep up to this much of the blobs that no job needs, such as 5GiB.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be removed, and remove nothing.")
def prune(older_than: str, spool_limit: str, dry_run: bool) -> int:
    """Remove old finished jobs and unneeded blobs.

    Jobs that finished in the last week are kept, with their log. Blobs that no job needs are removed down to
    the limit, the least recently used first; those that are kept save compressing the same layer again.

    \b
    Example:
      pusher prune --dry-run
      pusher prune --older-than 30d --spool-limit 5GiB
    """
    from pusher.store.records import FINAL_STATES
    from pusher.worker.cleanup import prune as prune_store

    limit = parse_size(spool_limit, "--spool-limit")
    age = timedelta(seconds=parse_age(older_than, "--older-than"))
    settings = read_settings()
    with open_store(settings) as store:
        if not dry_run:
            print_notice(_intent(older_than, spool_limit))
        result = prune_store(store, settings, limit, older_than=age, dry_run=dry_run)
        counts = store.jobs.counts()
    finished = sum(count for state, count in counts.items() if state in FINAL_STATES)
    left = finished - (result.jobs if dry_run else 0)
    print_notice(f"{'Would remove' if dry_run else 'Removed'} {_describe(result)}.")
    if left:
        print_notice(f"Kept {left} finished job{'s' if left > 1 else ''} of the last {older_than}.")
    return ExitCode.DONE


def _intent(older_than: str, spool_limit: str) -> str:
    jobs = (
        "every finished job"
        if older_than.strip() == "0"
        else f"jobs that finished more than {older_than} ago"
    )
    over = "" if spool_limit.strip() == "0" else f" beyond {spool_limit}"
    return f"Removing {jobs}, and blobs that no job needs{over}."


def _describe(result: PruneResult) -> str:
    from pusher.units import human_bytes

    jobs = f"{result.jobs} finished job" + ("" if result.jobs == 1 else "s")
    blobs = f"{result.blobs} blob" + ("" if result.blobs == 1 else "s")
    store = f"; the job store is {human_bytes(result.store_bytes)} smaller" if result.store_bytes else ""
    return f"{jobs} and {blobs}, {human_bytes(result.bytes)}{store}"
