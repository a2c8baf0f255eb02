"""The link that the blobs of one job are sent over: its rate, and the gzip level that fits it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pusher.progress.format import human_bytes
from pusher.spool.levels import first_level
from pusher.worker.uplinks import LinkEstimates


@dataclass(frozen=True)
class LinkSpeed:
    """Bytes a second that may be sent, None if nothing is known; ``is_limit``: as the user's limit says.

    ``response_seconds``: the least time that a response took, None before the first one.
    """

    rate: float | None
    is_limit: bool = False
    response_seconds: float | None = None

    def __str__(self) -> str:
        if self.rate is None:
            return "the speed of the link is not known yet"
        speed = f"{human_bytes(round(self.rate))}/s"
        return f"the limit is {speed}" if self.is_limit else f"the link takes {speed}"


@dataclass(frozen=True)
class JobLink:
    """What is known of the link to ``registry``, which all jobs for it share."""

    links: LinkEstimates
    registry: str
    response_seconds: Callable[[], float | None] = lambda: None

    def speed(self) -> LinkSpeed:
        """Return the speed at present: that of the link, or the limit if it is lower. Raises StoreError."""
        rate = self.links.get(self.registry).rate.bytes_per_second
        limit = self.links.limit()
        if limit is not None and (rate is None or limit < rate):
            return LinkSpeed(limit, is_limit=True)
        return LinkSpeed(rate, response_seconds=self.response_seconds())

    def choose_level(self, speed: LinkSpeed, processors: float, wanted: int) -> int:
        """Return the gzip level for layers sent at this speed, compressed by ``wanted`` threads that get so
        many processors. Raises StoreError."""
        if speed.rate is None:
            # on a busy machine responses from near by take long, too
            seconds = speed.response_seconds and speed.response_seconds * processors / wanted
            return first_level(seconds, processors)
        return self.links.choose_level(self.registry, speed.rate, processors)
