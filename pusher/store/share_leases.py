"""Define the leases of shares of a budget: for how long, and what a clock that is set does to them."""

from __future__ import annotations

from typing import Final

LEASE: Final = 3.0
"""Seconds for which a share is leased; workers renew it every second."""
KEPT: Final = 60.0
"""Seconds for which a worker that cannot reach the job store may use its last share."""
_JUMP: Final = 1.0
"""Seconds of difference from a worker's own clock after which the store's clock counts as changed."""


def clock_jump(until: float, seconds: float | None, now: float) -> float:
    """Return by how much the store's clock was set since a share was leased ``until`` then.

    ``seconds``: the time since then by the worker's own clock; None: unknown, so 0 is returned.
    """
    jump = 0.0 if seconds is None else now - (until - LEASE) - seconds
    return jump if abs(jump) > _JUMP else 0.0
