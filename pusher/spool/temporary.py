"""Write temporary files: locked while written, renamed when complete, removed if their process dies."""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from pusher.system import elapsed, open_flags, try_lock

_NEW: Final = open_flags("O_WRONLY", "O_CREAT", "O_EXCL", "O_CLOEXEC", "O_BINARY")
_ITS_FILE: Final = open_flags("O_RDWR", "O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK")


class TemporaryFile:
    """A file that becomes a blob by ``commit`` and is removed otherwise."""

    def __init__(self, path: Path, descriptor: int, *, synced: bool = False) -> None:
        """``synced``: whether its bytes reach the disk, or the file server, before it is renamed."""
        self.path = path
        self._synced = synced
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        self._committed = False
        self.size = 0
        """Bytes written so far."""

    def write(self, data: bytes | memoryview) -> None:
        """Write all of ``data``; OSError if that fails."""
        view = memoryview(data)
        while view:
            written = self._file.write(view)
            view = view[written:]
            self.size += written

    def commit(self, target: Path) -> None:
        """Rename the file to its final name, on a local disk without fsync: see ``is_durable``."""
        self.flush()
        self.path.replace(target)
        self._committed = True

    def flush(self) -> None:
        """Write what the system still holds to the disk or the file server, where ``synced``.

        Else only close a second descriptor: NFS reports then what it could not write, and the lock stays.
        """
        if self._synced:
            os.fsync(self._file.fileno())
        else:
            os.close(os.dup(self._file.fileno()))

    def close(self) -> None:
        """Release the lock; remove an uncommitted file first, so that ``sweep`` never sees it unlocked."""
        if not self._committed:
            with suppress(OSError):
                self.path.unlink()
        with suppress(OSError):
            self._file.close()


@contextmanager
def temporary_file(folder: Path, *, synced: bool = False) -> Iterator[TemporaryFile]:
    """Create a file in ``folder``, locked until the context ends; ``synced`` as in TemporaryFile."""
    while True:
        path = folder / secrets.token_hex(8)
        descriptor = os.open(path, _NEW, 0o600)
        try:
            # ``sweep`` may lock and remove it between these two calls.
            if try_lock(descriptor) and os.fstat(descriptor).st_nlink:
                break
        except OSError:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        os.close(descriptor)
    file = TemporaryFile(path, descriptor, synced=synced)
    try:
        yield file
    finally:
        file.close()


def sweep(folder: Path, unchanged_since: float | None = None, suffix: str = "") -> int:
    """Remove the files with this suffix whose process is dead, and that were not written to after
    ``unchanged_since`` (seconds since the epoch, by the clock of the file system); return the bytes freed."""
    freed = 0
    for path in folder.iterdir():
        if not path.name.endswith(suffix):
            continue
        with suppress(OSError):
            if unchanged_since is not None and path.stat().st_mtime > unchanged_since:
                continue
            descriptor = os.open(path, _ITS_FILE)
            try:
                if try_lock(descriptor):
                    size = os.fstat(descriptor).st_size
                    path.unlink()
                    freed += size
            finally:
                os.close(descriptor)
    return freed


def is_durable(status: os.stat_result) -> bool:
    """Return whether a committed file must be whole: it was written since this machine started, or read again
    since.

    Waiting for the disk at ``commit`` would hold up the upload, and on a shared disk the registry. So what a
    power cut may have torn is read again before it is used, and then made read-only to show that.
    """
    started = time.time() - elapsed()
    return not status.st_mode & stat.S_IWUSR or status.st_mtime > started
