"""What a command costs: wall time, processor time and peak memory of the whole process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile
from typing import Final

from tests.support.docker_registry import DockerRegistry

MIB = 1024 * 1024
_LAUNCHER: Final = """
import json, os, sys, time
started = time.perf_counter()
process = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(process, 0)
wall = time.perf_counter() - started
with open(int(sys.argv[1]), "w") as figures:
    json.dump([status, wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024], figures)
"""
"""Starts the command: the kernel counts the peak of the process that does as the command's own, and the
benchmark's would hide that of a small command."""


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

    Python's modules are compiled once, as where pusher is installed, whatever the environment says.
    """
    environment = {**os.environ, **(env or {})}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment.setdefault("PYTHONPYCACHEPREFIX", f"{tempfile.gettempdir()}/pusher-benchmarks-pycache")
    with TemporaryFile() as output, TemporaryFile() as errors, TemporaryFile("w+") as figures:
        subprocess.run(
            [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(figures.fileno()), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env=environment,
            pass_fds=[figures.fileno()],
            check=False,
        )
        errors.seek(0)
        figures.seek(0)
        try:
            status, wall, cpu, memory = json.load(figures)
        except ValueError:
            raise SystemExit(f"{' '.join(command)}: cannot be started\n{_text(errors.read())}") from None
        if code := os.waitstatus_to_exitcode(status):
            raise SystemExit(f"{' '.join(command)}: exit code {code}\n{_text(errors.read())}")
        output.seek(0)
        return Cost(wall, cpu, memory), _text(output.read())


def run_skopeo(command: Sequence[str], folder: Path) -> Cost:
    """Run skopeo with an empty cache of blobs seen before: from it skopeo would mount, and measure nothing.
    ``folder``: for another user than root, whose cache is elsewhere."""
    if os.geteuid() == 0:
        cache = "mkdir -p /var/lib/containers/cache && mount -t tmpfs none /var/lib/containers/cache"
        command = ["unshare", "--mount", "sh", "-c", f'{cache} && exec "$@"', "sh", *command]
    return run(command, {"XDG_DATA_HOME": tempfile.mkdtemp(dir=folder)})[0]


def middle(costs: Sequence[Cost]) -> Cost:
    """The median of each figure by itself."""
    return Cost(
        median(cost.wall for cost in costs),
        median(cost.cpu for cost in costs),
        int(median(cost.memory for cost in costs)),
    )


def wipe(registry: DockerRegistry) -> None:
    """An empty registry, and nothing of the last push left to be written to disk."""
    registry.stop()
    shutil.rmtree(registry.data, ignore_errors=True)
    os.sync()
    registry.start()


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
