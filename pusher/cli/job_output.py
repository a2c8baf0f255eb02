"""Print how jobs ended on standard output, as digest references or JSON, and write the digest file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import click

from pusher.cli import completers
from pusher.cli.command import quiet_option
from pusher.cli.output import print_line, printing_results, report_unwritable
from pusher.dataclass import dataclass
from pusher.errors import InvalidOption, JobUnknown, OutputUnwritable, PusherError
from pusher.text import as_json

if TYPE_CHECKING:
    from pusher.progress.base import Progress
    from pusher.store.records import JobRecord
    from pusher.store.store import Store

F = TypeVar("F", bound=Callable[..., Any])

_MAX_LISTED: Final = 10
"""Jobs that a sentence names."""


def job_output_options(function: F) -> F:
    """Add ``--json``, ``--quiet`` and ``--digest-file``; ``JobOutput.read`` takes their values."""
    for option in (
        click.option(
            "--digest-file",
            metavar="FILE",
            shell_complete=completers.files,
            help="Write the digest to FILE; of several jobs, lines of DIGEST DESTINATION.",
        ),
        quiet_option,
        click.option(
            "--json", "as_json", is_flag=True, help="Print a JSON object for each job, a line each."
        ),
    ):
        function = option(function)
    return function


@dataclass(frozen=True)
class JobOutput:
    """What a command prints of the jobs that end, on standard output."""

    workers: Path
    """The folder of the workers' lock files."""
    is_json: bool = False
    prints_digests: bool = True
    digest_file: Path | None = None
    errors: list[PusherError] = field(default_factory=list)
    """Of output that could not be written: the jobs ended all the same."""

    @classmethod
    def read(cls, flags: Mapping[str, Any], workers: Path, progress: str) -> JobOutput:
        """Read the options. Raises InvalidOption for two that exclude each other, or a file that cannot be
        written."""
        if flags["as_json"] and progress == "json":
            raise InvalidOption(
                "--json and --progress json both write to standard output", hint="leave out one of the two"
            )
        file = None if flags["digest_file"] is None else Path(flags["digest_file"])
        if file is not None:
            _check_writable(file)
        return cls(workers, flags["as_json"], progress != "json" and not flags["as_json"], file)

    def print_jobs(self, store: Store, jobs: Sequence[JobRecord]) -> None:
        """Print a line for each job: its object, or the reference with the digest if it was pushed."""
        with printing_results(self.errors.append):
            if self.is_json:
                from pusher.worker.job_json import describe_jobs

                for described in describe_jobs(store, jobs, self.workers):
                    click.echo(as_json(described))
            elif self.prints_digests:
                for job in jobs:
                    if job.state == "succeeded":
                        print_line(digest_reference(job))

    def watch(self, store: Store, progress: Progress) -> Progress:
        """Return ``progress``, with each job printed when it ends."""
        return cast("Progress", _PrintedEnds(progress, store, partial(self.print_jobs, store)))

    def finish(self, jobs: Sequence[JobRecord], code: int) -> int:
        """Write the digest file, and print errors of the output; return the exit code.

        That is ``code``, how the jobs ended, unless they succeeded and an output could not be written.
        """
        if self.digest_file is not None:
            self._write_digests(self.digest_file, jobs)
        return report_unwritable(self.errors, code)

    def _write_digests(self, file: Path, jobs: Sequence[JobRecord]) -> None:
        """Write the digests of the jobs that were pushed."""
        pushed = [job for job in jobs if job.digest]
        lines = [str(job.digest) if len(jobs) == 1 else f"{job.digest} {job.destination}" for job in pushed]
        text = "".join(f"{line}\n" for line in lines)
        try:
            file.write_text(text)
        except OSError as error:
            self.errors.append(_unwritable_error(file, error))


def digest_reference(job: JobRecord) -> str:
    """Return ``registry/repository@sha256:...``: exactly what was pushed."""
    return f"{job.registry}/{job.repository}@{job.digest}"


def list_jobs(jobs: Sequence[JobRecord]) -> str:
    """Return ``job 3``, or ``jobs 3, 4, 5``, and how many more there are."""
    ids = ", ".join(str(job.id) for job in jobs[:_MAX_LISTED])
    more = f" and {len(jobs) - _MAX_LISTED} more" if len(jobs) > _MAX_LISTED else ""
    return f"job{'s' if len(jobs) > 1 else ''} {ids}{more}"


class _PrintedEnds:
    """A worker's progress, which also prints the jobs that end for good."""

    def __init__(
        self, progress: Progress, store: Store, print_jobs: Callable[[Sequence[JobRecord]], None]
    ) -> None:
        self._progress = progress
        self._store = store
        self._print_jobs = print_jobs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._progress, name)

    def job_ended(self, job_id: int, state: str, message: str, *, resumes: bool = True) -> None:
        """A job ended in this worker."""
        self._progress.job_ended(job_id, state, message, resumes=resumes)
        from pusher.store.records import FINAL_STATES

        with suppress(JobUnknown):  # pruned meanwhile
            job = self._store.jobs.get(job_id)
            if job.state in FINAL_STATES:
                self._print_jobs([job])


def _check_writable(file: Path) -> None:
    folder = file.absolute().parent
    if file.is_dir() or not os.access(file if file.exists() else folder, os.W_OK):
        raise InvalidOption(
            f"--digest-file: {file} cannot be written", hint="give a file in a folder that you may write to"
        )


def _unwritable_error(file: Path, error: OSError) -> OutputUnwritable:
    return OutputUnwritable(
        f"--digest-file: {file} cannot be written: {error.strerror}",
        hint="pusher status --json has the digests of what was pushed",
    )
