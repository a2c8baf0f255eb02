"""``pusher log``."""

from __future__ import annotations

import click

from pusher.cli import completers
from pusher.cli.base import (
    Command,
    job_id,
    json_option,
    opened,
    print_json,
    read_settings,
    rfc3339,
    say_columns,
)
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
    with opened(read_settings()) as store:
        record = store.jobs.get(job_id(job))
        events = store.events.of(record.id)
    if as_json:
        print_json({"events": [{"at": rfc3339(e.at), "kind": e.kind, "message": e.message} for e in events]})
        return ExitCode.DONE
    width = max((len(event.kind) for event in events), default=0)
    for event in events:
        at = event.at.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
        say_columns(f"{at}  {event.kind:<{width}}  ", event.message)
    return ExitCode.DONE
