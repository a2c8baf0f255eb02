"""Opening files that somebody else put there."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
"""O_NONBLOCK: a FIFO in the place of a file must not hang us; O_NOFOLLOW: a link must not lead elsewhere."""


def open_regular(path: Path | bytes, folder: int | None = None) -> tuple[int, int]:
    """Descriptor and size in bytes of a regular file; OSError for a link, a device, a FIFO."""
    descriptor = os.open(path, _FILE, dir_fd=folder)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            return descriptor, status.st_size
        raise OSError(errno.EINVAL, "it is not a regular file")
    except BaseException:
        os.close(descriptor)
        raise
