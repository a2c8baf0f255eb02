"""Keep on this machine's disk what registries acknowledged while the job store is away.

A worker that cannot record an answer of a registry waits for the job store. Meanwhile the change is in a
file next to the worker's lock, for the case that the process is killed: the next worker on this machine makes
it, unless another worker has taken the upload over. Each line is a change, or says that one was made.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from pusher.config.private import check_private_file
from pusher.errors import HomeUnusable, LeaseLost
from pusher.store.outages import LATER_CHANGES
from pusher.store.records import UploadRecord, UploadState
from pusher.store.store import Store
from pusher.system import sync_folder

SUFFIX: Final = ".journal"
_TIMES: Final = ("opened_at", "used_at")
_KEPT: Final = 30 * 86400.0
"""Seconds for which changes of another job store are kept; no registry keeps a session as long."""


class LocalJournal:
    """The changes of one worker that wait for the job store ``store``. Thread-safe."""

    def __init__(self, path: Path, store: str) -> None:
        self._path = path
        self._store = store
        self._lock = threading.Lock()
        self._last = 0
        self._open: set[int] = set()

    def add(self, change: str, upload: UploadRecord, values: Mapping[str, Any]) -> int | None:
        """Write a call of ``store.uploads`` durably; return its number, None if the disk does not take it.

        Locations may carry secrets: no other user can read the file.
        """
        with self._lock:
            self._last += 1
            line = {
                "number": self._last,
                "store": self._store,
                "change": change,
                "upload": _to_json(upload),
                "values": dict(values),
            }
            try:
                self._append(line)
            except OSError:  # it is in memory, as long as the process lives
                return None
            self._open.add(self._last)
            return self._last

    def settle(self, number: int | None) -> None:
        """Record that the change was made, or cannot be made any more."""
        with self._lock:
            self._open.discard(number or 0)
            with contextlib.suppress(OSError):
                if not self._open:
                    self._path.unlink(missing_ok=True)
                elif number is not None:
                    self._append({"settled": number})

    def _append(self, line: Mapping[str, Any]) -> None:
        is_new = not self._open
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, 0o600)
        try:
            size, data = os.fstat(descriptor).st_size, json.dumps(line).encode() + b"\n"
            try:
                if os.write(descriptor, data) < len(data):  # the disk has no room for the rest
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)  # or the next line would continue this one
                raise
        finally:
            os.close(descriptor)
        if is_new:
            sync_folder(self._path.parent)


def make_left_changes(folder: Path, own: str, store: Store) -> None:
    """Make the changes in ``folder`` that workers left there when they were killed, and remove the files.

    ``own``: the name of this worker. Raises StoreError; the files then stay.
    """
    for path in folder.glob(f"*{SUFFIX}"):
        if path.stem == own:
            continue
        with contextlib.suppress(Timeout, OSError, HomeUnusable):  # its worker lives, or another is at it
            check_private_file(path)
            with FileLock(path.with_suffix(".lock"), timeout=0, mode=0o600):
                _make_changes(path, store)


def _make_changes(path: Path, store: Store) -> None:
    stays = False
    for line in _unsettled(path.read_bytes()):
        if line["store"] != store.label:
            stays = True
        else:
            _make_change(line, store)
    if not stays or time.time() - path.stat().st_mtime > _KEPT:
        path.unlink(missing_ok=True)


def _make_change(line: Mapping[str, Any], store: Store) -> None:
    upload, values = line["upload"], line["values"]
    with contextlib.suppress(LeaseLost):
        if store.uploads.make_late_change(line["change"], upload, values) and values.get("job_id"):
            store.events.add(
                values["job_id"],
                "note",
                f"{upload.digest}: recorded what the registry acknowledged while the job store was away",
            )


def _unsettled(content: bytes) -> list[dict[str, Any]]:
    """Return the changes that were not made; a line that was not written to its end counts as missing."""
    found: dict[int, dict[str, Any]] = {}
    for text in content.splitlines():
        with contextlib.suppress(ValueError, TypeError, KeyError):
            line = json.loads(text)
            if "settled" in line:
                found.pop(line["settled"], None)
            elif line["change"] in LATER_CHANGES:
                upload, values = _from_json(line["upload"]), dict(line["values"])
                found[line["number"]] = {**line, "upload": upload, "values": values}
    return list(found.values())


def _to_json(upload: UploadRecord) -> dict[str, Any]:
    values = vars(upload)
    return {name: each.isoformat() if isinstance(each, datetime) else each for name, each in values.items()}


def _from_json(values: Mapping[str, Any]) -> UploadRecord:
    times = {name: datetime.fromisoformat(values[name]) for name in _TIMES if values[name] is not None}
    return UploadRecord(**{**values, **times, "state": UploadState(values["state"])})
