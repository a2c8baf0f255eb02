"""Implement ``pusher wait``."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Final

import click

from pusher.cli import completers
from pusher.cli.command import Command
from pusher.cli.job_output import JobOutput, job_output_options
from pusher.cli.output import print_notice, wait_for_reader
from pusher.cli.settings import read_settings
from pusher.cli.store import open_store, parse_job_id, wait_for_outages
from pusher.cli.work import report_result
from pusher.errors import ExitCode
from pusher.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pusher.config import Settings
    from pusher.store.records import JobRecord
    from pusher.store.store import Store
    from pusher.worker.overview import JobOverview

_EVERY: Final = 1.0
"""Seconds between two looks at the jobs."""
_IDLE: Final = 10.0
"""Seconds without a running job after which a notice says what the jobs wait for."""
_MAX_EXPLAINED: Final = 10


@click.command(cls=Command)
@click.argument("jobs", metavar="JOB...", nargs=-1, shell_complete=completers.jobs)
@job_output_options
def wait(jobs: tuple[str, ...], **flags: Any) -> int:
    """Wait until jobs have ended, and exit as they did.

    Without JOB, wait for all unfinished jobs. Workers push them: see pusher run. A paused job is not waited
    for: the exit code is 5 then. Ctrl-C ends the wait and changes nothing.

    \b
    Example:
      pusher wait 3 4
      pusher enqueue app:1.2 && pusher wait
    """
    settings = read_settings()
    output = JobOutput.read(flags, settings.workers, "auto")
    with open_store(settings) as store:
        named = [store.jobs.get(parse_job_id(job)).id for job in jobs]
        ids = list(dict.fromkeys(named)) or _unfinished(store)
        if not ids:
            return output.finish((), ExitCode.DONE)
        store = wait_for_outages(store, settings)
        _wait(store, settings, ids)
        result = _summarize(store, ids)
        output.print_jobs(store, result.jobs)
    removed = [number for number in ids if number not in {job.id for job in result.jobs}]
    for number in removed[:_MAX_EXPLAINED]:
        print_notice(f"Job {number} has ended, and was removed: how it ended is not known any more.")
    code = report_result(result, "none", single=len(ids) == 1, pushed=len(ids))
    return output.finish(result.jobs, code)


def _unfinished(store: Store) -> list[int]:
    from pusher.store.records import UNFINISHED_STATES

    ids = [job.id for job in store.jobs.list(states=UNFINISHED_STATES)]
    if not ids:
        print_notice("No job is unfinished.")
    return ids


def _wait(store: Store, settings: Settings, ids: Sequence[int]) -> None:
    """Show the jobs until each has ended or is paused: a table on a terminal, else a line a change."""
    from pusher.store.records import FINAL_STATES, JobState
    from pusher.worker.job_holds import JobHolds
    from pusher.worker.job_machines import JobMachines
    from pusher.worker.overview import read_overviews

    shown = _Shown(store, settings)
    idle_since, told = time.monotonic(), False
    try:
        while True:
            jobs = store.jobs.of_ids(ids)
            shown.update(jobs)
            holds = JobHolds(store, jobs)
            if all(
                job.state in FINAL_STATES
                or job.state is JobState.PAUSED
                or ((hold := holds.of(job)) is not None and hold.needs_user)
                for job in jobs
            ):
                return
            running = [job for job in jobs if job.state is JobState.RUNNING]
            machines = JobMachines(store, settings.workers, running) if running else None
            silences = {job.id: machines.silence(job) for job in running} if machines else {}
            shown.report_silences(silences)
            if any(seconds is None for seconds in silences.values()):
                idle_since = time.monotonic()
            elif not told and time.monotonic() - idle_since > _IDLE:
                told = True
                explain_idle(read_overviews(store, settings.workers, jobs))
            wait_for_reader(_EVERY)
    finally:
        shown.close()


def explain_idle(overviews: Sequence[JobOverview]) -> None:
    """Print what the jobs wait for: a time, another job, or a worker."""
    held = [(overview.job, overview.hold) for overview in overviews if overview.hold is not None]
    for job, hold in held[:_MAX_EXPLAINED]:
        print_notice(f"Job {job.id} {hold.text}.")
    alone = [each for each in overviews if each.job.finished_at is None and not each.has_worker]
    far = [each for each in alone if each.machine is not None and not each.machine.is_here]
    for each in far[:_MAX_EXPLAINED]:
        label = printable(each.machine.label) if each.machine else ""
        number = each.job.id
        print_notice(
            f"Job {number} is for machine {label}, where no worker runs. Start one there with: pusher run; "
            f"or, if the image is here, too: pusher move {number} --here"
        )
    alone = [each for each in alone if each not in far]
    if any(each.hold is None for each in alone):
        print_notice("No worker pushes these jobs. Start one with: pusher run")
    elif alone:
        print_notice("No worker is there to push them then. Start one with: pusher run --forever")


class _Shown:
    """What is shown of the jobs on stderr."""

    def __init__(self, store: Store, settings: Settings) -> None:
        from pusher.cli.verbose import is_log_json, is_quiet

        self._store = store
        self._settings = settings
        self._states: dict[int, str] = {}
        self._silent: set[int] = set()
        self._live: Any = None
        self._is_quiet = is_quiet()
        if sys.stderr.isatty() and not self._is_quiet and not is_log_json():
            from rich.console import Console
            from rich.live import Live

            console = Console(stderr=True, highlight=False, markup=False, emoji=False)
            self._live = Live(console=console, auto_refresh=False, transient=True)
            self._live.start()

    def update(self, jobs: Sequence[JobRecord]) -> None:
        """Show the jobs as they are now."""
        if self._live is not None:
            from pusher.cli.table import fitting_table
            from pusher.worker.overview import read_overviews

            rows = read_overviews(self._store, self._settings.workers, jobs)
            width, height = self._live.console.size
            table = fitting_table(rows, now=self._store.now(), width=width, height=height - 1)
            self._live.update(table, refresh=True)
            return
        for job in jobs:
            if self._states.get(job.id) != job.state:
                self._states[job.id] = job.state
                why = f": {job.error.message}" if job.state == "waiting" and job.error else ""
                print_notice(f"Job {job.id}: {job.state} ({job.image} -> {job.destination}){why}")

    def report_silences(self, silences: Mapping[int, float | None]) -> None:
        """Print once of each job that its worker gives no sign of life; the table says it as well."""
        from pusher.worker.job_machines import describe_silence

        for number, seconds in silences.items():
            if seconds is None:
                self._silent.discard(number)
            elif number not in self._silent and self._live is None:
                self._silent.add(number)
                print_notice(f"Job {number}: {describe_silence(seconds)}")

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            self._live.stop()


def _summarize(store: Store, ids: Sequence[int]) -> Any:
    from pusher.errors.catalogue import catalogue
    from pusher.worker.result import summarize

    errors = [job.error for job in store.jobs.of_ids(ids) if job.state == "failed" and job.error]
    known = catalogue()
    codes = {known[error.code].exit_code for error in errors if error.code in known}
    return summarize(store, (), ids, codes or {ExitCode.FAILED})
