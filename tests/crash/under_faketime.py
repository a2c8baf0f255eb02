"""``python -m tests.crash.under_faketime ARGUMENT...``: pusher, where libfaketime is loaded.

Python sleeps until a moment of CLOCK_MONOTONIC, which libfaketime 0.9.10 gets wrong; so it waits here.
"""

from __future__ import annotations

import select
import sys
import time

if __name__ == "__main__":
    from pusher.cli import main

    def sleep(seconds: float) -> None:
        select.select([], [], [], seconds)

    time.sleep = sleep  # type: ignore[assignment]
    main(sys.argv[1:])
