"""Who makes the blob of a layer: one at a time, in whatever thread or process below one spool."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from pusher.config.private import make_private_folder


class Claims:
    """Claims on diff IDs, given back at the end of the context.

    Each is a file lock, which the kernel frees with its process: a dead holder keeps nobody waiting. Where no
    lock can be had, as on some network file systems, a layer may be compressed twice, which harms nothing.
    """

    def __init__(self, spool: Path) -> None:
        self._folder = spool / "claims"
        self._held: dict[str, FileLock] = {}

    def take(self, diff_ids: Iterable[str]) -> set[str]:
        """Those that nobody else has; they are ours now."""
        with contextlib.suppress(OSError):
            make_private_folder(self._folder, closed=True)
        return {diff_id for diff_id in diff_ids if self._take(diff_id)}

    def give_back(self, diff_id: str) -> None:
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
            self.give_back(diff_id)

    def _take(self, diff_id: str) -> bool:
        name = hashlib.sha256(diff_id.encode()).hexdigest()[:32]
        lock = FileLock(self._folder / f"{name}.lock", timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            return False
        except (OSError, NotImplementedError):
            return True
        self._held[diff_id] = lock
        return True
