"""Implement ``pusher log``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from pusher.cli import completers
from pusher.cli.command import Command, json_option
from pusher.cli.output import print_columns, print_json, print_notice, wait_for_reader
from pusher.cli.settings import read_settings
from pusher.cli.store import open_store, parse_job_id, wait_for_outages
from pusher.errors import CommandLineInvalid, ExitCode, InvalidOption, JobUnknown
from pusher.text import as_json as as_json_text

if TYPE_CHECKING:
    from pusher.store.records import EventRecord

_KIND_WIDTH: Final = 12
"""Columns of an event's kind while it is not known which come."""
_LOOK_EVERY: Final = 1.0
"""Seconds between two checks for new events."""


@click.command(cls=Command)
@click.argument("job", required=False, shell_complete=completers.jobs)
@json_option
@click.option("-f", "--follow", is_flag=True, help="Print what is new until the job or worker has ended.")
@click.option("--worker", is_flag=True, help="Print the log of the worker in the background instead.")
def log(job: str | None, as_json: bool, follow: bool, worker: bool) -> int:
    """Print the events of a job, oldest first.

    With --worker, print the log of the worker in the background (pusher run --detach).

    \b
    Example:
      pusher log 3
      pusher log 3 --follow
      pusher log --worker
    """
    if worker:
        return _print_worker_log(job, as_json=as_json, follow=follow)
    if job is None:
        raise CommandLineInvalid(
            "missing argument 'JOB'",
            hint="usage: pusher log [OPTIONS] JOB; that of the worker in the background: pusher log --worker",
        )
    if follow:
        return _follow(parse_job_id(job), as_json=as_json)
    with open_store(read_settings()) as store:
        record = store.jobs.get(parse_job_id(job))
        events = store.events.of(record.id)
    if as_json:
        print_json({"events": [_as_json(event) for event in events]})
    else:
        _print(events, max((len(event.kind) for event in events), default=0))
    return ExitCode.DONE


def _print_worker_log(job: str | None, *, as_json: bool, follow: bool) -> int:
    from pusher.cli.worker_log import print_worker_log

    if job is not None:
        raise InvalidOption(
            "--worker prints the log of the worker, and a JOB is given", hint="leave out one of the two"
        )
    if as_json:
        raise InvalidOption(
            "--json is for the events of a job, and the log of a worker is text",
            hint="leave out --json; pusher run --detach --log-json writes a log of JSON lines",
        )
    print_worker_log(read_settings().home, follow=follow)
    return ExitCode.DONE


def _follow(number: int, *, as_json: bool) -> int:
    """Print the events as they come, as JSON an object a line."""
    from pusher.store.records import FINAL_STATES

    settings = read_settings()
    with open_store(settings) as opened:
        store, printed = wait_for_outages(opened, settings), 0
        while True:
            try:
                ended = store.jobs.get(number).state in FINAL_STATES  # before its last events are read
            except JobUnknown:
                if not printed:
                    raise
                print_notice(f"Job {number} has ended, and was removed.")
                return ExitCode.DONE
            events = store.events.of(number)
            if as_json:
                for event in events[printed:]:
                    click.echo(as_json_text(_as_json(event)))
            else:
                _print(events[printed:], _KIND_WIDTH)
            sys.stdout.flush()
            printed = max(printed, len(events))
            if ended:
                return ExitCode.DONE
            wait_for_reader(_LOOK_EVERY)


def _print(events: Sequence[EventRecord], width: int) -> None:
    from pusher.progress.format import local_time

    for event in events:
        print_columns(f"{local_time(event.at)}  {event.kind:<{width}}  ", event.message)


def _as_json(event: EventRecord) -> dict[str, object]:
    from pusher.progress.format import rfc3339

    return {"at": rfc3339(event.at), "kind": event.kind, "message": event.message}
