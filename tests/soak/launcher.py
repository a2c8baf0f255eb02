"""``python -m tests.soak.launcher ARGUMENT...``: pusher, where the clock moves and the disk is slow.

The folder named by PUSHER_TEST_SOAK holds ``clock``, the seconds by which the clock is wrong, and ``sync``,
those that a transaction takes to reach the disk; both may change at any moment. Nothing of this is in pusher.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ["PUSHER_TEST_SOAK"])


def _number(name: str) -> float:
    try:
        return float((FOLDER / name).read_text())
    except (OSError, ValueError):  # not there, or just being written
        return 0.0


def arm() -> None:
    """Have every look at the clock and every transaction see what the folder says."""
    from pusher.store import engine

    true_time, true_now, write = time.time, engine.utc_now, engine.Database.write

    def now() -> datetime:
        return true_now() + timedelta(seconds=_number("clock"))

    @contextmanager
    def slow(database: engine.Database) -> Iterator[Any]:
        with write(database) as connection:
            yield connection
            time.sleep(_number("sync"))

    time.time = lambda: true_time() + _number("clock")
    engine.utc_now = now
    engine.Database.write = slow  # type: ignore[method-assign,assignment]


if __name__ == "__main__":
    import sys

    from pusher.cli import main

    arm()
    main(sys.argv[1:])
