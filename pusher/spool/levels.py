"""Choose the gzip level with which a layer arrives first, from the rate of the link.

Compressing and sending overlap, so the level should be the smallest that the processors make faster than the
link takes it. There are four, far apart: a layer gets the same blob wherever the link is about the same.

    level   MB/s of input   of the size   MB/s of gzip      on one processor of 2023, real files
        2             640         0.375           240       (python -m tests.benchmarks.compress --libraries)
        5              90         0.337            30
        7              69         0.333            23
       10              14         0.324             4.5
"""

from __future__ import annotations

import math
from typing import Final

FAST: Final = 2
"""The level for the fastest links, and for those of which nothing is known."""

FAR_SECONDS: Final = 0.03
"""A response that takes longer comes from far away."""
NEAR_SECONDS: Final = 0.01
"""A response that takes less comes from the same network, or from this machine."""
_FAR_LEVEL: Final = 5
_FAR_RATE: Final = 15e6
"""Bytes a second that an unknown link to far away is assumed to take: 120 Mbit/s."""
_FAR_SMALL: Final = (7, 1.25)
"""The level that such a link gets at least, and the processors that make it fast enough: one, and a part of
another that a few other programs leave."""

_MOST: Final = 150e6
"""Bytes a second of a link from which on only ``FAST`` keeps up: reading and hashing have one thread each."""
_STAY: Final = 1.25
"""How far the rate may be beyond its limits before a link gets another level than before."""


_SMALLEST_FIRST: Final = ((10, 2.6e6), (7, 13e6), (5, 22e6))
"""Slow levels with the bytes a second of a link, for each processor, up to which they keep up: about half of
what they make, as processors also read, hash, encrypt and send, and many are slower."""


def is_far(response_seconds: float | None) -> bool:
    """Return whether a registry is far away; ``response_seconds``: the least that a response took, None
    before the first one."""
    return response_seconds is not None and response_seconds > FAR_SECONDS


def first_level(response_seconds: float | None, processors: float, elsewhere: float | None = None) -> int:
    """Return the gzip level for a link of unknown rate; to far away never ``FAST``, as few such links are
    faster than even a busy processor makes the next level.

    ``elsewhere``: bytes a second that another registry got lately. For both the slowest part of the link is
    mostly this machine's own.
    """
    if is_far(response_seconds):
        if elsewhere is not None:
            return max(_FAR_LEVEL, choose_level(elsewhere, processors))
        level, enough = _FAR_SMALL
        return max(level if processors >= enough else _FAR_LEVEL, choose_level(_FAR_RATE, processors))
    return FAST if elsewhere is None else choose_level(elsewhere, processors)


def choose_level(rate: float, processors: float, before: int | None = None) -> int:
    """Return the gzip level for a link of ``rate`` bytes a second, compressed by so many processors.

    ``before`` is the level that the link had; it stays while the rate is near its limits.
    """
    lower = 0.0
    chosen = FAST
    for level, most in (*_SMALLEST_FIRST, (FAST, math.inf)):
        upper = min(most * processors, _MOST) if level != FAST else math.inf
        if level == before and lower / _STAY <= rate < upper * _STAY:
            return before
        if lower <= rate < upper:
            chosen = level
        lower = upper
    return chosen
