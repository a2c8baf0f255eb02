"""This machine: its disk and the job store."""

from __future__ import annotations

from pusher.errors.base import ExitCode, PusherError, Retry


class DiskFull(PusherError):
    """No room for a compressed layer."""

    code = "disk-full"
    exit_code = ExitCode.UNFINISHED
    retry = Retry.LATER


class HomeUnusable(PusherError):
    """PUSHER_HOME cannot be created or written."""

    code = "home-unusable"
    exit_code = ExitCode.STORE


class StoreError(PusherError):
    """Base of what can be wrong with the job store."""

    code = "store-error"
    exit_code = ExitCode.STORE


class StoreLocked(StoreError):
    """Another process holds the job store for longer than we wait."""

    code = "store-locked"
    retry = Retry.BACKOFF


class StoreReadOnly(StoreError):
    """The job store cannot be written."""

    code = "store-read-only"


class StoreUnreachable(StoreError):
    """The database server does not answer, or the file cannot be opened."""

    code = "store-unreachable"
    retry = Retry.BACKOFF


class StoreOutdated(StoreError):
    """The schema is older than this pusher and is not upgraded by itself (PostgreSQL)."""

    code = "store-needs-upgrade"


class StoreTooNew(StoreError):
    """The schema was written by a newer pusher."""

    code = "store-too-new"


class StoreCorrupt(StoreError):
    """The file is no job store, or is damaged."""

    code = "store-corrupt"
