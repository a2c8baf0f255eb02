"""Wait for what other threads and processes do, however busy the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

PATIENCE: Final = 100.0
"""Seconds until a test gives up: a minute more than a machine with forty others at work has needed."""
_LOOK_EVERY: Final = 0.02


def wait_until(condition: Callable[[], object], explain: Callable[[], object] = lambda: None) -> None:
    """Wait until the condition holds. Raises AssertionError with what ``explain`` returns after PATIENCE."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, explain()
        time.sleep(_LOOK_EVERY)
