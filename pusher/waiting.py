"""Report when something outside of this process does not respond."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

NOTICE_AFTER: Final = 10.0
"""Seconds of silence before the first notice; each next one comes six times as late."""

_LONG_PAUSE: Final = 2.0
"""Seconds of a pause that a user would notice."""

_report: Callable[[str], None] = lambda text: None  # noqa: E731, ARG005


@contextmanager
def report_silence_to(report: Callable[[str], None]) -> Iterator[None]:
    """Call ``report`` with every notice until the context ends."""
    global _report
    before, _report = _report, report
    try:
        yield
    finally:
        _report = before


def pause(seconds: float, reason: str, sleep: Callable[[float], None] = time.sleep) -> None:
    """Sleep before another try; report a long pause, with the sentence about its ``reason``."""
    if seconds >= _LONG_PAUSE:
        _report(f"{reason}; trying again in {seconds:.0f}s")
    sleep(seconds)


class SilenceReporter:
    """Reports that ``name`` does not respond; call it about once a second while nothing arrives."""

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._called = self._since = clock()
        self._next = NOTICE_AFTER

    def __call__(self) -> None:
        """Report the silence if it has lasted long enough."""
        now = self._clock()
        if not 0.5 <= now - self._called <= 2.5:  # something arrived meanwhile
            self._since, self._next = now, NOTICE_AFTER
        self._called, silent = now, now - self._since
        if silent >= self._next:
            self._next *= 6
            _report(f"{self._name} has not responded for {silent:.0f}s; still waiting")


def communicate(
    process: subprocess.Popen[bytes], data: bytes | None, *, limit: float, name: str
) -> tuple[bytes, bytes]:
    """Send ``data`` to a process and return its output and errors; report ``name`` if it takes long.

    Raises subprocess.TimeoutExpired after ``limit`` seconds.
    """
    report_silence, end = SilenceReporter(name), time.monotonic() + limit
    while True:
        try:
            return process.communicate(data, timeout=max(0.0, min(1.0, end - time.monotonic())))
        except subprocess.TimeoutExpired:
            if time.monotonic() >= end:
                raise
        data = None  # it was sent already
        report_silence()
