"""A word to whoever waits for something outside of this process that does not answer."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

WORD_AFTER: Final = 10.0
"""Seconds of silence after which somebody is told; the next time six times as late."""

_tell: Callable[[str], None] = lambda text: None  # noqa: E731, ARG005


@contextmanager
def told(tell: Callable[[str], None]) -> Iterator[None]:
    """Until the context ends ``tell`` is given the words: who waits does not know how they are shown."""
    global _tell
    before, _tell = _tell, tell
    try:
        yield
    finally:
        _tell = before


class Wait:
    """Waiting for ``whom``; call it about once a second while nothing comes."""

    def __init__(self, whom: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._whom = whom
        self._clock = clock
        self._called = self._since = clock()
        self._next = WORD_AFTER

    def __call__(self) -> None:
        """Tell of a silence that is long enough."""
        now = self._clock()
        if not 0.5 <= now - self._called <= 2.5:  # something came meanwhile
            self._since, self._next = now, WORD_AFTER
        self._called, silent = now, now - self._since
        if silent >= self._next:
            self._next *= 6
            _tell(f"{self._whom} has not responded for {silent:.0f}s; still waiting")


def communicate(
    process: subprocess.Popen[bytes], given: bytes | None, *, limit: float, whom: str
) -> tuple[bytes, bytes]:
    """What ``process`` writes until it ends; ``whom`` it stands for is named where that takes long.

    Raises subprocess.TimeoutExpired after ``limit`` seconds.
    """
    wait, end = Wait(whom), time.monotonic() + limit
    while True:
        try:
            return process.communicate(given, timeout=max(0.0, min(1.0, end - time.monotonic())))
        except subprocess.TimeoutExpired:
            if time.monotonic() >= end:
                raise
        given = None  # it is on its way
        wait()
