"""Claim layers, so that one thread or process at a time compresses a layer for a spool."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from filelock import FileLock, Timeout

from pusher.config.private import make_private_folder

_STALE_AFTER: Final = 10.0
"""Seconds without progress after which a claim is ignored."""
_MARK_EVERY: Final = 1.0
"""Seconds between two marks of progress on a claim's file."""


class Claims:
    """Claims on diff IDs, released at the end of the context.

    Each is a file lock, which the kernel releases with its process, so a dead owner blocks no other. Nor does
    an owner without progress, e.g. if `docker save` hangs or the process was stopped: the layer is then
    compressed twice, which is harmless. The same happens where files cannot be locked, as on some network
    file systems.
    """

    def __init__(self, spool: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = spool / "claims"
        self._held: dict[str, FileLock] = {}
        self._clock = clock
        self._touched = clock()
        self._seen: dict[Path, tuple[int, float]] = {}  # of others: the last mark, and since when

    def take(self, diff_ids: Iterable[str]) -> set[str]:
        """Claim diff IDs; return those that no other claim holds."""
        with contextlib.suppress(OSError):
            make_private_folder(self._folder, closed=True)
        return {diff_id for diff_id in diff_ids if self._take(diff_id)}

    def touch(self) -> None:
        """Record progress on the claimed layers. Cheap: most calls do nothing."""
        now = self._clock()
        if now - self._touched < _MARK_EVERY:
            return
        self._touched = now
        for lock in list(self._held.values()):
            _mark(lock)

    def release(self, diff_id: str) -> None:
        """Release the claim on a layer whose blob is complete or given up."""
        lock = self._held.pop(diff_id, None)
        if lock is not None:
            with contextlib.suppress(OSError):
                Path(lock.lock_file).unlink()
            lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for diff_id in list(self._held):
            self.release(diff_id)

    def _take(self, diff_id: str) -> bool:
        name = hashlib.sha256(diff_id.encode()).hexdigest()[:32]
        lock = FileLock(self._folder / f"{name}.lock", timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            return self._stands_still(Path(lock.lock_file))
        except (OSError, NotImplementedError):
            return True
        self._held[diff_id] = lock
        _mark(lock)
        return True

    def _stands_still(self, path: Path) -> bool:
        """Return whether the owner of this claim made no progress for long, by this process's clock, as
        the file's may be changed."""
        try:
            at = path.stat().st_atime_ns
        except OSError:  # just released
            return False
        now = self._clock()
        seen, since = self._seen.get(path, (at, now))
        if seen != at:
            since = now
        self._seen[path] = at, since
        return now - since >= _STALE_AFTER


def _mark(lock: FileLock) -> None:
    """Set the access time: trying to lock a file may change its modification time."""
    with contextlib.suppress(OSError):
        os.utime(lock.lock_file)
