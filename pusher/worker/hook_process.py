"""Run one hook: a command for the shell, in a process group of its own, within a time limit."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from typing import Final

from pusher.dataclass import dataclass

_TICK: Final = 0.05
"""Seconds between two checks whether the process has ended."""
_KILL_AFTER: Final = 2.0
"""Seconds between SIGTERM and SIGKILL."""
_OUTPUT: Final = 4096
"""Bytes at the end of the output that are kept."""
_BLOCK: Final = 65536
_BLOCKS_OF_A_PIPE: Final = 2
"""More than a pipe holds; a process in the background may write into it for ever."""


@dataclass(frozen=True)
class HookEnd:
    """How a hook ended."""

    exit_code: int | None
    """Negative for a signal, None at the time limit."""
    output: bytes
    """The end of standard output and standard error."""
    is_stopped: bool = False


class HookProcess:
    """A command that gets ``data`` on standard input, whether or not it reads it.

    Processes that it leaves in the background are not waited for.
    """

    def __init__(self, command: str, data: bytes, environment: Mapping[str, str]) -> None:
        self._command = command
        self._data = memoryview(data)
        self._environment = environment
        self._output = b""
        self._stop = threading.Event()

    def stop(self) -> None:
        """End the process soon, from another thread; a command that was not started yet is not run."""
        self._stop.set()

    def run(self, limit: float) -> HookEnd:
        """Run the command for at most ``limit`` seconds. Raises OSError if it cannot be started."""
        if self._stop.is_set():
            return HookEnd(None, b"", is_stopped=True)
        with subprocess.Popen(
            ["/bin/sh", "-c", self._command],
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,  # Ctrl-C is for pusher, and the group can be killed as a whole
        ) as process:
            try:
                is_over = self._attend(process, time.monotonic() + limit)
            finally:
                if process.poll() is None:
                    _end_group(process)
        if is_over:
            return HookEnd(process.returncode, self._output)
        return HookEnd(None, self._output, is_stopped=self._stop.is_set())

    def _attend(self, process: subprocess.Popen[bytes], deadline: float) -> bool:
        """Write the data and read the output until the process ends; return False if it is to be ended."""
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - both are pipes
        with selectors.DefaultSelector() as selector:
            os.set_blocking(process.stdin.fileno(), False)
            os.set_blocking(process.stdout.fileno(), False)
            selector.register(process.stdin, selectors.EVENT_WRITE, self._write)
            selector.register(process.stdout, selectors.EVENT_READ, self._read)
            while process.poll() is None:
                if self._stop.is_set() or time.monotonic() >= deadline:
                    return False
                if not selector.get_map():
                    self._stop.wait(_TICK)
                for key, _ in selector.select(_TICK) if selector.get_map() else ():
                    if key.data(key.fd):
                        selector.unregister(key.fileobj)
                        key.fileobj.close()  # type: ignore[union-attr]
        for _ in range(_BLOCKS_OF_A_PIPE):  # what was written just before the end
            if process.stdout.closed or self._read(process.stdout.fileno()):
                break
        return True

    def _write(self, descriptor: int) -> bool:
        """Write what the pipe takes; return whether that was all, or no process reads it."""
        try:
            self._data = self._data[os.write(descriptor, self._data[:_BLOCK]) :]
        except BlockingIOError:
            return False
        except OSError:
            return True
        return not self._data

    def _read(self, descriptor: int) -> bool:
        """Read what is there; return whether it was the end."""
        try:
            block = os.read(descriptor, _BLOCK)
        except BlockingIOError:
            return False
        self._output = (self._output + block)[-_OUTPUT:]
        return not block


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Ask the process group to end, and kill what is left of it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_KILL_AFTER)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
