"""``python -m tests.crash.under_faketime ARGUMENT...``: pusher, where libfaketime is loaded.

Python sleeps until a moment of CLOCK_MONOTONIC, which libfaketime 0.9.10 gets wrong; so it waits here. An
expired lease is respected for a minute, so that a worker that gets no processor for a while keeps its job.
"""

from __future__ import annotations

import select
import sys
import time


def _sleep(seconds: float) -> None:
    select.select([], [], [], seconds)


if __name__ == "__main__":
    time.sleep = _sleep  # type: ignore[assignment]  # before anything binds it

    from pusher.cli import main
    from pusher.worker import liveness

    liveness._GRACE = 60.0  # type: ignore[misc]
    main(sys.argv[1:])
