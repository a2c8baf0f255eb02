"""Wrap what differs between Linux and macOS: clocks, locks, open flags, unacknowledged bytes."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

_SIOCOUTQ: Final = 0x5411
"""Linux, tcp(7): bytes that the peer has not acknowledged."""
_TCP_INFO: Final = 11
_MIN_RTT: Final = slice(148, 152)
"""``tcpi_min_rtt`` in ``struct tcp_info``, in microseconds (include/uapi/linux/tcp.h, since Linux 4.6)."""
_NO_RTT: Final = 2**32 - 1
_M_TRIM_THRESHOLD: Final = -1
"""malloc.h of glibc, as the next two."""
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_HEAPS: Final = 2
_KEPT: Final = 8 << 20
"""Free bytes that a heap of malloc keeps: more than the blocks of a layer that are compressed at a time."""
_MAPPED: Final = 4 << 20
"""Bytes from which on an allocation is not in a heap. glibc adapts this limit itself, but not any more once
another one is set."""
_MACHINE_ID: Final = Path("/etc/machine-id")
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_UPTIME_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Linux's CLOCK_MONOTONIC stops while the machine sleeps; that of macOS does not."""


def elapsed() -> float:
    """Return the seconds since the machine started, sleep included, by a clock that cannot be set."""
    return time.clock_gettime(_UPTIME_CLOCK)


@functools.cache
def boot_id() -> str | None:
    """Return the ID of this boot of the kernel, also in containers; None if there is none."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        pass
    try:  # macOS
        command = ["sysctl", "-n", "kern.bootsessionuuid"]
        asked = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return asked.stdout.decode("ascii", "replace").strip() or None


def machine_id() -> str:
    """Return the ID of this installation of the system, machine-id(5); "" if there is none, as on macOS and
    in many containers. It is confidential: store what is derived from it."""
    with contextlib.suppress(OSError):
        return _MACHINE_ID.read_text(encoding="ascii", errors="replace").strip()
    return ""


def try_lock(descriptor: int) -> bool:
    """Lock the open file for its descriptor alone; return False if another one has locked it.

    The lock is freed when the file is closed or its process dies.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_shared(descriptor: int) -> None:
    """Lock the open file or folder together with others; wait while one has locked it for itself alone.

    The lock is freed as that of ``try_lock``.
    """
    fcntl.flock(descriptor, fcntl.LOCK_SH)


def is_locked(descriptor: int) -> bool:
    """Return whether another open file has locked the file; those who ask do not see each other."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def is_frozen(pid: int) -> bool:
    """Return whether a signal has stopped a process; False where the system does not say it."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[:1] == ["T"]


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, so that its files keep their names after a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_flags(*names: str) -> int:
    """Return flags for ``os.open``, without those that this system lacks."""
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


def tcp_round_trip(sock: socket.socket) -> float | None:
    """Return the least round-trip time of a TCP connection in seconds, as the kernel measured it: no process
    takes part, so that busy processors do not count. None where the system does not say."""
    if sys.platform != "linux":
        return None
    try:
        found = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _MIN_RTT.stop)[_MIN_RTT]
    except OSError:
        return None
    microseconds = int.from_bytes(found, sys.byteorder)
    return None if len(found) < 4 or microseconds == _NO_RTT else microseconds / 1e6


def tune_malloc() -> None:
    """Fit glibc's heaps to threads that allocate and free a MiB again and again.

    All threads share two. By default each may get one of its own, up to eight a processor, and each heap
    keeps what its threads needed most: 10 to 30 MB. Each keeps ``_KEPT`` free bytes, where by default it
    returns freed blocks to the system, which zeroes every page again for the next one.

    No effect with another C library, or where the user has set one of these.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_ARENA_MAX, _HEAPS)
        mallopt(_M_TRIM_THRESHOLD, _KEPT)
        mallopt(_M_MMAP_THRESHOLD, _MAPPED)
