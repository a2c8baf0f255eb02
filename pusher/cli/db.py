"""Implement ``pusher db``, which manages the job store's schema."""

from __future__ import annotations

import click

from pusher.cli.command import Group
from pusher.cli.output import print_error, print_notice
from pusher.cli.settings import read_settings
from pusher.cli.store import store_exists
from pusher.errors import ExitCode, StoreCorrupt, StoreOutdated


@click.group(cls=Group, no_args_is_help=False)
def db() -> None:
    """Manage the job store.

    \b
    Example:
      PUSHER_DATABASE_URL=postgresql://user@host/pusher pusher db upgrade
    """


@db.command()
@click.option("--force", is_flag=True, help="Even if workers of an older version have to end.")
def upgrade(force: bool) -> int:
    """Create or upgrade the schema of the job store.

    With SQLite this happens automatically. Workers of older versions of pusher stay at work where they can
    use the new schema. If they cannot, it is not upgraded; with --force they end before their next job.

    \b
    Example:
      pusher db upgrade
    """
    from pusher.store.migrate import upgrade as upgrade_store

    before, after = upgrade_store(read_settings().database_url, stops_workers=force)
    if before == after:
        print_notice(f"The job store is up to date (schema {after}).")
    else:
        print_notice(f"Upgraded the job store: schema {before or 'none'} -> {after}.")
    return ExitCode.DONE


@db.command()
def check() -> int:
    """Check the job store for damage.

    \b
    Example:
      pusher db check
    """
    from pusher.store.migrate import check as check_store

    settings = read_settings()
    if not store_exists(settings):
        print_notice("There is no job store yet; the first pusher push or enqueue creates it.")
        return ExitCode.DONE
    report = check_store(settings.database_url)
    for problem in report.problems:
        print_error(f"the job store is damaged: {problem}", "")
    if report.problems:
        raise StoreCorrupt(
            f"the job store has {len(report.problems)} problems",
            hint="move it away and enqueue the images again; what the registry has is not sent again",
        )
    if not report.is_current:
        raise StoreOutdated(
            f"the job store has schema {report.current or 'none'}, but this version of pusher needs "
            f"{report.head}",
            hint="run: pusher db upgrade",
        )
    print_notice(f"The job store is undamaged and up to date (schema {report.current}).")
    return ExitCode.DONE
