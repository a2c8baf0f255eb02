"""The link that the blobs of one job are sent over: its rate, and the gzip level that fits it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pusher.dataclass import dataclass
from pusher.spool.levels import FAR_SECONDS, NEAR_SECONDS, first_level
from pusher.units import human_bytes
from pusher.worker.uplinks import LinkEstimates

_FAR_AFTER: Final = 1.1 * FAR_SECONDS
"""Seconds without the first response after which a registry counts as far away."""
_MAX_WAIT: Final = 0.25
"""The same on a machine where other programs use the processors."""
_DELAY: Final = 0.02
"""Seconds by which other programs delay a response, for each that every processor has besides."""


@dataclass(frozen=True)
class LinkSpeed:
    """Bytes a second that may be sent, None if nothing is known; ``is_limit``: as the user's limit says.

    ``response_seconds``: the least time that a response took, None before the first one; ``round_trip``: that
    of a packet, None if it is not known. ``elsewhere``: bytes a second that another registry got lately, if
    this one is not on the same network.
    """

    rate: float | None
    is_limit: bool = False
    response_seconds: float | None = None
    elsewhere: float | None = None
    round_trip: float | None = None

    def __str__(self) -> str:
        if self.rate is None and self.elsewhere:
            return f"another registry got {human_bytes(round(self.elsewhere))}/s"
        if self.rate is None:
            return "the speed of the link is not known yet"
        speed = f"{human_bytes(round(self.rate))}/s"
        return f"the rate is limited to {speed}" if self.is_limit else f"the link takes {speed}"


@dataclass(frozen=True)
class JobLink:
    """What is known of the link to ``registry``, which all jobs for it share."""

    links: LinkEstimates
    registry: str
    response_seconds: Callable[[float], float | None] = lambda wait: None  # noqa: ARG005
    """Returns the least time that a response took; it may wait so many seconds for the first one."""
    round_trip: Callable[[], float | None] = lambda: None
    """Returns the least time that a packet took, however busy the machine is; None if that is not known."""

    def speed(self, share: float = 1.0) -> LinkSpeed:
        """Return the speed at present: that of the link, or the limit if it is lower. Raises StoreError.

        If nothing is known it waits a moment for the first response, longer where this process gets only a
        ``share`` of the processors that it could use.
        """
        rate = self.links.get(self.registry).rate.bytes_per_second
        limit = self.links.limit()
        if limit is not None and (rate is None or limit < rate or self.links.held_back()):
            return LinkSpeed(limit, is_limit=True)
        if rate is not None:
            return LinkSpeed(rate)
        response = self.response_seconds(min(_FAR_AFTER / share, _MAX_WAIT))
        beyond = response is not None and response > NEAR_SECONDS
        elsewhere = self.links.rate_elsewhere(self.registry) if beyond else None
        return LinkSpeed(None, False, response, elsewhere, self.round_trip())

    def choose_level(self, speed: LinkSpeed, processors: float, wanted: int) -> int:
        """Return the gzip level for layers sent at this speed, compressed by ``wanted`` threads that get so
        many processors. Raises StoreError."""
        if speed.rate is None:
            # on a busy machine responses from near by take long, too, but packets do not
            seconds = (speed.response_seconds or 0.0) - _DELAY * (wanted / processors - 1)
            return first_level(max(seconds, speed.round_trip or 0.0), processors, speed.elsewhere)
        return self.links.choose_level(self.registry, speed.rate, processors)
