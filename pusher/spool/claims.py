"""Who makes the blob of a layer: one at a time, in whatever thread or process below one spool."""

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

_STILL: Final = 10.0
"""Seconds without progress after which a claim keeps nobody waiting."""
_STIR_EVERY: Final = 1.0
"""Seconds between two signs of progress in a claim's file."""


class Claims:
    """Claims on diff IDs, given back at the end of the context.

    Each is a file lock, which the kernel frees with its process: a dead holder keeps nobody waiting. Nor does
    one that makes no progress, as where `docker save` stands still or the process was stopped: the layer is
    then compressed twice, which harms nothing. So it is where no lock can be had, as on some network file
    systems.
    """

    def __init__(self, spool: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = spool / "claims"
        self._held: dict[str, FileLock] = {}
        self._clock = clock
        self._stirred = clock()
        self._seen: dict[Path, tuple[int, float]] = {}  # the others' last movements, and since when

    def take(self, diff_ids: Iterable[str]) -> set[str]:
        """Those that nobody else has; they are ours now."""
        with contextlib.suppress(OSError):
            make_private_folder(self._folder, closed=True)
        return {diff_id for diff_id in diff_ids if self._take(diff_id)}

    def touch(self) -> None:
        """What is claimed makes progress; to be called now and then, as cheap as can be."""
        now = self._clock()
        if now - self._stirred < _STIR_EVERY:
            return
        self._stirred = now
        for lock in list(self._held.values()):
            _sign(lock)

    def release(self, diff_id: str) -> None:
        """The layer's blob is made, or given up."""
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
        _sign(lock)
        return True

    def _stands_still(self, path: Path) -> bool:
        """Whether the holder of this claim has not stirred for long, as far as was seen here: by this clock,
        for the file's may be set."""
        try:
            at = path.stat().st_atime_ns
        except OSError:  # given back just now
            return False
        now = self._clock()
        seen, since = self._seen.get(path, (at, now))
        if seen != at:
            since = now
        self._seen[path] = at, since
        return now - since >= _STILL


def _sign(lock: FileLock) -> None:
    """By the time of the last access: trying to lock a file may change the other one."""
    with contextlib.suppress(OSError):
        os.utime(lock.lock_file)
