"""Choose the compression that uploads a layer fastest on a link of known speed."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from typing import Final

from pusher.dataclass import dataclass
from pusher.spool.blocks import BLOCK
from pusher.spool.compress import Compression, Kind

SAMPLE: Final = 4 * BLOCK
"""Bytes of a layer to measure."""
_SLOW: Final = 4_000_000
"""Bytes a second of a link up to which slow levels can be worth it."""
_MARGIN: Final = 1.05
"""Prefer a compression that more clients support if it is at most this much slower than the best."""


@dataclass(frozen=True)
class Sample:
    """The result of compressing a layer's beginning."""

    compression: Compression
    ratio: float
    """Compressed bytes per byte."""
    speed: float
    """Uncompressed bytes a second, with every processor that it uses."""

    def time(self, uplink: float) -> float:
        """Return seconds for a byte: compressing and sending overlap, so the slower one counts."""
        return max(1 / self.speed, self.ratio / uplink)


def candidates(uplink: float, threads: int | None = None) -> tuple[Compression, ...]:
    """Return what to measure for a link of ``uplink`` bytes a second, the most widely supported first."""
    kinds = [(Kind.GZIP, None), (Kind.ZSTD, None), (Kind.NONE, None), (Kind.ZSTD, 9)]
    wanted = kinds if uplink <= _SLOW else kinds[:-1]
    return tuple(Compression.of(kind, level, threads) for kind, level in wanted)


def choose(samples: Collection[Sample], uplink: float) -> Sample:
    """Return the sample with the least time; of those nearly as fast, the first."""
    best = min(sample.time(uplink) for sample in samples)
    return next(sample for sample in samples if sample.time(uplink) <= best * _MARGIN)


def measure(data: bytes, compressions: Iterable[Compression]) -> list[Sample]:
    """Try them on ``data``, which is not empty; their speed is this thread's, times the threads they use."""
    return [_measure_one(data, compression) for compression in compressions]


def _measure_one(data: bytes, compression: Compression) -> Sample:
    coder = compression.coder()
    started = time.thread_time()  # CPU time, so that other processes do not distort the comparison
    works = [coder.take(data[start : start + BLOCK]) for start in range(0, len(data), BLOCK)]
    size = sum(len(work()) for work in (*works, coder.finish()) if work is not None)
    spent = max(time.thread_time() - started, 1e-9)
    return Sample(compression, size / len(data), len(data) / spent * compression.workers)
