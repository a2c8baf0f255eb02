"""Keep partly downloaded blobs, so that a download resumes after a broken link or a dead process."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Final

from pusher.oci.digest import digest_of_hash, hash_for
from pusher.system import open_flags, try_lock

_BLOCK: Final = 1024 * 1024
_READ_AND_WRITE: Final = open_flags("O_RDWR", "O_CLOEXEC", "O_NOFOLLOW", "O_BINARY")


class PartialBlob:
    """The first ``size`` bytes of a blob, in a file that is locked until it is closed.

    ``guard`` is entered for each write with its number of bytes, and translates an OSError.
    """

    def __init__(
        self,
        path: Path,
        digest: str,
        descriptor: int,
        guard: Callable[[int], AbstractContextManager[None]],
        *,
        synced: bool = False,
    ) -> None:
        """``synced``: as in TemporaryFile."""
        self._synced = synced
        self._path = path
        self._file = os.fdopen(descriptor, "r+b", buffering=0)
        self._guard = guard
        self._wanted = digest
        self._hash = hash_for(digest)
        self.size = 0
        self.held = 0
        """Bytes that can be read from the file: after ``rewind`` more than ``size``."""

    def read(self, check_stop: Callable[[], None]) -> None:
        """Hash the bytes of an earlier run, whose number is the offset to resume from."""
        while block := self._file.read(_BLOCK):
            self._count(block)
            check_stop()

    def write(self, data: bytes | memoryview) -> None:
        """Append all of ``data``."""
        with self._guard(len(data)):
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]
        self._count(data)

    def rewind(self) -> None:
        """Rewrite from the first byte on; a concurrent reader sees no gap."""
        with self._guard(0):
            self._file.seek(0)
        self._hash, self.size = hash_for(self._wanted), 0

    def reset(self) -> None:
        """Discard all bytes."""
        self.rewind()
        with self._guard(0):
            self._file.truncate()
        self.held = 0

    def _count(self, data: bytes | memoryview) -> None:
        self._hash.update(data)
        self.size += len(data)
        self.held = max(self.held, self.size)

    def digest(self) -> str:
        """Return the digest of the bytes so far."""
        return digest_of_hash(self._hash)

    def commit(self, target: Path) -> None:
        """Rename the complete file to its final name."""
        with self._guard(0):
            if self._synced:
                os.fsync(self._file.fileno())
            try:
                self._path.replace(target)
            except FileNotFoundError:  # where locks are not seen, another machine may have renamed it
                if target.stat().st_size != self.size:
                    raise

    def close(self) -> None:
        """Unlock the file and keep its bytes for a resume, without those of a write that failed."""
        with suppress(OSError):
            if self._file.tell() > self.size:
                self._file.truncate(self.size)
        self._file.close()


def open_locked(path: Path, *, create: bool = False) -> int | None:
    """Open and lock the file at ``path``; None if another process or thread holds it."""
    flags = _READ_AND_WRITE | (os.O_CREAT if create else 0)
    while True:
        descriptor = os.open(path, flags, 0o600)
        try:
            is_ours = try_lock(descriptor)
        except OSError:
            os.close(descriptor)
            raise
        if not is_ours:
            os.close(descriptor)
            return None
        # the last owner may have committed or removed it between these two calls
        with suppress(FileNotFoundError):
            if os.path.samestat(path.stat(follow_symlinks=False), os.fstat(descriptor)):
                return descriptor
        os.close(descriptor)


def discard(path: Path) -> None:
    """Remove a partial blob, unless it is locked or does not exist."""
    with suppress(FileNotFoundError):
        descriptor = open_locked(path)
        if descriptor is not None:
            path.unlink()
            os.close(descriptor)
