"""Ctrl-C and SIGTERM: first finish the chunks in flight, then leave at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


class Signals:
    """Counts what came; ``number`` is the first signal, 0 if none."""

    number = 0


@contextlib.contextmanager
def on_signals(first: Callable[[], None], again: Callable[[], None]) -> Iterator[Signals]:
    """Call ``first`` on the first SIGINT or SIGTERM and ``again`` on the second, then die with its exit code.

    Dying there is safe: what is acknowledged is stored, what is in flight is written down, and leases of a
    dead process are free. Outside the main thread nothing is installed.
    """
    seen = Signals()
    if threading.current_thread() is not threading.main_thread():
        yield seen
        return

    def handle(number: int, _frame: FrameType | None) -> None:
        if seen.number:
            again()
            os._exit(128 + number)
        seen.number = number
        first()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
