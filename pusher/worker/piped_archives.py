"""Archives that came through a pipe: kept as files beside the blobs, as long as a job may need them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from pusher.store.records import JobState
from pusher.store.store import Store

FOLDER: Final = "incoming"
"""Where they lie, in the spool."""
_NEEDING: Final = frozenset(JobState) - {JobState.SUCCEEDED}
"""What failed or was cancelled can be put back, until it is pruned."""
_SETTLED: Final = 3600.0
"""Seconds after which a file without a job is left over: its command was killed before the job's record."""


def remove_unneeded(store: Store, folder: Path) -> None:
    """Remove what no job needs, but for what came in the last hour."""
    before = time.time() - _SETTLED
    with suppress(OSError):
        _remove(store, [path for path in folder.iterdir() if path.stat().st_mtime < before])


def remove_if_unneeded(store: Store, folder: Path, meant: str | Mapping[str, object]) -> None:
    """Remove what an IMAGE or a job's source means, if it lies there and no other job needs it."""
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
