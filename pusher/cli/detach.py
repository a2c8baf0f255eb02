"""Start ``pusher run`` in the background.

The command starts itself again. The new process reads the settings and the password where they were given, so
that neither is in its arguments or its environment, and reports on the terminal why it cannot start. Once it
could, it leaves the terminal and says so through a pipe.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from pusher.cli.output import print_notice
from pusher.cli.verbose import is_log_json
from pusher.cli.worker_log import redirect_output
from pusher.config import Settings
from pusher.errors import InvalidOption
from pusher.worker.background import BackgroundLock, already_running_error, find_background_worker, log_path

_READY: Final = "_PUSHER_READY"
"""The variable with the number of the pipe's descriptor."""
_SIGNALS: Final = 128


class Detachment:
    """How a command that was started in the background gets there."""

    def __init__(self, home: Path, pipe: int) -> None:
        self._home = home
        self._pipe = pipe

    @classmethod
    def from_environment(cls, settings: Settings) -> Detachment | None:
        """Return that of this process; None if it is the one that the user started."""
        pipe = os.environ.pop(_READY, None)
        return None if pipe is None else cls(settings.home, int(pipe))

    def detach(self) -> None:
        """Leave the terminal, and report that to the command that waits for it.

        Raises WorkerAlreadyRunning, HomeUnusable.
        """
        lock = BackgroundLock(self._home)
        lock.acquire()
        atexit.register(lock.release)
        os.setsid()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        redirect_output(self._home, adds_times=not is_log_json())
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        print_notice(f"Started in the background, pid {os.getpid()}.")
        os.write(self._pipe, b"1")  # BrokenPipeError if that command was stopped: this one ends then, too
        os.close(self._pipe)


def check_detached(flags: Mapping[str, Any], progress: str) -> None:
    """Raise InvalidOption for an option that has no meaning in the background."""
    if flags["as_json"] or progress in ("json", "tty"):
        given = "--json" if flags["as_json"] else f"--progress {progress}"
        raise InvalidOption(
            f"{given} is for output on the terminal, which --detach leaves",
            hint="leave out one of the two; pusher wait --json prints how the jobs ended",
        )


def start_in_background(settings: Settings) -> int:
    """Start this command again in the background, and print its process ID; return the exit code.

    Raises WorkerAlreadyRunning.
    """
    if find_background_worker(settings.home) is not None:
        raise already_running_error(settings.home)
    pipe, ready = os.pipe()
    process = subprocess.Popen(
        [sys.executable, *sys.orig_argv[1:]], env={**os.environ, _READY: str(ready)}, pass_fds=[ready]
    )
    os.close(ready)
    is_ready = os.read(pipe, 1)
    os.close(pipe)
    if not is_ready:  # it has said why
        code = process.wait()
        return code if code >= 0 else _SIGNALS - code
    click.echo(process.pid)
    print_notice(
        f"A worker runs in the background (pid {process.pid}); its log: {log_path(settings.home)}. "
        "Stop it with: pusher stop"
    )
    return 0
