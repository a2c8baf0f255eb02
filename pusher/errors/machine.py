"""This machine: its disk, its memory and the job store."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pusher.errors.base import ExitCode, PusherError, Retry


class DiskFull(PusherError):
    """There is no space left on the disk."""

    code = "disk-full"
    exit_code = ExitCode.UNFINISHED
    retry = Retry.LATER
    advice = "free some space, for example with pusher prune, or move PUSHER_HOME to a larger disk"


class HomeUnusable(PusherError):
    """PUSHER_HOME cannot be created or written, or does not belong to this user alone."""

    code = "home-unusable"
    exit_code = ExitCode.STORE
    retry = Retry.LATER
    advice = "set PUSHER_HOME to a folder that you can write"


class MachineExhausted(PusherError):
    """This machine has run out of memory, threads or open files, or its disk failed."""

    code = "machine-exhausted"
    exit_code = ExitCode.UNFINISHED
    retry = Retry.LATER
    advice = "stop what uses it up, or raise the limit (see ulimit -a), then: pusher run"


class OutputUnwritable(PusherError):
    """Standard output or the digest file cannot be written."""

    code = "output-unwritable"
    advice = "free some space where the output goes; no work is lost"


class ListenFailed(PusherError):
    """The registry of pusher serve cannot listen on its address."""

    code = "listen-failed"
    exit_code = ExitCode.USAGE
    advice = "use another port: --listen 127.0.0.1:5056"


class FolderInUse(PusherError):
    """Another pusher serve has the registry in this folder open."""

    code = "folder-in-use"
    exit_code = ExitCode.USAGE
    advice = "use that one, or choose another folder"


class WorkerAlreadyRunning(PusherError):
    """A worker already runs in the background of this home."""

    code = "worker-already-running"
    exit_code = ExitCode.USAGE
    advice = "it pushes what is queued; stop it with: pusher stop"


class WorkerElsewhere(PusherError):
    """The worker in the background runs on another machine, or in another container."""

    code = "worker-elsewhere"
    exit_code = ExitCode.USAGE
    advice = "run the command where the worker runs"


class DemoFailed(PusherError):
    """A step of pusher demo failed."""

    code = "demo-failed"
    advice = "run it again; if it fails again, report what it printed"


class StoreError(PusherError):
    """Base of the errors of the job store."""

    exit_code = ExitCode.STORE


class StoreLocked(StoreError):
    """Another process has kept the job store locked for too long."""

    code = "store-locked"
    retry = Retry.BACKOFF
    advice = "run the command again"


class StoreReadOnly(StoreError):
    """The job store cannot be written."""

    code = "store-read-only"
    advice = "make the file and its folder writable, or set PUSHER_HOME to a folder that you can write"


class StoreUnreachable(StoreError):
    """The database server does not respond or refuses the login, or the job store's file cannot be opened."""

    code = "store-unreachable"
    retry = Retry.BACKOFF
    advice = "check that the server runs and that PUSHER_DATABASE_URL is right, then run the command again"


class StoreRemoved(StoreError):
    """The job store's file was removed or replaced while it was in use."""

    code = "store-removed"
    advice = "restore the file if you can, then: pusher run; otherwise enqueue the images again"


class StoreOutdated(StoreError):
    """The job store was written by an older version of pusher."""

    code = "store-needs-upgrade"
    advice = "run: pusher db upgrade"


class StoreTooNew(StoreError):
    """The job store was written by a newer version of pusher."""

    code = "store-too-new"
    advice = "use that version, or set PUSHER_HOME to another folder"


class StoreCorrupt(StoreError):
    """The job store's file is damaged, or is not a job store."""

    code = "store-corrupt"
    advice = "move the file away and enqueue the images again; what the registry has is not sent again"


class ClockWrong(PusherError):
    """This machine's clock and the registry's differ by minutes."""

    code = "clock-wrong"
    exit_code = ExitCode.UNFINISHED
    retry = Retry.LATER
    advice = "set the clock: sudo timedatectl set-ntp true"


_FREE_SPACE: Final = "free some space there, then run the command again"
_LIMITS: Final = {
    errno.EMFILE: "this process cannot open any more files",
    errno.ENFILE: "this machine cannot open any more files",
    errno.ENOMEM: "this machine has no memory left",
    errno.EAGAIN: "this machine cannot start any more processes",
    errno.EFBIG: "this process may not write files as large as this (ulimit -f)",
}
_BROKEN_DISK: Final = frozenset({errno.EIO, errno.ESTALE, errno.ENODEV})
_SERVER_GONE: Final = frozenset(
    {
        *(errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH),
        *(errno.ECONNABORTED, errno.ESHUTDOWN),
    }
)
"""Errors of files whose server cannot be reached: of FUSE, soft mounts of NFS, SMB and CephFS. A socket has
them, too."""
_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS})


def describe_limit(error: OSError) -> MachineExhausted | None:
    """Return the limit of the process or machine that a system call has hit; None if it failed otherwise."""
    return MachineExhausted(_LIMITS[error.errno]) if error.errno in _LIMITS else None


def home_error(error: OSError, path: Path, message: str, *, hint: str = HomeUnusable.advice) -> PusherError:
    """Return the error for a file or folder of PUSHER_HOME at ``path`` that cannot be read or written.

    Only for a fault of the folder itself is it HomeUnusable with ``message`` and ``hint``: with
    another home after a full or broken disk, the queue would be an empty one.
    """
    if error.errno == errno.ENOSPC:
        return DiskFull(f"no space left on the disk of {path}", hint=_FREE_SPACE)
    if error.errno == errno.EDQUOT:
        return DiskFull(f"the disk quota is used up, which {path} counts towards", hint=_FREE_SPACE)
    if (gone := find_lost_disk(error, f" of {path}")) is not None:
        return gone
    if error.errno in _NO_LOCKS:
        return HomeUnusable(
            f"the file system of {path} does not support file locks: {os.strerror(error.errno or 0)}",
            hint="PUSHER_HOME belongs on a local disk, and PUSHER_SPOOL on a file system with locks: see "
            "`pusher help queue`, Several machines",
        )
    if error.errno == errno.EROFS:
        return HomeUnusable(
            f"{path} is on a disk that is mounted read-only",
            hint="make the disk writable and run the command again (a disk that fails becomes read-only: see "
            "dmesg); with another PUSHER_HOME the queue is another one, too",
        )
    return describe_limit(error) or HomeUnusable(message, hint=hint)


def find_lost_disk(error: OSError, where: str = "") -> MachineExhausted | None:
    """Return the error for a file whose disk or file server failed; None if it failed otherwise. Only for
    errors of files. ``where`` follows "the disk"."""
    if error.errno in _SERVER_GONE:
        return MachineExhausted(
            f"the disk{where} cannot be reached: {os.strerror(error.errno or 0)}",
            hint="check the file server and the mount (see findmnt and dmesg), then: pusher run",
        )
    return _describe_broken_disk(error, where) if error.errno in _BROKEN_DISK else None


def find_machine_error(error: BaseException) -> PusherError | None:
    """Return the error for what this machine lacked, if that caused ``error``; else None.

    The causes decide: the code in between has often raised an error of its own.
    """
    for cause in iter_causes(error):
        if isinstance(cause, MemoryError):
            return MachineExhausted(_LIMITS[errno.ENOMEM])
        if isinstance(cause, RuntimeError) and "can't start new thread" in str(cause):
            return MachineExhausted("this machine cannot start any more threads")
        if isinstance(cause, OSError) and (limit := describe_limit(cause)):
            return limit
        if isinstance(cause, ImportError) and (limit := _find_limit_of_loader(cause)):
            return limit
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return DiskFull(f"no space left on the disk{_where(cause)}")
        if isinstance(cause, OSError) and cause.errno in _BROKEN_DISK:
            return _describe_broken_disk(cause, _where(cause))
    return None


def _find_limit_of_loader(error: ImportError) -> MachineExhausted | None:
    """Return the limit that the dynamic loader has hit: "cannot open shared object: Too many open files".

    It gives no number.
    """
    reached = (number for number in _LIMITS if str(error).endswith(os.strerror(number)))
    return next((MachineExhausted(_LIMITS[number]) for number in reached), None)


def _describe_broken_disk(error: OSError, where: str) -> MachineExhausted:
    return MachineExhausted(
        f"the disk{where} failed: {os.strerror(error.errno or errno.EIO)}",
        hint="check the disk and its connection (see dmesg), then: pusher run",
    )


def _where(error: OSError) -> str:
    return f" of {os.fsdecode(error.filename)}" if isinstance(error.filename, str | bytes) else ""


def iter_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and all its causes, each once: an error can be raised from itself."""
    seen: set[int] = set()
    pending: list[object] = [error]
    while pending:
        current = pending.pop(0)
        if isinstance(current, BaseException) and id(current) not in seen:
            seen.add(id(current))
            yield current
            pending += [current.__cause__, current.__context__, *current.args]
