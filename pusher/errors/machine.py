"""This machine: its disk and the job store."""

from __future__ import annotations

from pusher.errors.base import ExitCode, PusherError, Retry


class DiskFull(PusherError):
    """There is no room on the disk."""

    code = "disk-full"
    exit_code = ExitCode.UNFINISHED
    retry = Retry.LATER
    advice = "make room, for example with pusher prune, or set PUSHER_HOME to a folder on a larger disk"


class HomeUnusable(PusherError):
    """The folder of PUSHER_HOME cannot be made or written."""

    code = "home-unusable"
    exit_code = ExitCode.STORE
    advice = "set PUSHER_HOME to a folder that you may write"


class OutputUnwritable(PusherError):
    """What a command prints cannot be written to where standard output leads."""

    code = "output-unwritable"
    advice = "make room where the output goes; nothing that was done is lost"


class StoreError(PusherError):
    """Base of what can be wrong with the job store."""

    exit_code = ExitCode.STORE


class StoreLocked(StoreError):
    """Another process holds the job store for longer than pusher waits."""

    code = "store-locked"
    retry = Retry.BACKOFF
    advice = "run the command again"


class StoreReadOnly(StoreError):
    """The job store cannot be written."""

    code = "store-read-only"
    advice = "make the file and its folder writable, or set PUSHER_HOME to a folder that you may write"


class StoreUnreachable(StoreError):
    """The database server does not answer, or the job store's file cannot be opened."""

    code = "store-unreachable"
    retry = Retry.BACKOFF
    advice = "check that it runs and that PUSHER_DATABASE_URL is right, then run the command again"


class StoreOutdated(StoreError):
    """The job store was made by an older pusher."""

    code = "store-needs-upgrade"
    advice = "run: pusher db upgrade"


class StoreTooNew(StoreError):
    """The job store was made by a newer pusher."""

    code = "store-too-new"
    advice = "use that pusher, or set PUSHER_HOME to another folder"


class StoreCorrupt(StoreError):
    """The job store's file is something else, or is damaged."""

    code = "store-corrupt"
    advice = "move the file away and enqueue the images again; what the registry has is found there"


class ClockWrong(PusherError):
    """This machine's clock and the registry's differ by minutes."""

    code = "clock-wrong"
    exit_code = ExitCode.UNFINISHED
    retry = Retry.LATER
    advice = "set the clock: sudo timedatectl set-ntp true"
