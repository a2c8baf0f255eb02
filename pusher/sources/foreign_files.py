"""Open files that another user may have created."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO, Final, Self

from pusher.dataclass import dataclass
from pusher.system import open_flags

_WITHOUT_WAITING: Final = open_flags("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY")
"""O_NONBLOCK: a FIFO in place of a file must not block."""
_NO_LINK: Final = open_flags("O_NOFOLLOW")
"""Do not follow links."""


def open_regular(path: Path | bytes, folder: int | None = None) -> tuple[int, int]:
    """Open a regular file; return descriptor and size in bytes. Raises OSError for anything else."""
    descriptor = os.open(path, os.O_RDONLY | _WITHOUT_WAITING | _NO_LINK, dir_fd=folder)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            return descriptor, status.st_size
        raise OSError(errno.EINVAL, "it is not a regular file")
    except BaseException:
        os.close(descriptor)
        raise


def typed_path(text: str) -> Path:
    """Return a path as a shell would read it: ``~`` and ``~user`` are home folders, where there is such a
    user."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path.expanduser raises, and takes ./~x for ~x


def exists(path: Path) -> bool:
    """Return whether something exists at a path; False if that is an error, e.g. for a path too long."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def never_waiting(path: str, flags: int) -> int:
    """Open a file, as the opener of ``open``, so that a FIFO in its place is empty instead of blocking."""
    return os.open(path, flags | _WITHOUT_WAITING)


@dataclass(frozen=True)
class Identity:
    """The identity of a file, to notice that another one has replaced it."""

    device: int
    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """Return the identity of an open file."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    def open(self, path: Path) -> BinaryIO:
        """Open the file again; OSError if ``path`` is another file now, or it was written to."""
        descriptor = os.open(path, os.O_RDONLY | _WITHOUT_WAITING)
        if self.of(os.fstat(descriptor)) != self:
            os.close(descriptor)
            raise OSError(errno.EINVAL, "it is another file than before")
        return os.fdopen(descriptor, "rb")
