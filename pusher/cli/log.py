"""Implement ``pusher log``."""

from __future__ import annotations

import click

from pusher.cli import completers
from pusher.cli.command import Command, json_option
from pusher.cli.output import print_columns, print_json
from pusher.cli.settings import read_settings
from pusher.cli.store import open_store, parse_job_id
from pusher.errors import ExitCode


@click.command(cls=Command)
@click.argument("job", shell_complete=completers.jobs)
@json_option
def log(job: str, as_json: bool) -> int:
    """Print the events of a job, oldest first.

    \b
    Example:
      pusher log 3
    """
    with open_store(read_settings()) as store:
        record = store.jobs.get(parse_job_id(job))
        events = store.events.of(record.id)
    if as_json:
        from pusher.progress.format import rfc3339

        print_json({"events": [{"at": rfc3339(e.at), "kind": e.kind, "message": e.message} for e in events]})
        return ExitCode.DONE
    width = max((len(event.kind) for event in events), default=0)
    for event in events:
        at = event.at.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
        print_columns(f"{at}  {event.kind:<{width}}  ", event.message)
    return ExitCode.DONE
