"""Remove archives that came through a pipe, stored in the spool, once no job may need them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from pusher.errors import ArchiveTruncated, LayerMismatch, PipedArchiveUnusable, PusherError, SourceError
from pusher.spool.spool import Spool
from pusher.store.records import UNFINISHED_STATES, JobRecord, JobState
from pusher.store.store import Store
from pusher.system import lock_shared, try_lock

FOLDER: Final = "incoming"
"""Their folder in the spool."""
_NEEDING: Final = frozenset(JobState) - {JobState.SUCCEEDED}
"""Failed and cancelled jobs can be retried until they are pruned."""
_UNUSED_AFTER: Final = 3600.0
"""Seconds after which a file without a job is unneeded, where it is not known that no command is about to
record one: its command was killed before it did."""


@contextmanager
def receiving(folder: Path) -> Iterator[None]:
    """Keep archives that come into ``folder`` meanwhile: their jobs are not recorded yet. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # not every file system locks folders; none is removed early there
            lock_shared(descriptor)
        yield
    finally:
        os.close(descriptor)


def remove_unneeded(store: Store, spool: Spool) -> None:
    """Remove archives that no job needs; while a command receives one, except those of the last hour.

    Machines that share a spool may not see each other's locks.
    """
    folder = spool.root / FOLDER
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            is_final = not spool.is_shared and try_lock(descriptor)
            before = math.inf if is_final else spool.now() - _UNUSED_AFTER
            _remove(store, [path for path in folder.glob("*.tar") if path.stat().st_mtime < before])
        finally:
            os.close(descriptor)


def remove_if_unneeded(store: Store, folder: Path, meant: str | Mapping[str, object]) -> None:
    """Remove the archive of an IMAGE or a job's source, if it is in ``folder`` and no other job needs it."""
    text = meant if isinstance(meant, str) else json.dumps(dict(meant))
    with suppress(OSError):
        _remove(store, [path for path in folder.iterdir() if path.name in text])


def explain_damage(error: PusherError, folder: Path, job: JobRecord) -> PusherError:
    """Return the error of a job; PipedArchiveUnusable if its archive in ``folder`` is damaged or was removed
    for that, which no retry changes."""
    path = Path(str(job.source.get("path", "")))
    if path.parent != folder or not isinstance(error, SourceError):
        return error
    if isinstance(error, LayerMismatch | ArchiveTruncated):
        return PipedArchiveUnusable(error.message.replace(str(path), job.image))
    return error if path.exists() else PipedArchiveUnusable(f"the archive from {job.image} was removed")


def remove_damaged(store: Store, folder: Path, job: JobRecord) -> None:
    """Remove the damaged archive of a failed job, unless a job that has not ended reads it."""
    with suppress(OSError):
        _remove(
            store,
            [path for path in folder.iterdir() if str(path) == job.source.get("path")],
            UNFINISHED_STATES,
        )


def _remove(store: Store, files: list[Path], states: frozenset[JobState] = _NEEDING) -> None:
    if not files:
        return
    needed = json.dumps([dict(job.source) for job in store.jobs.list(states=states)])
    for path in files:
        if path.name not in needed:
            path.unlink(missing_ok=True)
