"""Find the worker that runs in the background of a home, and make sure that there is one at most."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pusher.config.private import make_private_folder
from pusher.dataclass import dataclass
from pusher.errors import WorkerAlreadyRunning, WorkerElsewhere, home_error
from pusher.progress.format import rfc3339
from pusher.system import boot_id, is_locked, open_flags, try_lock

if TYPE_CHECKING:
    from filelock import FileLock

_RECORD: Final = "worker.json"
_NAMESPACE: Final = Path("/proc/self/ns/pid")
_MAX_BYTES: Final = 64 * 1024


@dataclass(frozen=True)
class BackgroundWorker:
    """A worker that runs in the background."""

    pid: int
    started_at: str
    """RFC 3339, UTC."""
    host: str
    machine: str
    """The boot of the kernel and the namespace in which ``pid`` counts."""

    def send(self, number: signal.Signals, home: Path) -> bool:
        """Send a signal; return False if the worker has ended. Raises WorkerElsewhere.

        The record is read again once the process is held by a descriptor: a process that got the ID of a
        worker that has ended is never hit (macOS has no such descriptors; there some microseconds are left).
        """
        if self.machine != _machine():
            raise WorkerElsewhere(
                f"the worker in the background (pid {self.pid}) runs on {self.host}, or in another container",
                hint="stop it there: pusher stop",
            )
        try:
            descriptor = os.pidfd_open(self.pid) if hasattr(os, "pidfd_open") else None
        except ProcessLookupError:
            return False
        try:
            if find_background_worker(home) != self:
                return False
            if descriptor is None:
                os.kill(self.pid, number)
            else:
                signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return False
        finally:
            if descriptor is not None:
                os.close(descriptor)
        return True


class BackgroundLock:
    """The right to be the one worker in the background of a home, and its record.

    The record is locked by the process that wrote it, and takes its name only then: one that is locked is
    never that of a worker before. The kernel frees both locks, whatever ends the process.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._lock: FileLock | None = None
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock. Raises WorkerAlreadyRunning, and those of ``home_error``."""
        from filelock import FileLock, Timeout

        lock = FileLock(self._home / "worker.lock", timeout=0, mode=0o600, thread_local=False)
        try:
            make_private_folder(self._home)
            lock.acquire()
            self._lock = lock
            self._write_record()
        except Timeout:
            raise already_running_error(self._home) from None
        except OSError as error:
            self.release()
            message = f"{self._home} cannot be written: {error.strerror}"
            raise home_error(error, self._home, message) from error

    def release(self) -> None:
        """Remove the record and free the lock."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                (self._home / _RECORD).unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _write_record(self) -> None:
        new = self._home / f"{_RECORD}.new"
        new.unlink(missing_ok=True)  # of a worker that was killed here
        flags = open_flags("O_WRONLY", "O_CREAT", "O_EXCL", "O_NOFOLLOW", "O_CLOEXEC")
        self._descriptor = os.open(new, flags, 0o600)
        try_lock(self._descriptor)
        worker = BackgroundWorker(os.getpid(), rfc3339(datetime.now(UTC)), socket.gethostname(), _machine())
        os.write(self._descriptor, json.dumps(asdict(worker)).encode())
        new.rename(self._home / _RECORD)


def already_running_error(home: Path) -> WorkerAlreadyRunning:
    """Return the error for a second worker."""
    worker = find_background_worker(home)
    which = f" (pid {worker.pid})" if worker is not None else ""
    return WorkerAlreadyRunning(
        f"a worker already runs in the background{which}; its log: {log_path(home)}",
        hint="it pushes what is queued; stop it with: pusher stop",
    )


def find_background_worker(home: Path) -> BackgroundWorker | None:
    """Return the worker that runs in the background; None if none does, or the home cannot be read."""
    flags = open_flags("O_RDONLY", "O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK")
    try:
        descriptor = os.open(home / _RECORD, flags)
    except OSError:
        return None
    try:
        if not is_locked(descriptor):
            return None
        return BackgroundWorker(**json.loads(os.read(descriptor, _MAX_BYTES)))
    except (OSError, ValueError, TypeError):
        return None
    finally:
        os.close(descriptor)


def describe_background_worker(home: Path) -> dict[str, object] | None:
    """Return the worker in the background for programs; None if none runs."""
    worker = find_background_worker(home)
    if worker is None:
        return None
    return {
        "pid": worker.pid,
        "host": worker.host,
        "started_at": worker.started_at,
        "log": str(log_path(home)),
    }


def log_path(home: Path) -> Path:
    """Return the log of the worker in the background."""
    return home / "worker.log"


def _machine() -> str:
    try:
        namespace = str(_NAMESPACE.readlink())
    except OSError:
        namespace = ""
    return f"{boot_id() or socket.gethostname()} {namespace}".strip()
