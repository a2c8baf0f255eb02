"""Read the job store for the page: the list of jobs, and one job with its layers and its log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final
from urllib.parse import urlencode

from markupsafe import Markup

from pusher.config import Settings
from pusher.dataclass import dataclass
from pusher.oci.digest import short
from pusher.progress.counters import Counters
from pusher.progress.counters import Snapshot as ProgressSnapshot
from pusher.progress.format import human_left, percent
from pusher.serve.page.template import PageContent, Template
from pusher.store.decisions import DECISIONS
from pusher.store.job_filter import JobFilter
from pusher.store.records import JobRecord, JobState, JobTotals
from pusher.store.store import Store
from pusher.units import human_bytes
from pusher.worker.job_json import seconds_left
from pusher.worker.overview import JobOverview, amount, note, read_overviews, share

PER_PAGE: Final = 50
LONGEST_SEARCH: Final = 200
_EVENTS: Final = 200
"""Lines of a job's log that are shown."""
_VERBS: Final = ("pause", "resume", "retry", "cancel")


@dataclass(frozen=True)
class JobCard:
    """A job as the template shows it."""

    job: JobRecord
    totals: JobTotals
    destination: str
    """"" if it is the image's name."""
    total: int | None
    """Bytes; None while a size is unknown."""
    figures: Sequence[str]
    note: Sequence[str]
    hint: str
    actions: Sequence[str]
    back: str
    """Address of the view."""


class JobReader:
    """Reads jobs from ``store``. ``counters``: the progress of this process's own worker, once it has one.
    Thread-safe."""

    def __init__(self, store: Store, settings: Settings, template: Template, example: str) -> None:
        """``example``: the command that pushes an image here."""
        self.store = store.direct()  # does not wait for an unavailable store
        self.template = template
        self.example = example
        self.counters: Counters | None = None
        self._workers = settings.workers

    def cards(self, jobs: Sequence[JobRecord], back: str) -> list[JobCard]:
        """Return the cards of jobs, without those that were deleted meanwhile."""
        now = self.store.now()
        progress = None if self.counters is None else self.counters.snapshot()
        return [
            self._card(overview, now, progress, back)
            for overview in read_overviews(self.store, self._workers, jobs)
        ]

    def in_flight(self) -> dict[str, int]:
        """Return how many bytes of which blobs this process has sent that are not acknowledged."""
        progress = None if self.counters is None else self.counters.snapshot()
        return {} if progress is None else {blob.digest: blob.in_flight for blob in progress.active}

    def _card(
        self, overview: JobOverview, now: datetime, progress: ProgressSnapshot | None, back: str
    ) -> JobCard:
        job, stored = overview.job, overview.totals
        is_sending = job.state is JobState.RUNNING and not overview.orphaned and overview.silence is None
        own = _OwnProgress.of(job.id, progress) if is_sending and progress else _OwnProgress()
        if own.in_flight is not None:
            job = replace(job, in_flight=own.in_flight)
            overview = replace(overview, job=job)
        totals = replace(stored, bytes_done=overview.bytes_shown)
        figures = [share(overview), amount(overview)]
        if is_sending:
            left = seconds_left(job, stored)
            figures += [
                f"{human_bytes(job.speed)}/s" if job.speed else "",
                f"{human_left(left)} left" if left else "",
            ]
        total = totals.bytes_total if totals.sizes_known else None
        notes = [*own.notes, *note(overview, now, commands=False).split("\n")]
        if job.state is JobState.SUCCEEDED:
            figures, notes = [human_bytes(totals.bytes_total), *notes], []
        return JobCard(
            job,
            totals,
            "" if job.destination == job.image else job.destination,
            total,
            [figure for figure in figures if figure],
            [line for line in notes if line],
            job.error.hint if job.error and job.state in (JobState.WAITING, JobState.FAILED) else "",
            [verb for verb in _VERBS if _is_offered(verb, overview)],
            back,
        )


@dataclass(frozen=True)
class _OwnProgress:
    """What this process's worker knows of a job beyond the store."""

    in_flight: int | None = None
    """None where this process sends nothing of the job."""
    notes: Sequence[str] = ()

    @classmethod
    def of(cls, job_id: int, progress: ProgressSnapshot) -> _OwnProgress:
        blobs = [blob for blob in progress.blobs if blob.job_id == job_id]
        layers = [layer for layer in progress.preparing if layer.job_id == job_id]
        active = [blob.in_flight for blob in blobs if blob.active]
        notes = [
            f"{layer.doing} {short(layer.diff_id)}"
            + (f": {percent(layer.done, layer.total)}%" if layer.total else f": {human_bytes(layer.done)}")
            for layer in layers
        ]
        waited_for = {short(blob.digest) for blob in blobs} | {"network", f"job {job_id}"}
        notes += [wait.reason for wait in progress.waiting if wait.what in waited_for]
        return cls(
            sum(active) if active else None,
            list(dict.fromkeys(notes)),
        )


def _is_offered(verb: str, overview: JobOverview) -> bool:
    """Return whether a command can change the job."""
    state = overview.job.state
    if verb == "retry" and (state is JobState.SUPERSEDED or not overview.again):
        return False
    return state in DECISIONS[verb].possible


@dataclass(frozen=True)
class JobList:
    """The view of all jobs that a filter selects, a page at a time. ``number``: of the page, from 1."""

    reader: JobReader
    state: JobState | None = None
    text: str = ""
    number: int = 1

    @property
    def path(self) -> str:
        """The address of this view."""
        return self.address(self.state, self.number)

    def address(self, state: JobState | None, number: int = 1) -> str:
        """Return the address of the view with another state or page."""
        query = {"state": state or "", "q": self.text, "page": str(number) if number > 1 else ""}
        given = urlencode({name: value for name, value in query.items() if value})
        return f"/?{given}" if given else "/"

    def read(self) -> PageContent:
        """Return the content now. Raises StoreError."""
        reader, template = self.reader, self.reader.template
        wanted = JobFilter(() if self.state is None else (self.state,), self.text)
        counts = reader.store.jobs.counts(self.text)
        jobs = reader.store.jobs.find(wanted, (self.number - 1) * PER_PAGE, PER_PAGE)
        states: list[tuple[JobState | None, int]] = [(None, sum(counts.values()))]
        states += [
            (state, counts.get(state, 0)) for state in JobState if counts.get(state) or state is self.state
        ]
        total = counts.get(self.state, 0) if self.state else sum(counts.values())
        pages = max(1, -(-total // PER_PAGE))
        parts = {"states": template.part("states", self, states)}
        for card in reader.cards(jobs, self.path):
            parts[f"job-{card.job.id}"] = template.part("job", card)
        if not jobs:
            parts["empty"] = template.part("empty", self, reader.example)
        parts["pages"] = template.part("pages", self, pages)
        return PageContent("Jobs", parts, template.part("job_list", self, parts))


@dataclass(frozen=True)
class JobPage:
    """The view of one job."""

    reader: JobReader
    job_id: int

    @property
    def path(self) -> str:
        """The address of this view."""
        return f"/jobs/{self.job_id}"

    def read(self) -> PageContent:
        """Return the content now. Raises JobUnknown, StoreError."""
        store, template = self.reader.store, self.reader.template
        job = store.jobs.get(self.job_id)
        cards = self.reader.cards([job], self.path)
        blobs = store.blobs.of_job(job.id)
        events = store.events.of(job.id, limit=_EVENTS + 1)
        parts: dict[str, Markup] = {}
        for card in cards:  # none if it was deleted just now
            parts[f"job-{job.id}"] = template.part("job", card, is_alone=True)
            parts["facts"] = template.part("facts", card)
        parts["layers"] = template.part("layers", blobs, self.reader.in_flight())
        parts["log"] = template.part("log", job, events[-_EVENTS:], len(events) > _EVENTS)
        return PageContent(f"Job {job.id}", parts, template.part("job_page", parts))
