"""Measure for how long processes wait for a processor, on a machine that is too busy for them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


class ProcessorWaits:
    """``add`` what the threads of some processes have waited since the last time."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._known: dict[tuple[int, str], float] = {}

    def add(self, processes: Iterable[int]) -> None:
        """Read it from Linux's /proc/PID/task/TID/schedstat; without that nothing is added."""
        for process in processes:
            for thread in Path(f"/proc/{process}/task").glob("*"):
                try:
                    waited = int((thread / "schedstat").read_text().split()[1]) / 1e9
                except (OSError, IndexError):  # it has ended
                    continue
                key = process, thread.name
                self.seconds += waited - self._known.get(key, waited)
                self._known[key] = waited
