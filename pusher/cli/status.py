"""Implement ``pusher status``."""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import click

from pusher.cli import completers
from pusher.cli.command import Command, json_option
from pusher.cli.limits import describe_limits
from pusher.cli.listing import (
    job_filter_options,
    jobs_in_status,
    print_listing,
    read_listing,
    rest_of_status,
)
from pusher.cli.output import print_json, print_notice, wait_for_reader
from pusher.cli.settings import read_settings
from pusher.cli.store import open_store, parse_job_id, store_exists, wait_for_outages
from pusher.errors import ExitCode, InvalidOption
from pusher.text import as_json as json_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from pusher.cli.table import StyledLines
    from pusher.store.records import JobRecord
    from pusher.store.store import Store
    from pusher.worker.overview import JobOverview

_FINISHED_SHOWN: Final = 5
_PAGE: Final = 500
"""Jobs that are read and printed at a time where all are."""
_WATCH_EVERY: Final = 1.0


@click.command(cls=Command)
@click.argument("job", required=False, shell_complete=completers.jobs)
@job_filter_options
@json_option
@click.option("--watch", is_flag=True, help="Keep it up to date until all jobs have ended, or until Ctrl-C.")
@click.option("-a", "--all", "everything", is_flag=True, help="Show all finished jobs, too.")
def status(job: str | None, as_json: bool, watch: bool, everything: bool, **flags: Any) -> int:
    """Show the jobs and their progress, or JOB with its layers.

    Without --all or a filter, only the last few finished jobs are shown.

    \b
    Example:
      pusher status --watch
      pusher status --state failed --label team=web
      pusher status --all --format id,state,destination
    """
    settings = read_settings()
    number = None if job is None else parse_job_id(job)
    listing = read_listing(flags, as_json=as_json, job=number)
    if listing is not None:
        if watch:
            raise InvalidOption("--watch shows all jobs", hint="leave out --watch, or the other options")
        with open_store(settings) as store:
            return print_listing(store, settings, listing)
    if number is None and not watch and not store_exists(settings):
        if as_json:
            print_json({"jobs": []})
        else:
            print_notice("There are no jobs.")
        return ExitCode.DONE
    with open_store(settings) as store:
        if watch:
            _watch(wait_for_outages(store, settings), number, everything, as_json)
            return ExitCode.DONE
        if as_json and everything and number is None:
            _print_all_as_json(store)
            return ExitCode.DONE
        if as_json:
            print_json(jobs_as_json(store, number, everything))
            return ExitCode.DONE
        return show_jobs(store, everything) if number is None else _show_job(store, number)


def show_jobs(store: Store, everything: bool) -> int:
    """Print the table of jobs; return the exit code."""
    from pusher.cli.table import jobs_table, stdout_width

    width = stdout_width()
    if everything:
        for page, found in enumerate(_pages(store)):
            jobs_table(_rows(store, found), now=store.now(), width=width, header=not page).print()
        _note_background_worker(store)
        return ExitCode.DONE
    _table(store, everything, width).print()
    if hidden := _count_hidden(store, everything):
        jobs = f"{hidden} finished job is" if hidden == 1 else f"{hidden} finished jobs are"
        print_notice(f"{jobs} not shown; pusher status --all shows all.")
    if limits := describe_limits(store):
        print_notice(limits)
    _note_background_worker(store)
    return ExitCode.DONE


def _note_background_worker(store: Store) -> None:
    from pusher.worker.background import find_background_worker
    from pusher.worker.machine import find_machine_id

    home = read_settings().home
    if (worker := find_background_worker(home)) is None:
        return
    now, here = store.now(), find_machine_id(home)
    late = [each for each in store.workers.all() if each.is_late(now)]
    seen_at = next((each.seen_at for each in late if (each.pid, each.machine) == (worker.pid, here)), None)
    if seen_at is not None:
        from pusher.units import human_seconds

        print_notice(
            f"The worker in the background (pid {worker.pid}) has given no sign of life for "
            f"{human_seconds((now - seen_at).total_seconds())}. To end it: pusher stop --now"
        )
    else:
        print_notice(f"A worker runs in the background (pid {worker.pid}); its log: pusher log --worker")


def jobs_as_json(store: Store, number: int | None, everything: bool) -> dict[str, object]:
    """Return what ``--json`` prints."""
    jobs = _select_jobs(store, everything) if number is None else [store.jobs.get(number)]
    return jobs_in_status(store, read_settings(), jobs)


def _pages(store: Store) -> Iterator[Sequence[JobRecord]]:
    """Yield all jobs in pages, to save memory; yield the first page even if it is empty."""
    page = store.jobs.page(0, _PAGE)
    yield page
    while len(page) == _PAGE:
        page = store.jobs.page(page[-1].id, _PAGE)
        yield page


def _print_all_as_json(store: Store) -> None:
    """Print what ``print_json`` of all jobs would, page by page."""
    from pusher.worker.job_json import describe_jobs

    settings, begun = read_settings(), False
    click.echo('{\n  "jobs": [', nl=False)
    for page in _pages(store):
        for job in describe_jobs(store, page, settings.workers):
            one = json_text(job, indent=2).replace("\n", "\n    ")
            click.echo(f"{',' if begun else ''}\n    {one}", nl=False)
            begun = True
    click.echo("\n  ]" if begun else "]", nl=False)
    for name, value in rest_of_status(store, settings).items():
        click.echo(f',\n  "{name}": ' + json_text(value, indent=2).replace("\n", "\n  "), nl=False)
    click.echo("\n}")


def _select_jobs(store: Store, everything: bool) -> list[JobRecord]:
    """Return the unfinished jobs and the last finished ones, or all jobs, by ID."""
    from pusher.store.records import FINAL_STATES, UNFINISHED_STATES

    if everything:
        return store.jobs.list()
    unfinished = store.jobs.list(states=UNFINISHED_STATES)
    return sorted(
        unfinished + store.jobs.list(states=FINAL_STATES, limit=_FINISHED_SHOWN), key=lambda job: job.id
    )


def _count_hidden(store: Store, everything: bool) -> int:
    from pusher.store.records import FINAL_STATES

    finished = sum(count for state, count in store.jobs.counts().items() if state in FINAL_STATES)
    return 0 if everything else max(0, finished - _FINISHED_SHOWN)


def _table(store: Store, everything: bool, width: int) -> StyledLines:
    from pusher.cli.table import jobs_table

    return jobs_table(_rows(store, _select_jobs(store, everything)), now=store.now(), width=width)


def _watched_table(store: Store, everything: bool, width: int, height: int | None) -> StyledLines:
    """Return the table, in at most ``height`` lines if there is a limit, and the limits in force."""
    from pusher.cli.table import StyledLines, fitting_table

    limits = textwrap.wrap(describe_limits(store), max(width, 20))
    if height is None:
        table = _table(store, everything, width)
    else:
        rows, room = _rows(store, _select_jobs(store, everything)), max(3, height - len(limits))
        table = fitting_table(rows, now=store.now(), width=width, height=room)
    return StyledLines([*table.lines, *(((line, "dim"),) for line in limits)])


def _rows(store: Store, jobs: Sequence[JobRecord]) -> list[JobOverview]:
    from pusher.worker.overview import read_overviews

    return read_overviews(store, read_settings().workers, jobs)


def _show_job(store: Store, number: int) -> int:
    from pusher.cli.table import console, print_unpadded

    out = console()
    print_unpadded(out, _details(store, number, out.width))
    return ExitCode.DONE


def _details(store: Store, number: int, width: int) -> RenderableType:
    from pusher.cli.table import job_details

    (row,) = _rows(store, [store.jobs.get(number)])
    place = (row.job.registry, row.job.repository)
    row = replace(row, profile=store.uploads.profiles([place]).get(place, ""))
    return job_details(row, store.blobs.of_job(number), now=store.now(), width=width)


def _watch(store: Store, number: int | None, everything: bool, as_json: bool) -> None:
    """Redraw on a terminal, or print after each change, until all jobs have ended; wait for the first job."""
    from rich.live import Live

    from pusher.cli.table import console, print_unpadded

    out = console()

    def draw(height: int | None = None) -> RenderableType:
        if number is None:
            return _watched_table(store, everything, out.width, height)
        return _details(store, number, out.width)

    if out.is_terminal and not as_json:
        with Live(console=out, auto_refresh=False) as live:
            out.show_cursor(True)
            while True:
                ended = _has_ended(store, number)
                live.update(draw(None if ended else out.height - 1), refresh=True)
                if ended:
                    return
                time.sleep(_WATCH_EVERY)
    last: object = None
    while True:
        ended = _has_ended(store, number)
        data = jobs_as_json(store, number, everything)
        if data != last:
            last = data
            if as_json:
                click.echo(json_text(data))
            else:
                print_unpadded(out, draw())
            sys.stdout.flush()
        if ended:
            return
        wait_for_reader(_WATCH_EVERY)


def _has_ended(store: Store, number: int | None) -> bool:
    """Return whether the job, or every job of at least one, has ended."""
    from pusher.store.records import FINAL_STATES

    if number is not None:
        return store.jobs.get(number).state in FINAL_STATES
    states = store.jobs.counts().keys()
    return bool(states) and states <= FINAL_STATES
