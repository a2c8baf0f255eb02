"""Implement ``pusher pause``, ``resume``, ``cancel`` and ``retry``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pusher.cli import completers
from pusher.cli.command import Command
from pusher.cli.options import setting_options
from pusher.cli.output import print_error, print_notice
from pusher.cli.password import login_options, with_password
from pusher.cli.queueing import advise_start, priority_type
from pusher.cli.settings import read_settings
from pusher.cli.store import open_store, parse_job_id
from pusher.errors import (
    DiskFull,
    ExitCode,
    InvalidOption,
    JobStateConflict,
    JobUnknown,
    MachineExhausted,
    PusherError,
    StoreError,
)

if TYPE_CHECKING:
    from pusher.config import Settings
    from pusher.store.store import Store

F = TypeVar("F", bound=Callable[..., Any])


def _jobs_or_all(function: F) -> F:
    function = click.option(
        "-a", "--all", "everything", is_flag=True, help="All jobs to which this applies."
    )(function)
    return click.argument("jobs", metavar="JOB...", nargs=-1, shell_complete=completers.jobs)(function)


@click.command(cls=Command)
@_jobs_or_all
def pause(jobs: tuple[str, ...], everything: bool) -> int:
    """Pause jobs; what was sent is kept.

    \b
    Example:
      pusher pause 3 4
    """
    return _run_verb("pause", jobs, everything)


@click.command(cls=Command)
@_jobs_or_all
def resume(jobs: tuple[str, ...], everything: bool) -> int:
    """Put paused jobs back into the queue.

    \b
    Example:
      pusher resume --all
    """
    return _run_verb("resume", jobs, everything)


@click.command(cls=Command)
@_jobs_or_all
def retry(jobs: tuple[str, ...], everything: bool) -> int:
    """Retry failed jobs, and waiting ones without delay.

    Cancelled jobs are retried only if they are given by ID.

    \b
    Example:
      pusher retry 3
    """
    return _run_verb("retry", jobs, everything)


@click.command(cls=Command)
@_jobs_or_all
@login_options
@setting_options("insecure", "ca_cert")
def cancel(jobs: tuple[str, ...], everything: bool, password_stdin: bool, **flags: object) -> int:
    """Cancel jobs, here and at the registry.

    Their unfinished uploads are deleted from the registry.

    \b
    Example:
      pusher cancel 3
    """
    from pusher.worker.cleanup import cancel as delete_sessions

    settings = read_settings(**flags)
    with open_store(settings) as store:
        ids = _select_jobs(store, "cancel", jobs, everything)
        registries = {store.jobs.get(number).registry for number in ids}
        settings = with_password(settings, registries, password_stdin=password_stdin)
        done, code = _apply(store.jobs.cancel, ids, everything=everything)
        delete_sessions(store, settings, ())
        _print_states(store, done, settings)
    return code


@click.command(cls=Command, context_settings={"ignore_unknown_options": True})  # -5 is a number
@click.argument("job", shell_complete=completers.jobs)
@click.argument("number", metavar="N", type=priority_type)
def priority(job: str, number: int) -> int:
    """Change the priority of a job to N; higher ones go first.

    It has no effect on a job that is being pushed already.

    \b
    Example:
      pusher priority 3 10
    """
    with open_store(read_settings()) as store:
        changed = store.jobs.set_priority(parse_job_id(job), number)
    print_notice(f"Job {changed.id} has priority {changed.priority}.")
    return ExitCode.DONE


def _run_verb(verb: str, jobs: tuple[str, ...], everything: bool) -> int:
    from pusher.worker.decisions import decide

    settings = read_settings()
    with open_store(settings) as store:
        done, code = _apply(
            partial(decide, store, verb), _select_jobs(store, verb, jobs, everything), everything=everything
        )
        _print_states(store, done, settings)
    return code


def _apply(
    decide: Callable[[int], object], numbers: list[int], *, everything: bool
) -> tuple[list[int], ExitCode]:
    """Apply ``decide`` to each job; return the jobs that it was applied to, and the exit code.

    A job that refuses does not stop the loop. With ``everything`` that job is skipped, which is not an
    error. Raises StoreError, DiskFull and MachineExhausted, which all other jobs would have as well.
    """
    done, code = [], ExitCode.DONE
    for number in numbers:
        try:
            decide(number)
            done.append(number)
        except (StoreError, DiskFull, MachineExhausted):
            if done:
                print_notice(f"Done before this failed: {len(done)} of {len(numbers)} jobs.")
            raise
        except PusherError as error:
            if everything and isinstance(error, JobStateConflict | JobUnknown):
                print_notice(f"Skipped: {error.message}.")
            else:
                print_error(error.message, error.hint, error.code)
                code = error.exit_code
    return done, code


def _select_jobs(store: Store, verb: str, jobs: tuple[str, ...], everything: bool) -> list[int]:
    from pusher.store.decisions import DECISIONS

    if bool(jobs) == everything:
        what = "jobs and --all cannot be used together" if jobs else "no job given"
        raise InvalidOption(
            what, hint=f"pusher {verb} JOB..., or pusher {verb} --all; pusher status lists the jobs"
        )
    if jobs:
        return list(dict.fromkeys(parse_job_id(job) for job in jobs))
    found = [job.id for job in store.jobs.list(states=DECISIONS[verb].of_all)]
    if not found:
        print_notice(f"There are no jobs to {verb}.")
    return found


def _print_states(store: Store, numbers: list[int], settings: Settings) -> None:
    for number in numbers:
        job = store.jobs.get(number)
        start = f" {advise_start(store, [job], settings)}" if job.state == "queued" else ""
        print_notice(f"Job {number} is {job.state}.{start}")
