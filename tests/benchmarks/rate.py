"""How exact the rate limit is: ``python -m tests.benchmarks.rate [--seconds 10] [--parallel 4]``.

Lets several threads read bodies under each limit, as uploads do, and prints the bytes that left for each
byte that the limit allows.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Final

from pusher.config.timetable import parse_timetable
from pusher.registry.http.body import BlobFile, Body
from pusher.worker.rate import RateLimiter

_RATES: Final = ("50K", "500K", "2M", "20M", "200M")
_CHUNK: Final = 10 * 1024**2


class _Limited:
    """What an upload asks, and nothing else."""

    def __init__(self, limiter: RateLimiter) -> None:
        self._limiter = limiter

    def check(self) -> None:
        """Nobody stops it."""

    def allowance(self, wanted: int) -> int:
        return self._limiter.take(wanted)

    def report_sent(self, in_flight: int) -> None:
        """Counted by the body."""

    def report_acknowledged(self, offset: int) -> None:
        """There is no registry."""


def measure(rate: str, path: Path, seconds: float, parallel: int) -> tuple[float, list[int]]:
    """Bytes that left for each byte allowed; and those of each upload."""
    limiter = RateLimiter(parse_timetable(rate, "--limit-rate"), lambda _: None)
    end = time.monotonic() + seconds
    sent = [0] * parallel

    def upload(number: int) -> None:
        watch = _Limited(limiter)
        while time.monotonic() < end:
            body = Body(BlobFile("sha256:" + "0" * 64, _CHUNK, path), 0, _CHUNK, watch)
            for block in body:
                if time.monotonic() >= end:
                    break
                sent[number] += len(block)
            body.close()

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(parallel)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    allowed = parse_timetable(rate, "").rest
    assert allowed is not None
    return sum(sent) / (allowed * seconds), sent


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--parallel", type=int, default=4)
    given: Any = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pusher-rate-") as folder:
        path = Path(folder, "blob")
        path.write_bytes(bytes(_CHUNK))
        for rate in _RATES:
            ratio, sent = measure(rate, path, given.seconds, given.parallel)
            spread = f"the slowest upload had {min(sent) / max(sent):.2f} of the fastest"
            print(f"{rate + '/s':>7}  {ratio:.3f} of the limit; {spread}")


if __name__ == "__main__":
    main()
