"""What is known of the way to one registry: fronts that limit bodies, links that break within big ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pusher.registry import chunks
from pusher.registry.session import Session

_LEAST_CARRIED: Final = 256 * 1024
"""Bytes below which a break says nothing of what the link can carry."""


@dataclass
class LinkFacts:
    """Shared by all uploads to one registry in a process; sizes in bytes."""

    profile: str | None = None
    """Name of the profile that an earlier doubt showed the registry to have."""
    max_chunk: int | None = None
    """Largest chunk that no front refused with 413."""
    carries: int | None = None
    """Largest chunk worth trying on a link that cuts connections in the middle of bigger ones."""

    def broke(self, session: Session, sent: int) -> int:
        """A chunk did not get through, the connection broke after ``sent`` bytes; the size to try next.

        It is the session's own where the registry takes no smaller chunks.
        """
        at_most = max(sent // 2, _LEAST_CARRIED)
        size = chunks.smaller(session.chunk_size, session.limits, at_most=at_most) or session.chunk_size
        self.carries = min(size, self.carries or size)
        return size

    def passed(self, size: int, seconds: float) -> None:
        """A chunk of ``size`` bytes was acknowledged after so long."""

    def got_through(self) -> None:
        """A whole blob did: dare more with the next one."""
        if self.carries is not None:
            self.carries = 2 * self.carries if 2 * self.carries < chunks.DEFAULT_CHUNK else None

    def first_size(self, wanted: int | None) -> int:
        """The chunk size to ask for when a session is opened; ``wanted`` is the user's."""
        size = wanted or chunks.DEFAULT_CHUNK
        return size if self.carries is None else min(size, self.carries)
