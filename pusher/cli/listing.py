"""List jobs by filters, sorted, as a table, as JSON or in columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from pusher.cli.limits import limits_in_status
from pusher.cli.output import print_json, print_notice
from pusher.cli.queueing import read_labels
from pusher.dataclass import dataclass
from pusher.errors import ExitCode, InvalidOption
from pusher.reference import canonical_registry
from pusher.text import printable

if TYPE_CHECKING:
    from pusher.config import Settings
    from pusher.store.job_filter import JobFilter
    from pusher.store.records import JobRecord
    from pusher.store.store import Store

F = TypeVar("F", bound=Callable[..., Any])

_STATES: Final = (
    *("queued", "running", "waiting", "paused", "receiving"),
    *("succeeded", "failed", "cancelled", "superseded"),
)
_SORTS: Final = ("id", "state", "image", "destination", "priority", "created", "finished")
_COLUMNS: Final = (
    *("id", "image", "destination", "profile", "state", "priority", "labels"),
    *("after", "not_before", "window", "window_opens_at", "held"),
    *("machine", "machine_id", "machine_seen_at", "attempts", "digest"),
    *("bytes_total", "bytes_done", "bytes_sent", "bytes_wasted", "bytes_per_second", "seconds_left"),
    *("created_at", "started_at", "superseded_by", "finished_at", "next_try_at", "waiting_since", "error"),
)
_PAGE: Final = 500


def job_filter_options(function: F) -> F:
    """Add the options of ``read_listing``."""
    for option in (
        click.option(
            "--format",
            "columns",
            metavar="COLUMNS",
            help="Print these columns, separated by tabs: the fields of --json but layers.",
        ),
        click.option("--sort", type=click.Choice(_SORTS), metavar="KEY", help=f"By {', '.join(_SORTS)}."),
        click.option(
            "--registry", "registries", metavar="HOST", multiple=True, help="Jobs for this registry."
        ),
        click.option("--label", "labels", metavar="KEY=VALUE", multiple=True, help="Jobs with this label."),
        click.option(
            "--state",
            "states",
            type=click.Choice(_STATES),
            metavar="STATE",
            multiple=True,
            help="Jobs in this state, such as failed. May be repeated.",
        ),
    ):
        function = option(function)
    return function


@dataclass(frozen=True)
class Listing:
    """Which jobs are listed, in which order and form."""

    wanted: JobFilter
    sort: str
    columns: tuple[str, ...]
    """Empty: a table."""
    is_json: bool
    job: int | None = None
    """This one alone."""


def read_listing(flags: Mapping[str, Any], *, as_json: bool, job: int | None) -> Listing | None:
    """Return the listing that the options ask for; None if there are none. Of one ``job`` they may ask for
    the columns. Raises InvalidOption."""
    selecting = [name for name in ("states", "labels", "registries", "sort") if flags[name]]
    if not selecting and flags["columns"] is None:
        return None
    if job is not None and selecting:
        given = {"states": "--state", "labels": "--label", "registries": "--registry", "sort": "--sort"}
        raise InvalidOption(
            f"{given[selecting[0]]} is for a list of jobs, and one JOB is given",
            hint="leave out one of the two",
        )
    from pusher.store.job_filter import JobFilter
    from pusher.store.records import JobState

    text = flags["columns"]
    columns = () if text is None else tuple(name.strip() for name in text.split(","))
    if unknown := [name for name in columns if name not in _COLUMNS]:
        raise InvalidOption(
            f"--format: there is no column {unknown[0]!r}", hint=f"the columns are {', '.join(_COLUMNS)}"
        )
    if columns and as_json:
        raise InvalidOption("--format and --json are two formats", hint="leave out one of the two")
    wanted = JobFilter(
        states=[JobState(state) for state in flags["states"]],
        registries=[canonical_registry(host) for host in flags["registries"]],
        labels=read_labels(flags["labels"]),
    )
    return Listing(wanted, flags["sort"] or "id", columns, as_json, job)


def print_listing(store: Store, settings: Settings, listing: Listing) -> int:
    """Print the jobs; return the exit code."""
    if listing.job is not None:
        jobs = [store.jobs.get(listing.job)]
    else:
        jobs = sorted(_select(store, listing.wanted), key=_sort_key(listing.sort))
    if listing.is_json:
        print_json(jobs_in_status(store, settings, jobs))
    elif listing.columns:
        from pusher.worker.job_json import describe_jobs

        for described in describe_jobs(store, jobs, settings.workers):
            click.echo("\t".join(printable(_cell(name, described[name])) for name in listing.columns))
    elif not jobs:
        print_notice("No jobs match.")
    else:
        from pusher.cli.table import jobs_table, stdout_width
        from pusher.worker.overview import read_overviews

        rows = read_overviews(store, settings.workers, jobs)
        jobs_table(rows, now=store.now(), width=stdout_width()).print()
    return ExitCode.DONE


def jobs_in_status(store: Store, settings: Settings, jobs: Sequence[JobRecord]) -> dict[str, object]:
    """Return what ``status --json`` prints of these jobs."""
    from pusher.worker.job_json import describe_jobs

    return {"jobs": describe_jobs(store, jobs, settings.workers), **rest_of_status(store, settings)}


def rest_of_status(store: Store, settings: Settings) -> dict[str, object]:
    """Return what ``status --json`` has besides the jobs: limits that are set, a worker in the background."""
    from pusher.worker.background import describe_background_worker

    worker = describe_background_worker(settings.home)
    return {**limits_in_status(store), **({} if worker is None else {"worker": worker})}


def _select(store: Store, wanted: JobFilter) -> list[JobRecord]:
    jobs: list[JobRecord] = []
    while len(page := store.jobs.find(wanted, len(jobs), _PAGE)) == _PAGE:
        jobs += page
    return [*jobs, *page]


def _sort_key(name: str) -> Callable[[JobRecord], Any]:
    match name:
        case "state":
            return lambda job: (_STATES.index(job.state), job.id)
        case "priority":
            return lambda job: (-job.priority, job.id)
        case "created":
            return lambda job: (job.created_at, job.id)
        case "finished":  # unfinished ones last
            return lambda job: (job.finished_at is None, job.finished_at, job.id)
        case _:
            return lambda job: (getattr(job, name), job.id)


def _cell(name: str, value: Any) -> str:
    """Return a field for its column: empty for none, labels as ``a=1,b=2``, an error as its code, and what
    holds a job as its reason."""
    match name:
        case "labels":
            return ",".join(f"{key}={text}" for key, text in value.items())
        case "error" | "held" if value is not None:
            return str(value["code" if name == "error" else "reason"])
        case _:
            return "" if value is None else str(value)
