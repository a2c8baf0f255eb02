"""Remove archives that came through a pipe, stored in the spool, once no job may need them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from pusher.store.records import JobState
from pusher.store.store import Store

FOLDER: Final = "incoming"
"""Their folder in the spool."""
_NEEDING: Final = frozenset(JobState) - {JobState.SUCCEEDED}
"""Failed and cancelled jobs can be retried until they are pruned."""
_UNUSED_AFTER: Final = 3600.0
"""Seconds after which a file without a job is unneeded: its command was killed before it recorded a job."""


def remove_unneeded(store: Store, folder: Path, now: float) -> None:
    """Remove archives that no job needs, except those of the last hour; ``now`` is ``Spool.now``."""
    before = now - _UNUSED_AFTER
    with suppress(OSError):
        _remove(store, [path for path in folder.iterdir() if path.stat().st_mtime < before])


def remove_if_unneeded(store: Store, folder: Path, meant: str | Mapping[str, object]) -> None:
    """Remove the archive of an IMAGE or a job's source, if it is in ``folder`` and no other job needs it."""
    text = meant if isinstance(meant, str) else json.dumps(dict(meant))
    with suppress(OSError):
        _remove(store, [path for path in folder.iterdir() if path.name in text])


def _remove(store: Store, files: list[Path]) -> None:
    if not files:
        return
    needed = json.dumps([dict(job.source) for job in store.jobs.list(states=_NEEDING)])
    for path in files:
        if path.name not in needed:
            path.unlink(missing_ok=True)
