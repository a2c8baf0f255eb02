"""Define the leases of shares of a budget: for how long, and what a clock that is set does to them."""

from __future__ import annotations

from typing import Final

from pusher.dataclass import dataclass

LEASE: Final = 3.0
"""Seconds for which a share is leased; workers renew it every second."""
KEPT: Final = 60.0
"""Seconds for which a worker that cannot reach the job store may use its last share."""
_JUMP: Final = 1.0
"""Seconds of difference from a worker's own clock after which the store's clock counts as changed."""


_PRECISE: Final = 0.5
"""Seconds of imprecision from which on a time says nothing about the clock."""


@dataclass(frozen=True)
class TimeBetween:
    """The time between two renewals of a share, by the worker's own clock."""

    seconds: float
    imprecision: float = 0.0
    """Seconds by which it may differ from the time between the two moments at which the store read its clock:
    those for which the worker waited for the store."""


def clock_jump(until: float, since: TimeBetween | None, now: float) -> float:
    """Return by how many seconds the store's clock was set since a share was leased ``until`` then.

    ``since``: the time since then; None: unknown. Return 0 where it is not known well enough: all shares are
    shifted by what one worker measured, and the others must not take its error for another jump.
    """
    if since is None or since.imprecision > _PRECISE:
        return 0.0
    jump = now - (until - LEASE) - since.seconds
    return jump if abs(jump) > _JUMP else 0.0
