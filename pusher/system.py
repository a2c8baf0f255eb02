"""What systems do in different ways: locks on open files, flags for opening them, what a socket has sent.

A lock is freed when its holder closes the file or dies.
"""

from __future__ import annotations

import os
import sys
from typing import Final

_SIOCOUTQ: Final = 0x5411
"""Linux, tcp(7): bytes that the peer has not acknowledged."""

if sys.platform == "win32":
    import msvcrt

    _FAR: Final = 1 << 62
    """Windows locks bytes and keeps others from them; behind the end of every file nobody misses one."""

    def try_lock(descriptor: int) -> bool:
        """Lock the open file for its descriptor alone; False if somebody else has it locked."""
        os.lseek(descriptor, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    def try_lock(descriptor: int) -> bool:
        """Lock the open file for its descriptor alone; False if somebody else has it locked."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def open_flags(*names: str) -> int:
    """Flags for ``os.open``, without those that this system does not know."""
    flags = 0
    for name in names:
        flags |= getattr(os, name, 0)
    return flags


def unacknowledged(descriptor: int) -> int:
    """Return how many bytes sent on a TCP socket its peer has not acknowledged; 0 where the system does not
    say, or the descriptor is not open."""
    if sys.platform != "linux":
        return 0
    try:
        return int.from_bytes(fcntl.ioctl(descriptor, _SIOCOUTQ, bytes(4)), sys.byteorder)
    except (OSError, ValueError):
        return 0
