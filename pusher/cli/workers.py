"""Implement ``pusher workers``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import click

from pusher.cli.command import Command, json_option
from pusher.cli.output import print_json, print_line, print_notice
from pusher.cli.settings import read_settings
from pusher.cli.store import open_store, store_exists
from pusher.errors import ExitCode
from pusher.text import printable

if TYPE_CHECKING:
    from pusher.store.records import JobRecord
    from pusher.worker.job_machines import ListedMachine, ListedWorker


@click.command(cls=Command)
@json_option
def workers(as_json: bool) -> int:
    """Show the machines and workers that share the job store.

    That is what each worker does, and when it was last seen. A worker that is gone is shown for a day.

    \b
    Example:
      pusher workers
    """
    settings = read_settings()
    machines: list[ListedMachine] = []
    now = None
    if store_exists(settings):
        from pusher.worker.job_machines import list_machines

        with open_store(settings) as store:
            now, machines = store.now(), list_machines(store, settings.workers)
    if as_json:
        print_json({"machines": list(map(_describe, machines))})
    elif now is None or not machines:
        print_notice("No worker has used this job store yet.")
    else:
        names = Counter(each.record.machine.name for each in machines)
        rows = [row for each in machines for row in _rows(each, now, names[each.record.machine.name] > 1)]
        for line in _align([_HEAD, *rows]):
            print_line(line)
    return ExitCode.DONE


_HEAD = ("MACHINE", "PID", "VERSION", "SEEN", "JOBS")


def _rows(listed: ListedMachine, now: datetime, with_home: bool) -> Iterator[Sequence[str]]:
    """Yield a row for each worker of a machine, or for the machine, and one for the jobs that wait.

    ``with_home``: another machine has the same name, as one of several containers or users of a host.
    """
    machine = listed.record.machine
    name = printable(f"{machine.name} {machine.home}" if with_home else machine.name)
    name += " (here)" if listed.is_here else ""
    for worker in listed.workers:
        record = worker.worker
        does = _list_jobs(worker.jobs, with_speed=not worker.is_gone and not record.is_late(now))
        if worker.is_gone:
            does = f"gone; had {does}" if does else "gone"
        yield name, str(record.pid), printable(record.version), _ago(record.seen_at, now), does or "none"
        name = ""
    if not listed.workers:
        yield name, "-", "-", _ago(listed.record.seen_at, now), "no worker"
    if listed.waiting:
        count = "1 job" if listed.waiting == 1 else f"{listed.waiting} jobs"
        yield "", "", "", "", f"{count} to do on this machine alone"


def _list_jobs(jobs: Sequence[JobRecord], *, with_speed: bool) -> str:
    return ", ".join(f"{job.id} {printable(job.image)}{_speed(job) if with_speed else ''}" for job in jobs)


def _speed(job: JobRecord) -> str:
    from pusher.units import human_bytes

    return f" ({human_bytes(job.speed)}/s)" if job.speed else ""


def _ago(time: datetime, now: datetime) -> str:
    from pusher.units import human_seconds

    return f"{human_seconds(max(0.0, (now - time).total_seconds()))} ago"


def _align(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip()


def _describe(listed: ListedMachine) -> dict[str, object]:
    from pusher.progress.format import rfc3339

    machine = listed.record.machine
    return {
        "id": machine.id,
        "name": machine.name,
        "home": machine.home,
        "spool": machine.spool,
        "seen_at": rfc3339(listed.record.seen_at),
        "is_here": listed.is_here,
        "jobs_waiting": listed.waiting,
        "workers": list(map(_describe_worker, listed.workers)),
    }


def _describe_worker(listed: ListedWorker) -> dict[str, object]:
    from pusher.progress.format import rfc3339

    worker = listed.worker
    return {
        "id": worker.id,
        "pid": worker.pid,
        "version": worker.version,
        "started_at": rfc3339(worker.started_at),
        "seen_at": rfc3339(worker.seen_at),
        "is_gone": listed.is_gone,
        "jobs": [
            {
                "id": job.id,
                "image": job.image,
                "destination": job.destination,
                "bytes_per_second": None if listed.is_gone else job.speed,
            }
            for job in listed.jobs
        ],
    }
