"""Write and show the log of the worker in the background."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final

from pusher.cli.output import print_line, print_notice, wait_for_reader
from pusher.config.private import check_private_file
from pusher.errors import home_error
from pusher.progress.format import local_time
from pusher.system import open_flags
from pusher.worker.background import find_background_worker, log_path

MAX_BYTES: Final = 1024 * 1024
"""Bytes of the log after which it becomes the older one, which is deleted then: twice this is kept."""
_LOOK_EVERY: Final = 0.5
"""Seconds between two checks for new lines."""


class WorkerLog(io.TextIOBase):
    """Standard output and standard error of a worker in the background: a file that does not grow.

    What other programs write to the descriptors goes to the same file. A line that cannot be written, as on
    a full disk, is lost, and the work continues.
    """

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(
        self, path: Path, descriptors: Sequence[int], *, adds_times: bool, most_bytes: int = MAX_BYTES
    ) -> None:
        self.adds_times = adds_times
        self._path = path
        self._descriptors = descriptors
        self._most_bytes = most_bytes
        self._begins_line = True
        self._lock = threading.RLock()
        self._open()

    def fileno(self) -> int:
        return self._descriptors[0]

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not isinstance(text, str):  # click writes b"" to find out what a stream takes
            raise TypeError("text is written, not bytes")
        with self._lock, contextlib.suppress(OSError):
            data = "".join(self._add_times(text)).encode(self.encoding, self.errors)
            if os.fstat(self.fileno()).st_size + len(data) > self._most_bytes:
                with contextlib.suppress(FileNotFoundError):  # moved already, when no new one could be opened
                    self._path.replace(older_log(self._path))
                self._open()
            while data:
                data = data[os.write(self.fileno(), data) :]
        return len(text)

    def _add_times(self, text: str) -> Iterator[str]:
        for line in text.splitlines(keepends=True):
            if self._begins_line and self.adds_times:
                yield f"{local_time(datetime.now(UTC))}  "
            self._begins_line = line.endswith("\n")
            yield line

    def _open(self) -> None:
        flags = open_flags("O_WRONLY", "O_CREAT", "O_APPEND", "O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK")
        file = os.open(self._path, flags, 0o600)
        for descriptor in self._descriptors:
            os.dup2(file, descriptor)
        os.close(file)


def older_log(path: Path) -> Path:
    """Return where the older half of a log is."""
    return path.with_name(f"{path.name}.1")


def redirect_output(home: Path, *, adds_times: bool) -> None:
    """Let standard output and standard error go to the log of the worker in the background from now on.

    Raises the errors of ``home_error``, and HomeUnusable.
    """
    path = log_path(home)
    check_private_file(path)
    sys.stdout.flush()
    try:
        sys.stderr = sys.stdout = WorkerLog(path, (2, 1), adds_times=adds_times)
    except OSError as error:
        raise home_error(error, path, f"{path} cannot be written: {error.strerror}") from error


def print_worker_log(home: Path, *, follow: bool) -> None:
    """Print the log of the worker in the background; with ``follow`` new lines, too, until it has ended."""
    path = log_path(home)
    older, newer = _open_to_read(older_log(path)), _open_to_read(path)
    for log in filter(None, (older, newer)):
        _print_lines(log)
    if older is not None:
        older.close()
    if newer is None:
        print_notice("No worker has run in the background. Start one with: pusher run --detach")
        return
    if follow:
        newer = _follow(newer, path, lambda: find_background_worker(home) is not None)
    newer.close()


def _open_to_read(path: Path) -> IO[bytes] | None:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None


def _follow(log: IO[bytes], path: Path, is_running: Callable[[], bool]) -> IO[bytes]:
    """Print new lines, and continue with the new file after a rotation; return the last file."""
    while True:
        running = is_running()  # before its last lines are read
        _print_lines(log)
        while (newer := _open_to_read(path)) and not os.path.sameopenfile(log.fileno(), newer.fileno()):
            _print_lines(log)  # what came before the rotation
            log.close()
            log = newer
            _print_lines(log)
        if newer is not None:
            newer.close()
        if not running:
            return log
        wait_for_reader(_LOOK_EVERY)


def _print_lines(log: IO[bytes]) -> None:
    """Print the complete lines from here on."""
    while line := log.readline():
        if not line.endswith(b"\n"):
            log.seek(-len(line), os.SEEK_CUR)
            return
        print_line(line.decode("utf-8", "replace").rstrip("\n"))
