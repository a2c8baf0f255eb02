"""Server processes of the tests: started, waited for, stopped whatever happens, their log kept."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

RUNNING: list[Daemon] = []
"""The daemons that live now; their logs are shown with a test that fails."""
_RESERVED: Final = ExitStack()
atexit.register(_RESERVED.close)


class Daemon:
    """One server process with a log file. It is told to end when the process that started it dies."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(
        self,
        command: Sequence[str],
        ready: Callable[[], bool],
        *,
        timeout: float = 90.0,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Start it and wait until ``ready``; AssertionError with its log if that fails or takes too long."""
        leash = ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*leash, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        RUNNING.append(self)
        deadline = time.monotonic() + timeout
        while not ready():
            ended, late = self._process.poll() is not None, time.monotonic() > deadline
            if ended or late:
                self.stop()
                raise AssertionError(f"{self.name} did not start:\n{self.tail()}")
            time.sleep(0.02)

    @property
    def pid(self) -> int:
        """Process id; AssertionError if it is not running."""
        assert self._process is not None, f"{self.name} is not running"
        return self._process.pid

    def stop(self, *, kill: bool = False, timeout: float = 20.0) -> None:
        """SIGTERM (SIGKILL if ``kill``, or if it does not end in time); nothing if it is not running."""
        process, self._process = self._process, None
        if process is None:
            return
        RUNNING.remove(self)
        process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def tail(self, lines: int = 40) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def reserve_port(port: int = 0) -> socket.socket:
    """A socket that keeps a port of 127.0.0.1 until it is closed, and never listens: connecting is refused.

    The system gives the port to nobody who takes any, neither to listen nor to connect from. A server gets it
    that asks for it by number with SO_REUSEADDR, as they all do.
    """
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    return sock


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens, reserved until this process ends."""
    port: int = _RESERVED.enter_context(reserve_port()).getsockname()[1]
    return port


def listens(port: int) -> bool:
    """Whether something accepts connections on this port of 127.0.0.1."""
    with socket.socket() as sock:
        sock.settimeout(1)
        return sock.connect_ex(("127.0.0.1", port)) == 0


def unmount_below(folder: Path) -> None:
    """Lazily unmount what a killed daemon left mounted under its folder."""
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for point in sorted((p for p in points if Path(p).is_relative_to(folder)), key=len, reverse=True):
        subprocess.run(["umount", "--lazy", point], check=False, capture_output=True)
