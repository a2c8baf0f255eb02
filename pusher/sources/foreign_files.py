"""Opening files that others may have put there."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Self

from pusher.system import open_flags

_WITHOUT_WAITING: Final = open_flags("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY")
"""O_NONBLOCK: a FIFO in the place of a file must not hang us."""
_NO_LINK: Final = open_flags("O_NOFOLLOW")
"""A link must not lead elsewhere."""


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
    """Return whether something exists at a path; no if that cannot be asked, as for one that is too long."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def never_waiting(path: str, flags: int) -> int:
    """Return an opener for ``open``: a FIFO in the place of a file is empty instead of blocking."""
    return os.open(path, flags | _WITHOUT_WAITING)


@dataclass(frozen=True)
class Identity:
    """Which file was looked at; no other one takes its place unnoticed."""

    device: int
    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """Return the identity of an open file."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    def open(self, path: Path) -> BinaryIO:
        """Open the file again; OSError if another one lies at ``path`` now, or it was written to."""
        descriptor = os.open(path, os.O_RDONLY | _WITHOUT_WAITING)
        if self.of(os.fstat(descriptor)) != self:
            os.close(descriptor)
            raise OSError(errno.EINVAL, "it is another file than before")
        return os.fdopen(descriptor, "rb")
