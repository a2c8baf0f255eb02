"""Count the processors that this process may use, also in a container with a quota, and those it will get."""

from __future__ import annotations

import functools
import math
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

_CGROUP: Final = "proc/self/cgroup"
_MOUNT: Final = "sys/fs/cgroup"
_STAT: Final = "proc/stat"
_LOAD_SECONDS: Final = 60
"""The load average that is used is that of about a minute."""
_MIN_SECONDS: Final = 0.05
"""Seconds below which ``/proc/stat``, which counts in hundredths, says too little."""
_SATURATED: Final = 0.9
"""Part of the processors in use from which on programs may want more."""
_FEW: Final = 0.1
"""Part of the processors up to which other programs are no rivals: those that want more get it."""


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

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._before = (time.monotonic(), 0.0)
        self._measured = self._measure()

    def begin(self) -> None:
        """Begin to measure, unless that was done lately, so that ``count`` knows what others use just now."""
        with self._lock:
            if time.monotonic() - self._measured.at > _LOAD_SECONDS:
                self._measured = self._measure()

    def count(self, wanted: int) -> float:
        """Return ``wanted``, or the fair share of a machine that has more to do than processors."""
        try:
            load = os.getloadavg()[0]
        except OSError:
            return wanted
        processors = os.cpu_count() or 1
        others = max(0.0, load - self._own_load())
        used = self._used_by_others(processors)
        return share(wanted, others if used is None else min(others, used), processors)

    def _own_load(self) -> float:
        """Return what this process has added to the load average, about."""
        now = (time.monotonic(), time.process_time())
        with self._lock:
            before, self._before = self._before, now
        return (now[1] - before[1]) / max(now[0] - before[0], _LOAD_SECONDS)

    def _used_by_others(self, processors: int) -> float | None:
        """Return how many processors other programs have used since the last measurement.

        The load average counts also what has ended and what waits for a disk. None if that was too long or
        too short ago, or if others may want more than they get.
        """
        now = self._measure()
        with self._lock:
            before, self._measured = self._measured, now
        seconds = now.at - before.at
        if now.busy is None or before.busy is None or not _MIN_SECONDS <= seconds <= _LOAD_SECONDS:
            return None
        used = (now.busy - before.busy) / seconds
        others = max(0.0, used - (now.own - before.own) / seconds)
        is_contended = used > _SATURATED * processors and others > _FEW * processors
        return None if is_contended else others

    def _measure(self) -> _Measurement:
        return _Measurement(time.monotonic(), time.process_time(), _busy_seconds(self._root))


class _Measurement(NamedTuple):
    """Seconds of processors: of this process, and of all (None if the system does not say), until a time."""

    at: float
    own: float
    busy: float | None


def _busy_seconds(root: Path) -> float | None:
    """Return the seconds that all processors have been busy since the start; proc(5), ``/proc/stat``."""
    try:
        with (root / _STAT).open(encoding="ascii") as file:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, file.readline().split()[1:9])
        return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return None


def share(wanted: int, others: float, processors: int) -> float:
    """Return how many processors ``wanted`` threads get on a machine that has ``others`` as well."""
    return wanted * min(1.0, processors / (wanted + others))
