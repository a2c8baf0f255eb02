"""Count the processors that this process may use, also in a container with a quota, and those it will get."""

from __future__ import annotations

import functools
import math
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

_CGROUP: Final = "proc/self/cgroup"
_MOUNT: Final = "sys/fs/cgroup"
_LOAD_SECONDS: Final = 60
"""The load average that is used is that of about a minute."""


@functools.cache
def count_processors(root: Path = Path("/")) -> int:
    """Return the number of processors, at least 1: those that the process is bound to, and no more than the
    quota of its cgroup, rounded up. ``os.cpu_count`` knows nothing of quotas."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([bound, *(math.ceil(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """Yield the processors that each cgroup with a quota may use: its own and those above it."""
    try:
        lines = (root / _CGROUP).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        # inside a container the path may be the host's; the files of the container are then at the top
        groups = [PurePosixPath(path), *PurePosixPath(path).parents]
        for group in (each.relative_to("/") for each in groups if each.is_absolute()):
            if not controllers:
                yield from _quota(root / _MOUNT / group, "cpu.max", None)
            elif "cpu" in controllers.split(","):
                yield from _quota(root / _MOUNT / "cpu" / group, "cpu.cfs_quota_us", "cpu.cfs_period_us")


def _quota(folder: Path, name: str, period_name: str | None) -> Iterator[float]:
    """Yield what a file of cgroup v2 (``QUOTA PERIOD``), or two of v1, allow; nothing without a limit."""
    try:
        words = (folder / name).read_text(encoding="ascii").split()
        if period_name is not None:
            words += (folder / period_name).read_text(encoding="ascii").split()
        quota, period = map(int, words)  # "max" in v2 and -1 in v1: no limit
    except (OSError, ValueError):
        return
    if quota > 0 and period > 0:
        yield quota / period


class SpareProcessors:
    """Estimates how many processors this process gets beside the other programs of the machine."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._before = (time.monotonic(), 0.0)

    def count(self, wanted: int) -> float:
        """Return ``wanted``, or the fair share of a machine that has more to do than processors."""
        try:
            load = os.getloadavg()[0]
        except OSError:
            return wanted
        return share(wanted, max(0.0, load - self._own_load()), os.cpu_count() or 1)

    def _own_load(self) -> float:
        """Return what this process has added to the load average, about."""
        now = (time.monotonic(), time.process_time())
        with self._lock:
            before, self._before = self._before, now
        return (now[1] - before[1]) / max(now[0] - before[0], _LOAD_SECONDS)


def share(wanted: int, others: float, processors: int) -> float:
    """Return how many processors ``wanted`` threads get on a machine that has ``others`` as well."""
    return wanted * min(1.0, processors / (wanted + others))
