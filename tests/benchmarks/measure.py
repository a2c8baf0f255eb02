"""What a command costs: wall time, processor time and peak memory of the whole process."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile

MIB = 1024 * 1024


@dataclass(frozen=True)
class Cost:
    """Seconds of wall time, seconds of processor time (user and system, children included), peak bytes."""

    wall: float
    cpu: float
    memory: int

    def __add__(self, other: Cost) -> Cost:
        """One after the other."""
        return Cost(self.wall + other.wall, self.cpu + other.cpu, max(self.memory, other.memory))


def run(command: Sequence[str], env: Mapping[str, str] | None = None) -> tuple[Cost, str]:
    """Run a command to its end; its cost and its stdout. SystemExit with what it printed if it fails.

    The kernel counts the peak of the process that starts a command as the command's own, too: keep this one
    small.
    """
    with TemporaryFile() as output, TemporaryFile() as errors:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env={**os.environ, **(env or {})}
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}\n{_text(errors.read())}")
        output.seek(0)
        cost = Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
        return cost, _text(output.read())


def middle(costs: Sequence[Cost]) -> Cost:
    """The median of each figure by itself."""
    return Cost(
        median(cost.wall for cost in costs),
        median(cost.cpu for cost in costs),
        int(median(cost.memory for cost in costs)),
    )


class DaemonMeter:
    """What a daemon and the children it waited for cost between ``start`` and ``read``."""

    def __init__(self, pid: int) -> None:
        self._process = Path("/proc", str(pid))
        self._cpu = 0.0

    def start(self) -> None:
        self._cpu = self._seconds()
        (self._process / "clear_refs").write_text("5")  # the peak starts again from now: proc(5)

    def read(self) -> Cost:
        """Processor time and peak memory; the wall time is 0: whoever waits for the daemon has it."""
        peak = next(line for line in (self._process / "status").read_text().splitlines() if "VmHWM" in line)
        return Cost(0.0, self._seconds() - self._cpu, int(peak.split()[1]) * 1024)

    def _seconds(self) -> float:
        fields = (self._process / "stat").read_text().rpartition(")")[2].split()
        return sum(int(ticks) for ticks in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def _text(data: bytes) -> str:
    return data.decode(errors="replace")
