"""Open the job store for a command."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import unquote

from pusher.cli.output import print_notice
from pusher.config import Settings, values
from pusher.errors import InvalidOption

if TYPE_CHECKING:
    from pusher.store.records import JobRecord
    from pusher.store.store import Store


def store_exists(settings: Settings) -> bool:
    """Return whether there can be jobs: a command that only reads creates no job store."""
    kind, found, path = settings.database_url.partition(":///")
    if not found or not kind.startswith("sqlite"):
        return True
    file = values.parse_path(unquote(path.partition("?")[0]), "PUSHER_DATABASE_URL")
    try:
        return os.path.lexists(file)
    except OSError:
        return True  # opening it reports the reason


@contextmanager
def open_store(settings: Settings, *, forever: bool = False) -> Iterator[Store]:
    """Open the job store until the context ends, and wait while another process locks it.

    With ``forever``, also wait for an unreachable server, without a limit.
    """
    from pusher.errors import StoreError, StoreLocked
    from pusher.store.outages import StoreOutages
    from pusher.store.store import Store

    is_file = settings.database_url.startswith("sqlite")
    outages = StoreOutages(
        print_notice,
        limit=None if forever else settings.retry.store_command,
        only=StoreError if forever and not is_file else StoreLocked,
        policy=settings.retry,
    )
    with outages.call(Store.open, settings.database_url) as store:
        yield store.waiting_out(outages)


def wait_for_outages(store: Store, settings: Settings) -> Store:
    """Return the store for a command that watches jobs: an outage is waited for as long as by a worker."""
    from pusher.store.outages import StoreOutages

    outages = StoreOutages(print_notice, limit=settings.retry.store_run, policy=settings.retry)
    return store.direct().waiting_out(outages)


def parse_job_id(text: str) -> int:
    """Read the ID that ``enqueue`` printed. Raises InvalidOption for anything else."""
    if text.isascii() and text.isdigit() and len(text) < 19:
        return int(text)
    raise InvalidOption(f"{text!r} is not a job ID", hint="pusher status lists the jobs")


def runnable_jobs(store: Store) -> list[JobRecord]:
    """Return the jobs that a run will push now or when they are due."""
    from pusher.store.records import RUNNABLE_STATES

    return store.jobs.list(states=RUNNABLE_STATES)
