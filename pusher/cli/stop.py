"""Implement ``pusher stop``."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from pusher.cli.command import Command
from pusher.cli.job_output import list_jobs
from pusher.cli.output import print_notice
from pusher.cli.settings import read_settings
from pusher.cli.store import open_store, store_exists
from pusher.errors import ExitCode
from pusher.system import is_frozen

if TYPE_CHECKING:
    from pusher.config import Settings
    from pusher.worker.background import BackgroundWorker

_LOOK_EVERY: Final = 0.1
_NOTICE_AFTER: Final = 2.0
"""Seconds after which a notice says what is waited for."""
_BETWEEN_SIGNALS: Final = 0.5
_KILL_AFTER: Final = 2.0
"""Seconds after which ``--now`` ends a worker that does not obey."""


@click.command(cls=Command)
@click.option("--now", is_flag=True, help="Stop at once, also where bytes must be sent again then.")
def stop(now: bool) -> int:
    """Stop the worker that runs in the background.

    It finishes the chunks that it sends and puts its jobs back into the queue; this command waits for that.
    Ctrl-C ends only the waiting.

    \b
    Example:
      pusher run --detach
      pusher stop
    """
    from pusher.worker.background import find_background_worker

    settings = read_settings()
    worker = find_background_worker(settings.home)
    if worker is None:
        print_notice("No worker runs in the background.")
        return ExitCode.DONE
    try:
        if now:
            _stop_now(worker, settings.home)
        elif worker.send(signal.SIGTERM, settings.home):
            _wait_for_end(worker, settings.home)
    except KeyboardInterrupt:
        print_notice("It still stops after the chunks in flight. To stop it at once: pusher stop --now")
        raise
    print_notice(f"The worker (pid {worker.pid}) has stopped. {_describe_rest(settings)}")
    return ExitCode.DONE


def _stop_now(worker: BackgroundWorker, home: Path) -> None:
    """Send what ends a worker at once: SIGTERM up to three times, as Ctrl-C; then SIGKILL, to one that is
    frozen."""
    for _ in range(3):
        if not worker.send(signal.SIGTERM, home) or _has_ended(worker, home, _BETWEEN_SIGNALS):
            return
    if not _has_ended(worker, home, _KILL_AFTER) and worker.send(signal.SIGKILL, home):
        _wait_for_end(worker, home)


def _wait_for_end(worker: BackgroundWorker, home: Path) -> None:
    if not _has_ended(worker, home, _NOTICE_AFTER):
        if is_frozen(worker.pid):
            print_notice(
                f"The worker is frozen, as by SIGSTOP, and stops once it continues: kill -CONT {worker.pid}; "
                "to end it at once: pusher stop --now"
            )
        else:
            print_notice("Waiting for the chunks in flight; to stop at once: pusher stop --now")
        while not _has_ended(worker, home, _NOTICE_AFTER):
            pass


def _has_ended(worker: BackgroundWorker, home: Path, seconds: float) -> bool:
    """Wait this long for the worker's end; return whether it has ended."""
    from pusher.worker.background import find_background_worker

    until = time.monotonic() + seconds
    while find_background_worker(home) == worker:
        if time.monotonic() >= until:
            return False
        time.sleep(_LOOK_EVERY)
    return True


def _describe_rest(settings: Settings) -> str:
    """Return which jobs are left."""
    from pusher.store.records import UNFINISHED_STATES

    if store_exists(settings):
        with open_store(settings) as store:
            if left := store.jobs.list(states=UNFINISHED_STATES):
                return f"Left in the queue: {list_jobs(left)}. Continue with: pusher run"
    return "Nothing is left in the queue."
